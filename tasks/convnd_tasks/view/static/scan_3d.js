// Scans in three dimensions: content, result and difference beside each other, drawn by NiiVue, with one cross.

import * as api from "./api.js";
import { byId, oneAtATime } from "./dom.js";
import { NiivueView } from "./niivue.js";
import { dragWindow, windowKey } from "./window_drag.js";

const MOST_VOXELS = 2 ** 24; // of a scan that is shown whole
const SLAB = 2 ** 22; // voxels of a request
const NAMES = ["content", "result", "difference"];
const LEAST_CHANGE = 0.1; // of the largest: smaller ones are not coloured
const TURN = 15; // degrees
const KEYS = { ArrowUp: [1, 1], ArrowDown: [1, -1], ArrowLeft: [2, 1], ArrowRight: [2, -1], PageUp: [0, 1], PageDown: [0, -1] };
const TURNS = { a: [-1, 0], d: [1, 0], w: [0, 1], s: [0, -1] };

/** Each so-many-th voxel is taken, so that a large scan fits. @param {number[]} shape */
export function stepOf(shape) {
  let step = 1;
  while (shape.reduce((product, extent) => product * Math.ceil(extent / step), 1) > MOST_VOXELS) step += 1;
  return step;
}

/** The grid of each so-many-th voxel. */
function thinned({ shape, spacing, affine }, step) {
  return {
    step, shape: shape.map((extent) => Math.ceil(extent / step)), spacing: spacing.map((side) => side * step),
    affine: affine?.map((row) => row.map((value, n) => (n < 3 ? value * step : value))) ?? null,
  };
}

/** Voxels of a mask on the grid of each so-many-th voxel. */
function thinnedMask({ shape, voxels }, grid) {
  if (grid.step === 1) return voxels;
  const [depth, height, width] = grid.shape, values = new Uint8Array(depth * height * width);
  let n = 0;
  for (let d = 0; d < depth; d += 1) {
    for (let h = 0; h < height; h += 1) {
      for (let w = 0; w < width; w += 1, n += 1) values[n] = voxels[((d * shape[1] + h) * shape[2] + w) * grid.step];
    }
  }
  return values;
}

/** Whether the browser can draw it. */
const hasWebGL2 = () => Boolean(document.createElement("canvas").getContext("webgl2"));

export class Scan3D {
  /**
   * @param {boolean} isInstalled whether the server has NiiVue
   * @param {{ shown: () => any, moveTo: (point: number[]) => void, isDrawing: () => boolean, onLift: () => void,
   *   onPaint: (plane: { axis: number }, from: number[], to: number[]) => void, window: any }} page
   */
  constructor(isInstalled, page) {
    this.page = page;
    this.dialog = byId("scan-3d");
    this.views = {};
    this.angles = [110, 10]; // azimuth and elevation, in degrees
    this.update = oneAtATime(() => this.#update());
    byId("open-3d").hidden = !isInstalled;
    byId("no-3d").hidden = isInstalled;
    byId("open-3d").addEventListener("click", () => this.#open());
    byId("close-3d").addEventListener("click", () => this.dialog.close());
    this.dialog.addEventListener("close", () => this.#close());
    for (const name of NAMES) this.#listen(name);
  }

  #listen(name) {
    const place = byId(`view-3d-${name}`);
    dragWindow(place, this.page.window);
    place.addEventListener("pointerdown", () => { this.last = null; });
    place.addEventListener("pointerup", () => this.page.onLift());
    place.addEventListener("keydown", (event) => this.#onKey(event), { capture: true });
  }

  #open() {
    if (!hasWebGL2()) {
      byId("no-3d").hidden = false;
      byId("no-3d").textContent = "This browser has no WebGL 2, which NiiVue needs. The planes below need none.";
      return;
    }
    const parts = [...document.querySelectorAll(".also-3d")].filter((part) => !part.closest("[hidden]")); // nothing is marked where files are only shown
    this.homes = parts.reverse().map((part) => {
      const home = document.createComment("");
      part.before(home);
      byId("tools-3d").append(part);
      return { part, home };
    });
    this.dialog.showModal();
    this.update();
  }

  #close() {
    for (const { part, home } of this.homes) home.replaceWith(part);
    byId("open-3d").focus();
  }

  /** The voxels of a scan or its result. */
  async #load(source, frame, grid) {
    const key = `${frame}|${grid.step}`;
    if (source.voxels?.key !== key) {
      const [depth, height, width] = grid.shape, values = new Float32Array(depth * height * width);
      const most = Math.max(1, Math.floor(SLAB / (height * width)));
      for (let first = 0; first < depth; first += most) {
        const count = Math.min(most, depth - first);
        const query = { ...source.query, frame, step: grid.step, first, count };
        values.set(new Float32Array(await api.bytes(api.withQuery("slab", query))), first * height * width);
      }
      source.voxels = { key, values };
    }
    return source.voxels.values;
  }

  /** Shows what the planes show. */
  async #update() {
    const { scan, result, frame } = this.page.shown();
    if (!this.dialog.open) return;
    if (scan !== this.scan) byId("note-3d").textContent = "Loading …";
    if (!scan) return; // it comes
    if (scan !== this.scan) {
      this.scan = scan;
      this.grid = thinned(scan, stepOf(scan.shape));
    }
    const { grid } = this;
    const before = await this.#load(scan, frame, grid), after = result ? await this.#load(result, frame, grid) : null;
    for (const name of NAMES.slice(1)) byId(`box-3d-${name}`).hidden = !after;
    if (after && (this.difference?.before !== before || this.difference.after !== after)) this.difference = { before, after, ...differ(before, after) };
    for (const name of after ? NAMES : NAMES.slice(0, 1)) {
      this.views[name] ??= await NiivueView.open(byId(`view-3d-${name}`), this.#label(name), (event, data) => this.#onEvent(name, event, data));
      this.views[name].show(grid, this.#layers(name, before, after));
    }
    this.#follow();
    const cube = Array(3).fill(grid.step).join(" × ");
    byId("note-3d").textContent = grid.step > 1 ? `One voxel of ${cube} is drawn; the values above are those of the file.` : "";
  }

  #layers(name, before, after) {
    const { low, high } = this.page.window.read(), { mask, scan } = this.page.shown();
    const layers = [{ name: "scan", values: name === "result" ? after : before, low, high, colormap: "gray" }];
    if (name === "difference") {
      const { change, largest } = this.difference;
      layers.push({ name: "change", values: change, low: LEAST_CHANGE * largest, high: largest, colormap: "redyell", negative: "bluegrn", opacity: 0.8 });
    }
    if (!mask.isEmpty && scan === this.scan) {
      const { version } = mask;
      if (this.marked?.version !== version || this.marked.mask !== mask) this.marked = { mask, version, values: thinnedMask(mask, this.grid) };
      layers.push({ name: "mask", values: this.marked.values, version, low: 0.5, high: 1, colormap: "red", opacity: 0.5 });
    }
    return layers;
  }

  #label(name) {
    return `${name} drawn by NiiVue: planes and a rendering. Arrow and page keys move the cross, with Shift the window; W, A, S and D turn the rendering.`;
  }

  #follow() {
    const { point } = this.page.shown();
    for (const view of Object.values(this.views)) view.moveTo(point.map((place) => Math.floor(place / this.grid.step)));
  }

  #onEvent(name, event, data) {
    if (!this.dialog.open) return;
    if (event === "location_change") this.#onPlace(data);
    else if (event === "scene") {
      const { renderAzimuth: azimuth = this.angles[0], renderElevation: elevation = this.angles[1] } = data;
      this.#turn(azimuth, elevation, name);
    }
  }

  /** Takes the cross of one view to the others, or marks there. */
  #onPlace({ vox, ax_cor_sag: plane }) {
    const { scan, point: before } = this.page.shown();
    const point = [2, 1, 0].map((axis, n) => Math.min(scan.shape[n] - 1, Math.max(0, Math.round(vox[axis]) * this.grid.step)));
    if (this.page.isDrawing() && plane < 3) this.page.onPaint({ axis: plane }, this.last ?? point, point);
    else if (point.join() !== before.join()) this.page.moveTo(point);
    this.last = point;
  }

  #turn(azimuth, elevation, from = "") {
    if (this.angles.join() === [azimuth, elevation].join()) return;
    this.angles = [azimuth, elevation];
    for (const [name, view] of Object.entries(this.views)) if (name !== from) view.turn(azimuth, elevation);
  }

  #onKey(event) {
    if (["Tab", "Escape"].includes(event.key)) return;
    event.stopPropagation(); // NiiVue's own keys change modes, which nothing would say
    const window = windowKey(event), move = KEYS[event.key], turn = TURNS[event.key.toLowerCase()];
    if (window) this.page.window.shift(...window);
    else if (move) this.#step(...move);
    else if (turn) this.#turn(this.angles[0] + TURN * turn[0], Math.min(90, Math.max(-90, this.angles[1] + TURN * turn[1])));
    else if (event.key === " " && this.page.isDrawing()) {
      const { point } = this.page.shown();
      this.page.onPaint({ axis: 0 }, point, point);
      this.page.onLift();
    } else return;
    event.preventDefault();
  }

  #step(axis, by) {
    const { scan, point } = this.page.shown(), next = [...point];
    next[axis] = Math.min(scan.shape[axis] - 1, Math.max(0, next[axis] + by * this.grid.step));
    this.page.moveTo(next);
  }
}

/** The difference of voxels, and the largest. */
function differ(before, after) {
  const change = after.map((value, n) => value - before[n]);
  const largest = change.reduce((most, value) => Math.max(most, Math.abs(value) || 0), 0);
  return { change, largest: largest || 1 };
}
