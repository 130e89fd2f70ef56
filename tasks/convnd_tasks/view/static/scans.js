// Scans: three linked planes of content, result or their difference, windows, values, and a mask.

import * as api from "./api.js";
import { attempt, byId, make } from "./dom.js";
import { Mask } from "./mask.js";
import { Plane } from "./plane.js";

const PLANES = [["axial", 0], ["coronal", 1], ["sagittal", 2]];
const SIDES = ["head", "front", "right"];
const MOST_PLANES = 120; // kept in memory

export class ScanView {
  /** @param {(name: string) => number} dim */
  constructor(dim) {
    this.dim = dim;
    this.scan = null;
    this.result = null;
    this.kept = new Map();
    this.point = [0, 0, 0];
    this.tool = "";
    this.largest = 0; // difference seen so far
    this.planes = PLANES.map(([name, axis]) => {
      const plane = new Plane(byId(`plane-${name}`), axis, {
        onMove: (point) => this.moveTo(point), isDrawing: () => this.tool !== "",
        onPaint: (where, from, to) => this.#paint(where, from, to), onLift: () => this.#sayMask(),
      });
      plane.point = () => this.point;
      byId(`slice-${name}`).addEventListener("input", (event) => {
        const point = [...this.point];
        point[axis] = Number(event.target.value);
        this.moveTo(point);
      });
      return plane;
    });
    byId("scan-window").addEventListener("change", () => { this.#setWindow(byId("scan-window").value); this.draw(); });
    for (const name of ["window-low", "window-high"]) {
      byId(name).addEventListener("change", () => { byId("scan-window").value = "custom"; this.draw(); });
    }
    for (const input of document.querySelectorAll('input[name="scan-show"]')) input.addEventListener("change", () => this.draw());
    for (const tool of ["mask-draw", "mask-erase"]) byId(tool).addEventListener("click", () => this.#choose(this.tool === tool ? "" : tool));
    byId("mask-clear").addEventListener("click", () => { this.mask?.clear(); this.#sayMask(); this.draw(); });
  }

  #query(name) { return { name, dim: this.dim(name) }; }

  setInputs(content) {
    this.ready = this.#setInputs(content);
    return this.ready;
  }

  async #setInputs(content) {
    if (this.scan?.query.name === content) return;
    const query = this.#query(content), scan = { query, ...await api.get(api.withQuery("scan", query)) };
    this.scan = scan;
    this.clearResult();
    this.mask = new Mask(scan.shape);
    this.#sayMask();
    const windows = byId("scan-window");
    windows.replaceChildren(...Object.keys(scan.windows).map((name) => make("option", { value: name }, name)),
      make("option", { value: "custom" }, "as typed"));
    this.#setWindow("auto");
    PLANES.forEach(([name, axis], number) => {
      this.planes[number].setScan(scan.shape, scan.spacing);
      byId(`slice-${name}`).max = scan.shape[axis] - 1;
    });
    this.moveTo(scan.shape.map((extent) => Math.floor(extent / 2)));
  }

  async showJob(job, ended) {
    await this.#showResult(ended ? { name: job.output, dim: 3 } : { job: job.id, mark: job.figures.preview });
    if (ended) this.#showFigures((await api.get(api.withQuery("record", { name: job.output }))).record);
  }

  async showResult({ name, record }) {
    await this.#showResult({ name, dim: 3 });
    this.#showFigures(record);
  }

  async #showResult(query) {
    await this.ready;
    if (!this.scan) return;
    const result = { query, ...await api.get(api.withQuery("scan", query)) };
    if (result.shape.join() !== this.scan.shape.join()) throw new Error("The result has another shape than the scan.");
    const isFirst = !this.result;
    for (const key of this.kept.keys()) if (key.startsWith("result")) this.kept.delete(key);
    this.result = result;
    this.largest = 0;
    byId("scan-result").disabled = byId("scan-difference").disabled = false;
    if (isFirst) byId("scan-result").checked = true;
    await this.draw();
  }

  clearResult() {
    this.result = null;
    for (const key of this.kept.keys()) this.kept.delete(key);
    byId("scan-content").checked = true;
    byId("scan-result").disabled = byId("scan-difference").disabled = true;
    byId("safety").replaceChildren();
    if (this.scan) this.draw();
  }

  /** Lists the safety figures of a result's record. */
  #showFigures(record) {
    const lines = Object.entries(record?.figures ?? {}).flatMap(([name, text]) =>
      text.split("; ").map((part) => `${name.replaceAll("_", " ")}: ${part}`));
    byId("safety").replaceChildren(...lines.map((line) => make("li", {}, line)));
    byId("safety-box").hidden = !lines.length;
  }

  #setWindow(name) {
    if (name === "custom") return;
    const [low, high] = this.scan.windows[name];
    byId("scan-window").value = name;
    byId("window-low").value = Number(low.toPrecision(5));
    byId("window-high").value = Number(high.toPrecision(5));
  }

  /** Links the planes: all go through one voxel. */
  moveTo(point) {
    this.point = point;
    PLANES.forEach(([name, axis]) => {
      const slider = byId(`slice-${name}`);
      slider.value = point[axis];
      slider.setAttribute("aria-valuetext", `${point[axis] + 1} of ${this.scan.shape[axis]} towards ${SIDES[axis]}`);
    });
    this.draw();
  }

  async #load(role, axis, index) {
    const source = role === "result" ? this.result : this.scan;
    const key = `${role}|${axis}|${index}`;
    if (!this.kept.has(key)) {
      const bytes = await api.bytes(api.withQuery("plane", { ...source.query, axis, index }));
      this.kept.set(key, new Float32Array(bytes));
      while (this.kept.size > MOST_PLANES) this.kept.delete(this.kept.keys().next().value);
    }
    return this.kept.get(key) ?? new Float32Array();
  }

  /** Draws all planes; while that goes on, only the newest of further calls counts. */
  async draw() {
    if (this.drawing) { this.again = true; return; }
    this.drawing = true;
    await attempt(() => this.#draw());
    this.drawing = false;
    if (this.again) { this.again = false; this.draw(); }
  }

  async #draw() {
    if (!this.scan) return;
    const { point } = this; // it may move while planes arrive
    const shown = document.querySelector('input[name="scan-show"]:checked').value;
    const values = await Promise.all(PLANES.map(async ([, axis]) => {
      const before = await this.#load("content", axis, point[axis]);
      const after = this.result ? await this.#load("result", axis, point[axis]) : null;
      const change = after && shown === "difference" ? after.map((value, n) => value - before[n]) : null;
      return { before, after, shown: change ?? (shown === "result" && after ? after : before) };
    }));
    const difference = shown === "difference" && this.result !== null;
    if (difference) {
      for (const { shown: change } of values) for (const value of change) this.largest = Math.max(this.largest, Math.abs(value) || 0);
    }
    const low = Number(byId("window-low").value), high = Number(byId("window-high").value);
    const look = { low, high: difference ? this.largest || 1 : Math.max(high, low + 1e-6), difference };
    this.planes.forEach((plane, number) => {
      const marked = this.mask.voxels ? (row, column) => this.mask.has(plane.toVoxel([row, column], point)) : null;
      plane.draw(values[number].shown, look, point, marked);
    });
    this.#say(values[0], point, difference);
  }

  /** Says the values of the voxel under the cross. @param {number[]} point */
  #say({ before, after }, point, difference) {
    const [row, column] = this.planes[0].toPlane(point), place = row * this.scan.shape[2] + column;
    const unit = this.scan.unit ? ` ${this.scan.unit}` : "", text = (value) => `${Number(value.toPrecision(5))}${unit}`;
    const parts = [`content ${text(before[place])}`];
    if (after) parts.push(`result ${text(after[place])}`, `difference ${text(after[place] - before[place])}`);
    const where = point.map((index, axis) => `${SIDES[axis]} ${index + 1}`).join(", ");
    const scale = difference ? ` · blue to red: −${text(this.largest)} to ${text(this.largest)}` : "";
    byId("voxel").textContent = `${parts.join(", ")} · voxel ${where}${scale}`;
  }

  #choose(tool) {
    this.tool = tool;
    for (const name of ["mask-draw", "mask-erase"]) byId(name).setAttribute("aria-pressed", String(tool === name));
    for (const { canvas } of this.planes) canvas.classList.toggle("drawing", Boolean(tool));
    if (tool) this.planes[0].canvas.focus();
  }

  #paint(plane, from, to) {
    const { spacing } = this.scan, radius = Number(byId("mask-size").value);
    const steps = Math.max(1, ...from.map((place, n) => Math.abs(to[n] - place)));
    const axis = byId("mask-ball").checked ? null : plane.axis;
    for (let n = 0; n <= steps; n += 1) {
      const centre = from.map((place, k) => Math.round(place + (to[k] - place) * n / steps));
      this.mask.paint(centre, radius, spacing, axis, this.tool === "mask-erase" ? 0 : 1);
    }
    this.moveTo(to);
  }

  #sayMask() {
    const count = this.mask?.voxels?.reduce((sum, value) => sum + value, 0) ?? 0;
    const cubic = count * (this.scan?.spacing ?? [0]).reduce((a, b) => a * b, 1) / 1000;
    byId("mask-note").textContent = count ? `${count} voxels marked${this.scan.axis_unit ? `, ${cubic.toFixed(1)} ml` : ""}` : "Nothing is marked.";
  }

  /** The marked voxels as part of a job. @param {string} style what happens in them */
  async regions(style, largest) {
    if (!style || !this.mask || this.mask.isEmpty) return {};
    const only = style === "chosen";
    const { name } = await api.upload(this.mask.file(this.scan.order, only ? 0 : 2), "marked.npy", largest);
    return only ? { mask: name } : { regions: name, region: { 1: style } };
  }
}
