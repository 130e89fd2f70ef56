// The picture: before and after, a loupe, and the brush for a region.

import * as api from "./api.js";
import { Newest, byId } from "./dom.js";

const SHOWN = /\.(png|jpe?g|webp|avif|gif)$/i; // what a browser draws by itself

const LENS = 192;

/** A place for a picture, which appears when it is complete, so that nothing flickers. */
class PicturePlace {
  #calls = new Newest();

  /** @param {string} id */
  constructor(id) { this.element = byId(id); }

  /** Shows a picture; of several that are asked for, the newest. Returns whether it did. */
  async show(address, text) {
    const isNewest = this.#calls.begin(), picture = new Image();
    picture.src = address;
    try { await picture.decode(); } catch { return false; }
    if (!isNewest()) return false;
    picture.id = this.element.id;
    picture.alt = text;
    this.element.replaceWith(picture);
    this.element = picture;
    return true;
  }

  /** Shows nothing. */
  clear() {
    this.#calls.begin();
    this.element.removeAttribute("src");
    this.element.alt = "";
  }

  get width() { return this.element.naturalWidth; }
}

export class PictureView {
  /** @param {(name: string) => number} dim */
  constructor(dim) {
    this.dim = dim;
    this.before = new PicturePlace("before");
    this.after = new PicturePlace("after");
    this.#listenToWipe();
    this.#listenToLoupe();
    this.brush = new Brush();
  }

  /** Shows a content. */
  async setInputs(content) {
    byId("empty").hidden = true;
    if (content !== this.content) this.before.clear(); // no other content stands beside a result
    this.content = content;
    const isShown = await this.before.show(api.thumbnail(content, 1024, this.dim(content)), `Content ${content}`);
    if (isShown) this.brush.fit(content, this.before.element);
  }

  /** Shows the last step of a job, or its result. */
  showJob(job, ended, text) {
    const shows = ended && SHOWN.test(job.output);
    const address = shows ? `${api.file(job.output)}&mark=${job.figures.seconds}` : api.step(job.id, "last", job.figures.preview);
    return this.showAfter(address, text);
  }

  /** Shows a result in the folder. */
  showResult({ name }) { return this.showAfter(api.thumbnail(name, 1024), `Result ${name}`); }

  clearResult() { this.after.clear(); }

  /** The painted region as part of a job. @param {string} style what happens in it */
  async regions(style, largest) {
    const map = style ? await this.brush.map() : null;
    if (!map) return {};
    const { name } = await api.upload(map, "region.png", largest);
    return { regions: name, region: { red: style } };
  }

  /** @param {string} address @param {string} text */
  showAfter(address, text) {
    byId("empty").hidden = true;
    return this.after.show(address, text);
  }

  #listenToWipe() {
    const wipe = byId("wipe");
    const set = () => {
      byId("frame").style.setProperty("--wipe", `${wipe.value}%`);
      wipe.setAttribute("aria-valuetext", `${wipe.value} % before, ${100 - wipe.value} % after`);
    };
    wipe.addEventListener("input", set);
    set();
  }

  #listenToLoupe() {
    const button = byId("loupe"), frame = byId("frame"), lens = byId("lens");
    let place = { x: 0.5, y: 0.5 };
    const draw = () => {
      const picture = (this.after.width ? this.after : this.before).element;
      if (!picture.naturalWidth) return;
      const box = shownBox(picture), outer = frame.getBoundingClientRect();
      const x = box.left + place.x * box.width, y = box.top + place.y * box.height;
      lens.style.left = `${x - outer.left - LENS / 2}px`;
      lens.style.top = `${y - outer.top - LENS / 2}px`;
      lens.style.backgroundImage = `url("${picture.src}")`;
      lens.style.backgroundPosition =
        `${LENS / 2 - place.x * picture.naturalWidth}px ${LENS / 2 - place.y * picture.naturalHeight}px`;
    };
    const move = (x, y) => {
      place = { x: Math.min(1, Math.max(0, x)), y: Math.min(1, Math.max(0, y)) };
      draw();
    };
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(on));
      lens.hidden = !on;
      draw();
    });
    button.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-0.02, 0], ArrowRight: [0.02, 0], ArrowUp: [0, -0.02], ArrowDown: [0, 0.02] }[event.key];
      if (!step || lens.hidden) return;
      event.preventDefault();
      move(place.x + step[0], place.y + step[1]);
    });
    frame.addEventListener("pointermove", (event) => {
      if (lens.hidden) return;
      const box = shownBox((this.before.width ? this.before : this.after).element);
      move((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
    });
  }
}

/** The place of a picture inside of its element, which keeps its proportions. */
function shownBox(picture) {
  const box = picture.getBoundingClientRect();
  const ratio = (picture.naturalWidth || picture.width) / (picture.naturalHeight || picture.height || 1) || 1;
  const width = Math.min(box.width, box.height * ratio), height = width / ratio;
  return { left: box.left + (box.width - width) / 2, top: box.top + (box.height - height) / 2, width, height };
}

/** Draws a region on a canvas with the content's proportions. */
class Brush {
  constructor() {
    this.canvas = byId("paint");
    this.context = this.canvas.getContext("2d");
    this.tool = "";
    this.used = false;
    this.cursor = { x: 0, y: 0 };
    this.onChange = () => {};
    for (const tool of ["draw", "erase"]) {
      byId(tool).addEventListener("click", () => this.#choose(this.tool === tool ? "" : tool));
    }
    byId("clear").addEventListener("click", () => { this.clear(); this.onChange(); });
    byId("brush-size").addEventListener("input", () => {
      byId("brush-size-value").textContent = byId("brush-size").value;
    });
    let last = null;
    this.canvas.addEventListener("pointerdown", (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      last = this.#place(event);
      this.#stroke(last, last);
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (!last) return;
      const here = this.#place(event);
      this.#stroke(last, here);
      last = here;
    });
    this.canvas.addEventListener("pointerup", () => { last = null; this.onChange(); });
    this.canvas.addEventListener("keydown", (event) => this.#onKey(event));
  }

  #choose(tool) {
    this.tool = tool;
    byId("frame").classList.toggle("drawing", Boolean(tool));
    this.canvas.tabIndex = tool ? 0 : -1;
    for (const name of ["draw", "erase"]) byId(name).setAttribute("aria-pressed", String(tool === name));
    if (tool) this.canvas.focus();
  }

  /** Gives the canvas the content's proportions; another content has no region yet. */
  fit(content, { naturalWidth: width, naturalHeight: height }) {
    if (content === this.content) return;
    this.content = content;
    this.canvas.width = width;
    this.canvas.height = height;
    this.used = false;
    this.cursor = { x: width / 2, y: height / 2 };
  }

  clear() {
    this.context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.used = false;
  }

  #place(event) {
    const box = this.canvas.getBoundingClientRect();
    const ratio = this.canvas.width / this.canvas.height;
    const width = Math.min(box.width, box.height * ratio), height = width / ratio;
    const left = box.left + (box.width - width) / 2, top = box.top + (box.height - height) / 2;
    return { x: (event.clientX - left) / width * this.canvas.width, y: (event.clientY - top) / height * this.canvas.height };
  }

  #onKey(event) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === " ") { this.#stroke(this.cursor, this.cursor); this.onChange(); }
    else if (event.key === "Escape") this.#choose("");
    else if (step) {
      const distance = this.#radius();
      this.cursor = { x: this.cursor.x + step[0] * distance, y: this.cursor.y + step[1] * distance };
    } else return;
    event.preventDefault();
  }

  #radius() { return Number(byId("brush-size").value) / 2 * this.canvas.width / (this.canvas.clientWidth || 1); }

  #stroke(from, to) {
    const { context } = this;
    context.globalCompositeOperation = this.tool === "erase" ? "destination-out" : "source-over";
    context.strokeStyle = context.fillStyle = "#ff0000";
    context.lineWidth = this.#radius() * 2;
    context.lineCap = "round";
    context.beginPath();
    context.moveTo(from.x, from.y);
    context.lineTo(to.x + 0.01, to.y);
    context.stroke();
    this.used = true;
  }

  /** The map as a picture: red is the region, black the rest; null where nothing is drawn. */
  async map() {
    if (!this.used) return null;
    const copy = document.createElement("canvas");
    copy.width = this.canvas.width;
    copy.height = this.canvas.height;
    const context = copy.getContext("2d");
    context.fillStyle = "#000000";
    context.fillRect(0, 0, copy.width, copy.height);
    context.drawImage(this.canvas, 0, 0);
    return new Promise((resolve) => copy.toBlob(resolve, "image/png"));
  }
}
