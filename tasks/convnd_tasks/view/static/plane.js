// One plane of a scan on a canvas: values through a window, a cross, directions, a scale, and what is drawn on it.

import { dragWindow, windowKey } from "./window_drag.js";

const NEGATIVE = [33, 102, 172], ZERO = [247, 247, 247], POSITIVE = [178, 24, 43];
const TALLEST = "60vh";
const LETTERS = [["S", "I"], ["A", "P"], ["R", "L"]]; // along head, front, right: towards and against
const BARS = [1, 2, 5, 10, 20, 50, 100, 200]; // mm
const MARGIN = 0.1; // of what is shown: a cross that comes nearer to the edge moves the view

/** Grey of a value in a window. */
function grey(data, place, value, low, high) {
  const level = 255 * (value - low) / (high - low);
  data[place] = data[place + 1] = data[place + 2] = level; // the array clamps
}

/** Blue below zero, white at zero, red above. */
function diverging(data, place, value, largest) {
  const share = Math.min(1, Math.abs(value) / largest), end = value < 0 ? NEGATIVE : POSITIVE;
  for (let n = 0; n < 3; n += 1) data[place + n] = ZERO[n] + (end[n] - ZERO[n]) * share;
}

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

export class Plane {
  /**
   * @param {HTMLCanvasElement} canvas @param {number} axis that the plane is across: 0 head, 1 front, 2 right
   * @param {{ onMove: (point: number[]) => void, onPaint: (plane: Plane, from: number[], to: number[]) => void,
   *   window: any, onLift: () => void, onZoom: (by: number) => void, isDrawing: () => boolean }} calls
   */
  constructor(canvas, axis, calls) {
    this.canvas = canvas;
    this.axis = axis;
    this.calls = calls;
    this.others = [0, 1, 2].filter((other) => other !== axis); // rows and columns
    this.source = document.createElement("canvas");
    this.view = { zoom: 1, x: 0, y: 0 }; // x and y of its corner, in pixels of the plane
    dragWindow(canvas, calls.window);
    let last = null;
    const act = (event) => {
      if (!this.shape) return; // no scan yet
      const here = this.#place(event);
      if (calls.isDrawing()) calls.onPaint(this, last ?? here, here);
      else calls.onMove(here);
      last = here;
    };
    canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); last = null; act(event); });
    canvas.addEventListener("pointermove", (event) => { if (event.buttons) act(event); });
    canvas.addEventListener("pointerup", () => calls.onLift());
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const by = event.deltaY > 0 ? -1 : 1;
      if (event.ctrlKey) calls.onZoom(by);
      else this.#step(this.axis, by);
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => this.#onKey(event));
    new ResizeObserver(() => this.#paintAgain()).observe(canvas);
  }

  /** Takes the geometry of a scan. @param {{ shape: number[], spacing: number[], affine: number[][] | null, axis_unit: string }} scan */
  setScan({ shape, spacing, affine, axis_unit: unit }) {
    const [rows, columns] = this.others;
    this.shape = shape;
    this.shown = null;
    this.letters = affine ? this.others.map((axis) => LETTERS[axis]) : null;
    this.source.width = shape[columns];
    this.source.height = shape[rows];
    const width = shape[columns] * spacing[columns], ratio = width / (shape[rows] * spacing[rows]);
    this.width = unit === "mm" ? width : 0; // of all columns in mm
    this.canvas.style.aspectRatio = String(ratio); // lengths are true: voxels may be oblong
    this.canvas.style.width = `min(100%, calc(${TALLEST} * ${ratio}))`;
    this.view = { zoom: 1, x: 0, y: 0 };
  }

  /** Shows a part around the cross, so many times as large. @param {number} zoom */
  setZoom(zoom) {
    this.view.zoom = zoom;
    const [row, column] = this.toPlane(this.point());
    this.#moveView(column + 0.5 - this.#columns / 2, row + 0.5 - this.#rows / 2);
  }

  get #columns() { return this.source.width / this.view.zoom; }
  get #rows() { return this.source.height / this.view.zoom; }

  #moveView(x, y) {
    this.view.x = clamp(x, 0, this.source.width - this.#columns);
    this.view.y = clamp(y, 0, this.source.height - this.#rows);
  }

  /** Moves the view where the cross would leave it. */
  #follow([row, column]) {
    const { x, y } = this.view, edge = MARGIN * this.#columns, side = MARGIN * this.#rows;
    this.#moveView(
      clamp(x, column + 0.5 - this.#columns + edge, column + 0.5 - edge),
      clamp(y, row + 0.5 - this.#rows + side, row + 0.5 - side));
  }

  /**
   * @param {Float32Array} values row by row @param {{ low: number, high: number, difference: boolean }} look
   * @param {number[]} point the cross @param {((row: number, column: number) => boolean) | null} mask
   */
  draw(values, look, point, mask) {
    const { width, height } = this.source;
    const picture = new ImageData(width, height), { data } = picture;
    for (let n = 0; n < values.length; n += 1) {
      const place = 4 * n;
      if (look.difference) diverging(data, place, values[n], look.high);
      else grey(data, place, values[n], look.low, look.high);
      data[place + 3] = 255;
      if (mask && mask(Math.floor(n / width), n % width)) {
        data[place] = 0.5 * data[place] + 127;
        data[place + 1] *= 0.5;
        data[place + 2] *= 0.5;
      }
    }
    this.source.getContext("2d").putImageData(picture, 0, 0);
    this.shown = point;
    this.#paintAgain();
  }

  /** Draws what is shown with as many pixels as the screen has there. */
  #paintAgain() {
    const { canvas, source } = this, scale = window.devicePixelRatio || 1;
    if (!this.shown || !canvas.clientWidth) return;
    const width = Math.round(canvas.clientWidth * scale), height = Math.round(canvas.clientHeight * scale);
    if (canvas.width !== width) canvas.width = width;
    if (canvas.height !== height) canvas.height = height;
    this.#follow(this.toPlane(this.shown));
    const context = canvas.getContext("2d"), { x, y } = this.view;
    context.imageSmoothingEnabled = width < this.#columns; // voxels stay visible; fine ones are averaged
    context.imageSmoothingQuality = "high";
    context.drawImage(source, x, y, this.#columns, this.#rows, 0, 0, width, height);
    this.#drawCross(context, scale);
    this.#drawLetters(context, scale);
    this.#drawBar(context, scale);
  }

  #drawCross(context, scale) {
    const { canvas } = this, [row, column] = this.toPlane(this.shown);
    const x = Math.floor((column + 0.5 - this.view.x) * canvas.width / this.#columns) + 0.5;
    const y = Math.floor((row + 0.5 - this.view.y) * canvas.height / this.#rows) + 0.5;
    const gap = 8 * scale;
    context.strokeStyle = "#ffb000";
    context.lineWidth = scale;
    context.beginPath();
    for (const [x1, y1, x2, y2] of [[0, y, x - gap, y], [x + gap, y, canvas.width, y], [x, 0, x, y - gap], [x, y + gap, x, canvas.height]]) {
      context.moveTo(x1, y1);
      context.lineTo(x2, y2);
    }
    context.stroke();
  }

  #write(context, text, x, y, scale, align = "center") {
    context.font = `600 ${13 * scale}px system-ui, sans-serif`;
    context.textAlign = align;
    context.textBaseline = "middle";
    context.lineWidth = 3 * scale;
    context.strokeStyle = "#000000";
    context.fillStyle = "#ffd479";
    context.strokeText(text, x, y);
    context.fillText(text, x, y);
  }

  /** The directions of the patient, as radiologists write them: right is on the left. */
  #drawLetters(context, scale) {
    if (!this.letters) return;
    const { width, height } = this.canvas, edge = 10 * scale, [[up, down], [left, right]] = this.letters;
    for (const [text, x, y] of [[up, width / 2, edge], [down, width / 2, height - edge], [left, edge, height / 2], [right, width - edge, height / 2]]) {
      this.#write(context, text, x, y, scale);
    }
  }

  /** A bar of a round length in mm. */
  #drawBar(context, scale) {
    if (!this.width) return;
    const { width, height } = this.canvas, pixels = width * this.view.zoom / this.width; // of a mm
    const length = BARS.findLast((bar) => bar * pixels < width / 4);
    if (!length || width < 120 * scale) return;
    const x = 10 * scale, y = height - 10 * scale, end = x + length * pixels;
    for (const [color, thick] of [["#000000", 4], ["#ffd479", 2]]) {
      context.strokeStyle = color;
      context.lineWidth = thick * scale;
      context.beginPath();
      context.moveTo(x, y);
      context.lineTo(end, y);
      context.stroke();
    }
    this.#write(context, `${length} mm`, x, y - 11 * scale, scale, "left");
  }

  /** Row and column of a voxel: head and front are up, right and front are on the left. */
  toPlane(point) { return this.others.map((axis) => this.shape[axis] - 1 - point[axis]); }

  /** The voxel at a row and column, beside the axis of the plane. */
  toVoxel([row, column], point) {
    const voxel = [...point];
    [row, column].forEach((place, number) => {
      const axis = this.others[number];
      voxel[axis] = clamp(this.shape[axis] - 1 - Math.floor(place), 0, this.shape[axis] - 1);
    });
    return voxel;
  }

  #place(event) {
    const box = this.canvas.getBoundingClientRect();
    const row = this.view.y + (event.clientY - box.top) / box.height * this.#rows;
    const column = this.view.x + (event.clientX - box.left) / box.width * this.#columns;
    return this.toVoxel([row, column], this.point());
  }

  #step(axis, by) {
    if (!this.shape) return;
    const point = [...this.point()];
    point[axis] = clamp(point[axis] + by, 0, this.shape[axis] - 1);
    this.calls.onMove(point);
  }

  #onKey(event) {
    if (!this.shape) return;
    const [rows, columns] = this.others;
    const step = { ArrowUp: [rows, 1], ArrowDown: [rows, -1], ArrowLeft: [columns, 1], ArrowRight: [columns, -1],
      PageUp: [this.axis, 1], PageDown: [this.axis, -1] }[event.key];
    const zoom = { "+": 1, "-": -1 }[event.key], window = windowKey(event);
    if (window) this.calls.window.shift(...window);
    else if (event.key === " " && this.calls.isDrawing()) {
      this.calls.onPaint(this, this.point(), this.point());
      this.calls.onLift();
    } else if (step) this.#step(...step);
    else if (zoom) this.calls.onZoom(zoom);
    else return;
    event.preventDefault();
  }
}
