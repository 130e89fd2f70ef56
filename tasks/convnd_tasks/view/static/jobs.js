// The jobs: a list, and the one that is shown with its figures and kept steps.

import * as api from "./api.js";
import { attempt, byId, duration, inBackground, make, setText } from "./dom.js";

const NAMES = { queued: "waiting", running: "running", stopping: "stopping", stopped: "stopped, kept", done: "done", failed: "failed" };
const STEPS = { units: "input", videos: "frame" }; // what a job counts
const LARGEST = 4096; // pixels that a picture is finished at
const ACTIVE = ["queued", "running", "stopping"];

export const isActive = (job) => ACTIVE.includes(job.state);

export class JobList {
  /**
   * @param {(kind: string) => any} viewOf the view of a kind of data @param {boolean} readOnly
   * @param {{ onFinish: () => void, onLarger: (job: any) => void, onSelect: (job: any) => void }} calls
   */
  constructor(viewOf, readOnly, { onFinish, onLarger, onSelect }) {
    this.viewOf = viewOf;
    this.onSelect = onSelect;
    this.readOnly = readOnly;
    this.onFinish = onFinish;
    this.onLarger = onLarger;
    this.jobs = [];
    this.shown = null; // id of the job on the stage
    this.drawn = ""; // what the stage shows of it
    this.ended = null; // what had ended at the last update
    byId("stop").addEventListener("click", () => this.#ask("stop"));
    byId("continue").addEventListener("click", () => this.#ask("continue"));
    byId("larger").addEventListener("click", () => this.onLarger(this.current));
  }

  get current() { return this.jobs.find((job) => job.id === this.shown) ?? null; }

  #ask(path, more = {}, id = this.shown) { return attempt(() => api.post(path, { job: id, ...more })); }

  /** Says whether dials have moved that the shown job could go on with. */
  offerChanges(offered) {
    this.offered = offered;
    if (this.current) this.#drawJob(this.current);
  }

  /** Shows a job on the stage; null shows none. */
  select(id) {
    this.shown = id;
    this.offered = false;
    this.drawn = "";
    this.isNew = true;
    this.update(this.jobs);
  }

  /** Takes the jobs as the server tells them. */
  update(jobs) {
    this.jobs = jobs;
    const ended = jobs.filter((job) => !isActive(job)).map(({ id, output, state }) => `${id}:${output}:${state}`).join();
    if (this.ended !== null && this.ended !== ended) this.onFinish();
    this.ended = ended;
    if (this.isNew && this.current) { // a job that was just started may come later than it is selected
      this.isNew = false;
      this.onSelect(this.current);
    }
    this.#drawList();
    byId("job").hidden = !this.current;
    byId("frame").classList.toggle("job", Boolean(this.current)); // its result is not painted over
    if (this.current) this.#drawJob(this.current);
  }

  /** Lists all jobs. Rows stay while only their texts change, so that no button moves away below the mouse. */
  #drawList() {
    const queue = byId("queue"), texts = this.#texts();
    const signature = JSON.stringify(this.jobs.map((job) => [job.id, job.state, job.output, job.id === this.shown]));
    if (signature !== this.signature) {
      this.signature = signature;
      const focus = document.activeElement?.dataset?.key;
      queue.replaceChildren(...this.jobs.map((job) => this.#row(job)));
      if (!this.jobs.length) queue.append(make("li", {}, "No job yet."));
      if (focus) queue.querySelector(`[data-key="${focus}"]`)?.focus();
    }
    queue.querySelectorAll(".name").forEach((name, number) => setText(name, texts[number]));
  }

  /** Name, state and time left of every job, the newest first. */
  #texts() {
    let ahead = 0;
    const texts = [...this.jobs].reverse().map((job) => {
      let state = NAMES[job.state];
      if (job.state === "running" && job.figures.left != null) state += `, ${duration(job.figures.left)} left`;
      if (job.state === "queued" && ahead) state += `, after ${ahead} other${ahead > 1 ? "s" : ""}`;
      if (isActive(job)) ahead += 1;
      return `${job.output || "the command"} – ${state}`;
    });
    return texts.reverse();
  }

  #row(job) {
    const row = make("li", {}, make("span", { className: "name" }));
    if (job.id === this.shown) row.setAttribute("aria-current", "true");
    const add = (label, action) => {
      const button = make("button", { type: "button", "aria-label": `${label} ${job.output}` }, label);
      button.dataset.key = `${label}${job.id}`;
      button.addEventListener("click", action);
      row.append(button);
    };
    add("Show", () => this.select(job.id));
    if (this.readOnly) return row;
    if (isActive(job)) add("Stop", () => this.#ask("stop", {}, job.id));
    else add("Remove", () => this.#ask("remove", {}, job.id));
    return row;
  }

  #drawJob(job) {
    const { figures } = job, active = isActive(job);
    byId("progress").value = figures.fraction ?? 0;
    const parts = [];
    if (figures.step != null && figures.steps) parts.push(`${(active || job.kind === "units") && STEPS[job.kind] || "step"} ${figures.step} of ${figures.steps}`);
    if (figures.size) parts.push(figures.size.join(" × "));
    if (figures.loss != null) parts.push(`loss ${figures.loss.toPrecision(4)}`);
    if (figures.left != null && active) parts.push(`${duration(figures.left)} left`);
    if (figures.seconds != null && !active) parts.push(`${figures.seconds.toFixed(1)} s`);
    setText(byId("figures"), parts.join(" · "));
    setText(byId("status"), job.error ? `${NAMES[job.state]}: ${job.error}` : NAMES[job.state]);
    byId("stop").hidden = !active || this.readOnly;
    byId("continue").hidden = active || job.state === "done" || this.readOnly;
    byId("apply").hidden = active || !this.offered || !(figures.kept ?? []).length || this.readOnly;
    byId("larger").hidden = job.state !== "done" || Math.max(...(figures.size ?? [0])) >= LARGEST || this.readOnly || !["", "pictures"].includes(job.kind);
    setText(byId("command"), job.command);
    const lines = [...job.messages, ...(figures.changes ?? []).map((change) => `changed after step ${change.replace(":", ": ")}`)];
    setText(byId("note"), lines.at(-1) ?? "");
    if (this.lines !== lines.join("\n")) {
      this.lines = lines.join("\n");
      byId("messages").replaceChildren(...lines.map((line) => make("li", {}, line)));
    }
    const ended = job.state === "done" || (job.state === "stopped" && figures.seconds != null);
    byId("download").hidden = !ended;
    if (ended) {
      const file = job.kind === "units" ? `${job.output}/patches.csv` : job.output; // a search is a folder
      byId("download").href = `${api.file(file)}&download=1`;
      byId("download").download = file.split("/").pop();
    }
    this.#drawHistory(job, active);
    this.#drawPicture(job, ended);
  }

  #drawPicture(job, ended) {
    const mark = ended ? `${job.output}${job.state}${job.figures.seconds}` : `${job.id}-${job.figures.preview ?? 0}`;
    if (mark === this.drawn || (!ended && !job.figures.preview)) return; // nothing new
    this.drawn = mark;
    inBackground(() => this.viewOf(job.kind).showJob(job, ended, `${job.output}, ${NAMES[job.state]}`));
  }

  #drawHistory(job, active) {
    const { kept = [], pictured = [] } = job.figures, place = byId("history");
    const signature = `${job.id}:${kept.join()}:${pictured.join()}:${active}`;
    if (place.dataset.signature === signature) return;
    place.dataset.signature = signature;
    place.replaceChildren(...kept.map((number) => {
      const button = make("button", { type: "button", disabled: active || this.readOnly, title: "Undo to this step, and go on from it" },
        ...(pictured.includes(number) ? [make("img", { src: api.step(job.id, number), alt: "" })] : []), `step ${number}`);
      button.addEventListener("click", () => this.#ask("continue", { step: number }));
      return button;
    }));
  }
}
