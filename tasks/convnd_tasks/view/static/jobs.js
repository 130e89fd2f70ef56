// The jobs: a list, and the one that is shown with its figures and kept steps.

import * as api from "./api.js";
import { attempt, byId, duration, make } from "./dom.js";

const NAMES = { queued: "waiting", running: "running", stopping: "stopping", stopped: "stopped, kept", done: "done", failed: "failed" };
const STEPS = { units: "input", videos: "frame" }; // what a job counts
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
    if (this.current) this.onSelect(this.current);
    this.update(this.jobs);
  }

  /** Takes the jobs as the server tells them. */
  update(jobs) {
    const active = new Set(this.jobs.filter(isActive).map((job) => job.id));
    this.jobs = jobs;
    if (jobs.some((job) => active.has(job.id) && !isActive(job))) this.onFinish();
    this.#drawList();
    byId("job").hidden = !this.current;
    byId("frame").classList.toggle("job", Boolean(this.current)); // its result is not painted over
    if (this.current) this.#drawJob(this.current);
  }

  #drawList() {
    const signature = JSON.stringify(this.jobs.map((job) => [job.id, job.state, job.output, Math.round(job.figures.left ?? -1), job.id === this.shown]));
    if (signature === this.signature) return; // buttons keep the focus
    this.signature = signature;
    const queue = byId("queue"), focus = document.activeElement?.dataset?.key;
    let ahead = 0;
    const rows = [...this.jobs].reverse().map((job) => {
      let state = NAMES[job.state];
      if (job.state === "running" && job.figures.left != null) state += `, ${duration(job.figures.left)} left`;
      if (job.state === "queued" && ahead) state += `, after ${ahead} other${ahead > 1 ? "s" : ""}`;
      if (isActive(job)) ahead += 1;
      const row = make("li", {}, make("span", { className: "name" }, `${job.output} – ${state}`));
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
    });
    queue.replaceChildren(...rows.reverse());
    if (!rows.length) queue.append(make("li", {}, "No job yet."));
    if (focus) queue.querySelector(`[data-key="${focus}"]`)?.focus();
  }

  #drawJob(job) {
    const { figures } = job, active = isActive(job);
    byId("progress").value = figures.fraction ?? 0;
    const parts = [];
    if (figures.step != null) parts.push(`${(active || job.kind === "units") && STEPS[job.kind] || "step"} ${figures.step} of ${figures.steps}`);
    if (figures.size) parts.push(figures.size.join(" × "));
    if (figures.loss != null) parts.push(`loss ${figures.loss.toPrecision(4)}`);
    if (figures.left != null && active) parts.push(`${duration(figures.left)} left`);
    if (figures.seconds != null && !active) parts.push(`${figures.seconds.toFixed(1)} s`);
    byId("figures").textContent = parts.join(" · ");
    const status = job.error ? `${NAMES[job.state]}: ${job.error}` : NAMES[job.state];
    if (byId("status").textContent !== status) byId("status").textContent = status; // read aloud once
    byId("stop").hidden = !active || this.readOnly;
    byId("continue").hidden = active || job.state === "done" || this.readOnly;
    byId("apply").hidden = active || !this.offered || !(figures.kept ?? []).length || this.readOnly;
    byId("larger").hidden = job.state !== "done" || this.readOnly || !["", "pictures"].includes(job.kind);
    byId("command").textContent = job.command;
    const lines = [...job.messages, ...(figures.changes ?? []).map((change) => `changed after step ${change.replace(":", ": ")}`)];
    byId("messages").replaceChildren(...lines.map((line) => make("li", {}, line)));
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
    attempt(() => this.viewOf(job.kind).showJob(job, ended, `${job.output}, ${NAMES[job.state]}`));
  }

  #drawHistory(job, active) {
    const kept = job.figures.kept ?? [], place = byId("history");
    const signature = `${job.id}:${kept.join()}:${active}:${Boolean(job.figures.preview)}`;
    if (place.dataset.signature === signature) return;
    place.dataset.signature = signature;
    place.replaceChildren(...kept.map((number) => {
      const button = make("button", { type: "button", disabled: active || this.readOnly, title: "Undo to this step, and go on from it" },
        ...(job.figures.preview ? [make("img", { src: api.step(job.id, number), alt: "" })] : []), `step ${number}`);
      button.addEventListener("click", () => this.#ask("continue", { step: number }));
      return button;
    }));
  }
}
