// Scans: three linked planes of content, result or their difference, windows, values, and a mask.

import * as api from "./api.js";
import { Newest, byId, make, oneAtATime } from "./dom.js";
import { Mask } from "./mask.js";
import { Plane } from "./plane.js";
import { Scan3D } from "./scan_3d.js";
import { movedWindow } from "./window_drag.js";

const PLANES = [["axial", 0], ["coronal", 1], ["sagittal", 2]];
const SIDES = ["head", "front", "right"];
const DIRECTIONS = [["R", "L"], ["A", "P"], ["S", "I"]]; // of millimetres that are positive and negative
const SEEN = ["front is up, the patient's right is on the left", "head is up, the patient's right is on the left", "head is up, front is on the left"];
const MOST_PLANES = 60; // of a scan, kept in memory

/** Voxels, their sides, and how the axes lie in the patient. @param {any} scan */
function describeGeometry({ shape, spacing, axis_unit: unit, affine, tilt }) {
  const product = (numbers) => [...numbers].reverse().join(" × "); // right, front, head
  const parts = [`${product(shape)} voxels of ${product(spacing.map((side) => Number(side.toPrecision(4))))} ${unit || "(no unit)"}`];
  if (!affine) parts.push("the file does not say where the patient's sides are, so none is named");
  else if (tilt >= 0.5) parts.push(`axes are tilted by up to ${tilt}°: letters name the nearest side`);
  return parts.join("; ");
}

/** The place of a voxel in the patient, in mm from the origin of the file. @param {number[][] | null} affine @param {number[]} point */
function inPatient(affine, point) {
  if (!affine) return "";
  const places = affine.map((row, n) => {
    const place = row[3] + point.reduce((sum, index, axis) => sum + row[axis] * index, 0);
    return `${DIRECTIONS[n][place < 0 ? 1 : 0]} ${Math.abs(place).toFixed(1)}`;
  });
  return `, at ${places.join(", ")} mm`;
}

export class ScanView {
  /** @param {(name: string) => number} dim @param {boolean} hasNiivue */
  constructor(dim, hasNiivue) {
    this.dim = dim;
    this.scan = null;
    this.result = null;
    this.shows = new Newest();
    this.draw = oneAtATime(() => this.#draw());
    this.point = [0, 0, 0];
    this.frame = 0;
    this.tool = "";
    this.largest = 0; // difference seen so far
    const window = { read: () => this.#window(), write: (ends) => this.#moveWindow(ends),
      shift: (across, up) => this.#moveWindow(movedWindow(this.#window(), across, up)) };
    this.planes = PLANES.map(([name, axis]) => {
      const plane = new Plane(byId(`plane-${name}`), axis, {
        onMove: (point) => this.moveTo(point), isDrawing: () => this.tool !== "",
        onPaint: (where, from, to) => this.#paint(where, from, to), onLift: () => this.#sayMask(), window,
        onZoom: (by) => {
          const zoom = byId("scan-zoom");
          zoom.selectedIndex = Math.min(zoom.options.length - 1, Math.max(0, zoom.selectedIndex + by));
          this.#zoom();
        },
      });
      plane.point = () => this.point;
      byId(`slice-${name}`).addEventListener("input", (event) => {
        const point = [...this.point];
        point[axis] = Number(event.target.value);
        this.moveTo(point);
      });
      return plane;
    });
    this.in3D = new Scan3D(hasNiivue, {
      shown: () => this, moveTo: (point) => this.moveTo(point), isDrawing: () => this.tool !== "", window,
      onPaint: (plane, from, to) => this.#paint(plane, from, to), onLift: () => this.#sayMask(),
    });
    byId("scan-window").addEventListener("change", () => { this.#setWindow(byId("scan-window").value); this.draw(); });
    for (const name of ["window-low", "window-high"]) {
      byId(name).addEventListener("change", () => { byId("scan-window").value = "custom"; this.draw(); });
    }
    byId("scan-zoom").addEventListener("change", () => this.#zoom());
    byId("scan-frame").addEventListener("input", () => { this.frame = Number(byId("scan-frame").value); this.#sayFrame(); this.draw(); });
    for (const input of document.querySelectorAll('input[name="scan-show"]')) input.addEventListener("change", () => this.draw());
    for (const tool of ["mask-draw", "mask-erase"]) byId(tool).addEventListener("click", () => this.#choose(this.tool === tool ? "" : tool));
    byId("mask-clear").addEventListener("click", () => { this.mask?.clear(); this.#sayMask(); this.draw(); });
  }

  async #describe(query) { return { query, planes: new Map(), ...await api.get(api.withQuery("scan", query)) }; }

  setInputs(content) {
    if (this.wanted !== content) {
      this.wanted = content;
      this.ready = this.#open(content);
    }
    return this.ready;
  }

  async #open(content) {
    const scan = await this.#describe({ name: content, dim: this.dim(content) }).catch((error) => {
      if (this.wanted === content) this.wanted = null; // it can be tried again
      throw error;
    });
    if (this.wanted !== content) return; // another choice came in between
    this.scan = scan;
    this.mask = new Mask(scan.shape);
    this.#sayMask();
    const windows = byId("scan-window");
    windows.replaceChildren(...Object.keys(scan.windows).map((name) => make("option", { value: name }, name)),
      make("option", { value: "custom" }, "as typed"));
    this.#setWindow("auto");
    PLANES.forEach(([name, axis], number) => {
      this.planes[number].setScan(scan);
      byId(`slice-${name}`).max = scan.shape[axis] - 1;
      const seen = scan.affine ? SEEN[axis] : "the file does not say where the patient's sides are";
      byId(`plane-${name}`).setAttribute("aria-label", `${name} plane: ${seen}. Arrow keys move the cross, page keys change the plane, plus and minus zoom; arrow keys with Shift change the window.`);
    });
    byId("scan-zoom").value = "1";
    this.frame = 0;
    byId("scan-frame").max = scan.frames - 1;
    byId("frame-box").hidden = scan.frames < 2;
    this.#sayFrame();
    byId("scan-note").textContent = describeGeometry(scan);
    byId("voxel").textContent = "";
    this.#forgetResult();
    this.moveTo(scan.shape.map((extent) => Math.floor(extent / 2)));
  }

  showJob(job, ended) {
    const query = ended ? { name: job.output, dim: 3 } : { job: job.id, mark: job.figures.preview };
    const readRecord = async () => ended && (await api.get(api.withQuery("record", { name: job.output }))).record;
    return this.#showResult(query, readRecord);
  }

  showResult({ name, record }) { return this.#showResult({ name, dim: 3 }, async () => record); }

  /** Shows a result and the figures of its record. @param {any} query @param {() => Promise<any>} readRecord */
  async #showResult(query, readRecord) {
    const isNewest = this.shows.begin();
    await this.ready;
    const { scan } = this, result = await this.#describe(query), record = await readRecord();
    if (!isNewest() || !scan || scan !== this.scan) return; // something else is shown by now
    if (result.shape.join() !== scan.shape.join() || result.frames !== scan.frames) throw new Error("The result has another shape than the scan.");
    const isFirst = !this.result;
    this.result = result;
    this.largest = 0;
    byId("scan-result").disabled = byId("scan-difference").disabled = false;
    if (isFirst) byId("scan-result").checked = true;
    this.#showFigures(record);
    await this.draw();
  }

  clearResult() {
    this.shows.begin(); // one that is on its way is not shown
    this.#forgetResult();
    if (this.scan) this.draw();
  }

  #forgetResult() {
    this.result = null;
    byId("scan-content").checked = true;
    byId("scan-result").disabled = byId("scan-difference").disabled = true;
    this.#showFigures(null);
  }

  /** Lists the safety figures of a result's record. */
  #showFigures(record) {
    const lines = Object.entries(record?.figures ?? {}).flatMap(([name, text]) =>
      text.split("; ").map((part) => `${name.replaceAll("_", " ")}: ${part}`));
    byId("safety").replaceChildren(...lines.map((line) => make("li", {}, line)));
    byId("safety-box").hidden = !lines.length;
  }

  #zoom() {
    for (const plane of this.planes) if (plane.shape) plane.setZoom(Number(byId("scan-zoom").value));
    this.draw();
  }

  #sayFrame() {
    byId("scan-frame").value = this.frame;
    const text = `${this.frame + 1} of ${this.scan?.frames ?? 1}`;
    byId("scan-frame-value").textContent = text;
    byId("scan-frame").setAttribute("aria-valuetext", text);
  }

  #setWindow(name) {
    if (name === "custom") return;
    const [low, high] = this.scan.windows[name];
    this.#typeWindow(name, low, high);
  }

  #typeWindow(name, low, high) {
    byId("scan-window").value = name;
    const digits = Math.max(0, Math.min(15, 3 - Math.floor(Math.log10(Math.max(high - low, 1e-12))))); // a thousandth of the width
    byId("window-low").value = Number(low.toFixed(digits));
    byId("window-high").value = Number(high.toFixed(digits));
  }

  /** The lowest and highest value that are not black or white. */
  #window() {
    const low = Number(byId("window-low").value), high = Number(byId("window-high").value);
    return { low, high: Math.max(high, low + 1e-6) };
  }

  #moveWindow({ low, high }) {
    this.#typeWindow("custom", low, high);
    this.draw();
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

  /** The values of a plane. @param {any} source the scan or its result */
  async #load(source, axis, index, frame) {
    const { planes, query } = source, key = `${axis}|${index}|${frame}`;
    if (!planes.has(key)) {
      planes.set(key, new Float32Array(await api.bytes(api.withQuery("plane", { ...query, axis, index, frame }))));
      if (planes.size > MOST_PLANES) planes.delete(planes.keys().next().value);
    }
    return planes.get(key);
  }

  async #draw() {
    const { scan, result, point, frame } = this; // they may change while planes arrive
    if (!scan) return;
    const shown = document.querySelector('input[name="scan-show"]:checked').value;
    const values = await Promise.all(PLANES.map(async ([, axis]) => {
      const before = await this.#load(scan, axis, point[axis], frame);
      const after = result ? await this.#load(result, axis, point[axis], frame) : null;
      const change = after && shown === "difference" ? after.map((value, n) => value - before[n]) : null;
      return { before, after, shown: change ?? (shown === "result" && after ? after : before) };
    }));
    if (scan !== this.scan || result !== this.result) return; // drawn again at once
    const difference = shown === "difference" && result !== null;
    if (difference) {
      for (const { shown: change } of values) for (const value of change) this.largest = Math.max(this.largest, Math.abs(value) || 0);
    }
    const { low, high } = this.#window(), look = { low, high: difference ? this.largest || 1 : high, difference };
    this.planes.forEach((plane, number) => {
      const marked = this.mask.voxels ? (row, column) => this.mask.has(plane.toVoxel([row, column], point)) : null;
      plane.draw(values[number].shown, look, point, marked);
    });
    this.#say(values[0], point, difference);
    this.in3D.update();
  }

  /** Says the values of the voxel under the cross. @param {number[]} point */
  #say({ before, after }, point, difference) {
    const [row, column] = this.planes[0].toPlane(point), place = row * this.scan.shape[2] + column;
    const unit = this.scan.unit ? ` ${this.scan.unit}` : "", text = (value) => `${Number(value.toPrecision(5))}${unit}`;
    const parts = [`content ${text(before[place])}`];
    if (after) parts.push(`result ${text(after[place])}`, `difference ${text(after[place] - before[place])}`);
    const where = point.map((index, axis) => `${SIDES[axis]} ${index + 1}`).join(", ") + inPatient(this.scan.affine, point);
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
