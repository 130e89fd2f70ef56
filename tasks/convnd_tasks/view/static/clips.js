// Clips: content and result in step, one frame at a time, slit scan, E_warp, and keyframes.

import * as api from "./api.js";
import { curveChart, onTheme } from "./charts.js";
import { Newest, attempt, byId, debounce, make } from "./dom.js";

const DRIFT = 0.05; // seconds that the two may be apart while they play

export class ClipView {
  /** @param {(name: string) => number} dim @param {{ builtIn: string[], largest: number, onPicture: (name: string) => void }} settings */
  constructor(dim, { builtIn, onPicture }) {
    this.dim = dim;
    this.builtIn = builtIn;
    this.onPicture = onPicture;
    this.content = byId("clip-content");
    this.result = byId("clip-result");
    this.keyframes = new Map();
    this.curves = null;
    this.shows = new Newest();
    byId("clip-play").addEventListener("click", () => this.#toggle());
    byId("clip-back").addEventListener("click", () => this.#toFrame(this.frame - 1));
    byId("clip-next").addEventListener("click", () => this.#toFrame(this.frame + 1));
    byId("clip-time").addEventListener("input", () => this.#toFrame(Number(byId("clip-time").value)));
    byId("clip-keep").addEventListener("click", () => attempt(() => this.#keepFrame()));
    byId("keyframe-add").addEventListener("click", () => this.#addKeyframe());
    for (const name of ["loadeddata", "seeked", "pause", "ended"]) this.content.addEventListener(name, () => this.#say());
    this.content.addEventListener("error", () => {
      if (this.content.src) byId("clip-note").textContent = "This browser does not play this kind of file; the job takes it all the same.";
    });
    this.result.addEventListener("loadeddata", () => this.#toFrame(this.frame));
    new ResizeObserver(debounce(() => this.#drawCurves(), 100)).observe(byId("warp"));
    onTheme(() => this.#drawCurves());
  }

  get frame() { return Math.min(this.frames - 1, Math.floor(this.content.currentTime * this.rate + 0.01)); }
  get frames() { return Math.max(1, Math.round((this.content.duration || 0) * this.rate)); }

  #address(name) { return this.builtIn.includes(name) ? api.withQuery("api/sample-clip", { name }) : api.file(name); }

  setInputs(name) {
    if (this.wanted !== name) {
      this.wanted = name;
      this.ready = this.#open(name);
    }
    return this.ready;
  }

  async #open(name) {
    const described = await api.get(api.withQuery("clip", { name, dim: this.dim(name) })).catch((error) => {
      if (this.wanted === name) this.wanted = null; // it can be tried again
      throw error;
    });
    if (this.wanted !== name) return; // another choice came in between
    this.name = name;
    this.rate = described.rate;
    byId("clip-note").textContent = "";
    this.keyframes.clear();
    this.#drawKeyframes();
    this.#forgetResult();
    this.content.src = this.#address(name);
    this.content.setAttribute("aria-label", `Content ${name}`);
  }

  clearResult() {
    this.shows.begin(); // one that is on its way is not shown
    this.#forgetResult();
  }

  #forgetResult() {
    this.result.removeAttribute("src");
    this.result.load();
    this.result.hidden = true;
    byId("clip-step").hidden = true;
    byId("clip-figures").hidden = byId("slit-box").hidden = true;
    this.curves = null;
  }

  /** Shows the frame that a job works on, or its result. */
  async showJob(job, ended, text) {
    const isNewest = this.shows.begin();
    await this.ready;
    if (!isNewest()) return; // something else is shown by now
    if (ended) {
      this.#showResult(`${api.file(job.output)}&mark=${job.figures.seconds}`, job.output);
      const curves = await api.get(api.withQuery("curves", { job: job.id }));
      if (!isNewest()) return;
      byId("slit").src = api.withQuery("api/slit", { job: job.id, mark: job.figures.seconds });
      byId("slit-box").hidden = false;
      this.#showCurves(curves);
      return;
    }
    const step = byId("clip-step");
    step.src = api.step(job.id, "last", job.figures.preview);
    step.alt = `${text}, frame ${job.figures.step}`;
    step.hidden = false;
    this.result.hidden = true;
    if (this.content.paused) this.#toFrame(job.figures.step - 1);
    const curves = await api.get(api.withQuery("curves", { job: job.id }));
    if (!isNewest()) return;
    curves.loss[job.figures.step - 1] ??= job.figures.loss; // of the frame that is worked on
    this.#showCurves(curves);
  }

  #showCurves(curves) {
    this.curves = curves;
    byId("clip-figures").hidden = false;
    this.#drawCurves();
  }

  /** Shows a result in the folder. */
  async showResult({ name }) {
    const isNewest = this.shows.begin();
    await this.ready;
    if (isNewest()) this.#showResult(api.file(name), name);
  }

  #showResult(address, name) {
    byId("clip-step").hidden = true;
    this.result.hidden = false;
    this.result.src = address;
    this.result.setAttribute("aria-label", `Result ${name}`);
  }

  /** Both begin and end together; the content's clock is that of both. */
  async #toggle() {
    if (!this.content.paused) {
      this.content.pause();
      this.result.pause();
      return;
    }
    if (this.content.ended) this.#toFrame(0);
    if (this.result.src) this.result.currentTime = this.content.currentTime;
    await Promise.allSettled([this.content.play(), ...(this.result.src && !this.result.hidden ? [this.result.play()] : [])]);
    const follow = () => {
      if (this.content.paused) { this.result.pause(); this.#toFrame(this.frame); return; }
      if (this.result.src && Math.abs(this.result.currentTime - this.content.currentTime) > DRIFT) {
        this.result.currentTime = this.content.currentTime;
      }
      this.#say();
      requestAnimationFrame(follow);
    };
    follow();
  }

  /** Shows one frame of both. */
  #toFrame(frame) {
    const place = Math.min(this.frames - 1, Math.max(0, frame));
    const time = (place + 0.5) / this.rate; // the middle of the frame
    this.content.currentTime = time;
    if (this.result.src) this.result.currentTime = time;
    this.#say(place);
  }

  #say(frame = this.frame) {
    const playing = !this.content.paused;
    byId("clip-play").textContent = playing ? "Pause" : "Play";
    byId("clip-time").max = this.frames - 1;
    byId("clip-time").value = frame;
    byId("clip-time").setAttribute("aria-valuetext", `frame ${frame} (0 to ${this.frames - 1})`);
    byId("clip-frame").textContent = `frame ${frame} (0 to ${this.frames - 1}), ${(frame / this.rate).toFixed(2)} s`;
  }

  #drawCurves() {
    if (!this.curves) return;
    const { e_warp: result, input_e_warp: content, loss } = this.curves;
    this.#drawCurve("warp", "E_warp", "Warping error of every frame", { content, result });
    byId("loss-box").hidden = !loss.some((value) => value != null); // one pass of a network has none
    this.#drawCurve("losses", "loss", "Loss of every frame", { loss });
  }

  /** Draws curves over the frames, and says their means. @param {Record<string, (number | null)[]>} values by label */
  #drawCurve(id, unit, title, values) {
    const place = byId(id);
    if (!place.clientWidth) return;
    const curves = Object.entries(values).map(([label, all]) => {
      const points = all.map((value, n) => [n, value]).filter(([, value]) => value != null);
      return { label, x: points.map(([n]) => n), y: points.map(([, value]) => value) };
    }).filter((curve) => curve.x.length);
    place.replaceChildren();
    if (curves.length) curveChart(place, { width: place.clientWidth, height: 180, x: "frame", y: unit }, curves);
    const mean = ({ y }) => (y.reduce((a, b) => a + b, 0) / y.length).toPrecision(3);
    const text = curves.map((curve) => `${curve.label} ${mean(curve)}`).join(", ");
    byId(`${id}-note`).textContent = text ? `Mean of ${curves[0].x.length} frame${curves[0].x.length > 1 ? "s" : ""}: ${text}` : "No frame yet.";
    place.setAttribute("aria-label", `${title}. ${byId(`${id}-note`).textContent}`);
  }

  /** Stores the frame that is shown as a picture, which can be stylised like any other. */
  async #keepFrame() {
    const { name } = await (await api.post("keep-frame", { name: this.name, frame: this.frame })).json();
    this.onPicture(name);
    byId("keyframe-note").textContent = `Kept as ${name}: it is among the contents of Pictures.`;
  }

  /** Offers pictures of the folder as keyframes. @param {string[]} names */
  offerPictures(names) {
    const select = byId("keyframe-picture"), before = select.value;
    select.replaceChildren(...names.map((name) => make("option", { value: name }, name)));
    if (names.includes(before)) select.value = before;
    byId("keyframe-add").disabled = !names.length;
  }

  #addKeyframe() {
    this.keyframes.set(this.frame, byId("keyframe-picture").value);
    this.#drawKeyframes();
  }

  #drawKeyframes() {
    byId("keyframes").replaceChildren(...[...this.keyframes].sort(([a], [b]) => a - b).map(([frame, name]) => {
      const remove = make("button", { type: "button", "aria-label": `Remove the keyframe of frame ${frame}` }, "Remove");
      remove.addEventListener("click", () => {
        this.keyframes.delete(frame);
        this.#drawKeyframes();
        byId("keyframe-add").focus();
      });
      return make("li", { className: "row" }, make("span", {}, `frame ${frame}: ${name}`), remove);
    }));
  }

  /** The keyframes as part of a job; they take the place of styles. */
  async regions() {
    return this.keyframes.size ? { keyframe: Object.fromEntries(this.keyframes), styles: [] } : {};
  }
}
