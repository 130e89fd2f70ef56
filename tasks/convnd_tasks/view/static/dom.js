// Small helpers for elements. Texts are set as texts: names of files never become markup.

/** @param {string} id @returns {any} */
export const byId = (id) => document.getElementById(id);

/** @param {string} tag @param {Record<string, any>} properties @param {...(Node|string)} children */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("aria-") || name === "role" || name === "for") element.setAttribute(name, String(value));
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

/** Sets a text that differs: what is read aloud, or selected to be copied, stays. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Waits until calls stop for some milliseconds, and then calls once. */
export function debounce(work, milliseconds) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...values), milliseconds);
  };
}

/** Tells whether a call is still the newest of its kind: answers may arrive in another order than they were asked for. */
export class Newest {
  #count = 0;

  /** Begins a call; the function that is returned says whether no other has begun since. */
  begin() {
    const number = this.#count += 1;
    return () => number === this.#count;
  }
}

/** Seconds as text: "1:15". */
export function duration(seconds) {
  const whole = Math.round(seconds), hours = Math.floor(whole / 3600);
  const two = (number) => String(number).padStart(2, "0");
  const minutes = Math.floor(whole / 60) % 60;
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

/** Shows an error; an empty text hides it. @param {string} text */
export function alertUser(text) {
  byId("alert").textContent = text;
  byId("alert").hidden = !text;
}

/** Runs work that nobody has asked for just now, and shows its error. */
export async function inBackground(work) {
  try {
    return await work();
  } catch (error) {
    if (error.name !== "AbortError") alertUser(error.message);
    return undefined;
  }
}

/** Runs what a user asked for: an earlier error is history. */
export function attempt(work) {
  alertUser("");
  return inBackground(work);
}

/** Work that runs once at a time: a call while it runs makes it run once more, after which both calls end. */
export function oneAtATime(work) {
  let running = null, again = false;
  const run = async () => {
    do {
      again = false;
      await inBackground(work);
    } while (again);
    running = null;
  };
  return () => {
    if (running) again = true;
    else running = run();
    return running;
  };
}

const AT_ONCE = 2; // pictures: a browser keeps six connections to a server, and what a user asks for needs one
const waiting = []; // pictures in sight
let loading = 0;
const sight = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    sight.unobserve(target);
    waiting.push(target);
  }
  loadNext();
});

function loadNext() {
  while (loading < AT_ONCE && waiting.length) {
    const picture = waiting.shift();
    if (!picture.isConnected) continue;
    const end = () => { loading -= 1; loadNext(); };
    loading += 1;
    picture.addEventListener("load", end, { once: true });
    picture.addEventListener("error", end, { once: true });
    picture.src = picture.dataset.address;
  }
}

/** A small picture, which is loaded when it comes into sight and few others are on their way. */
export function smallPicture(address, alt) {
  const picture = make("img", { alt });
  picture.dataset.address = address;
  sight.observe(picture);
  return picture;
}
