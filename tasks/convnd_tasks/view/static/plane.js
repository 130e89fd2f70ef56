// One plane of a scan on a canvas: values through a window, a cross, and what is drawn on it.

const PIXELS = 420; // of the longer side, at most

const NEGATIVE = [33, 102, 172], ZERO = [247, 247, 247], POSITIVE = [178, 24, 43];

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

export class Plane {
  /**
   * @param {HTMLCanvasElement} canvas @param {number} axis that the plane is across: 0 head, 1 front, 2 right
   * @param {{ onMove: (point: number[]) => void, onPaint: (plane: Plane, from: number[], to: number[]) => void,
   *   onLift: () => void, isDrawing: () => boolean }} calls
   */
  constructor(canvas, axis, calls) {
    this.canvas = canvas;
    this.axis = axis;
    this.calls = calls;
    this.others = [0, 1, 2].filter((other) => other !== axis); // rows and columns
    this.source = document.createElement("canvas");
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
      this.#step(this.axis, event.deltaY > 0 ? -1 : 1);
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => this.#onKey(event));
  }

  /** Takes the geometry of a scan. */
  setScan(shape, spacing) {
    this.shape = shape;
    const [rows, columns] = this.others;
    this.source.width = shape[columns];
    this.source.height = shape[rows];
    const height = shape[rows] * spacing[rows], width = shape[columns] * spacing[columns];
    const factor = PIXELS / Math.max(width, height);
    this.canvas.width = Math.round(width * factor);
    this.canvas.height = Math.round(height * factor);
  }

  /**
   * @param {Float32Array} values row by row @param {{ low: number, high: number, difference: boolean }} look
   * @param {number[]} point the cross @param {((row: number, column: number) => boolean) | null} mask
   */
  draw(values, look, point, mask) {
    const { source, canvas } = this, { width, height } = source;
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
    source.getContext("2d").putImageData(picture, 0, 0);
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.drawImage(source, 0, 0, canvas.width, canvas.height);
    this.#drawCross(context, point);
  }

  #drawCross(context, point) {
    const { canvas, source } = this, [row, column] = this.toPlane(point);
    const x = Math.floor((column + 0.5) * canvas.width / source.width) + 0.5;
    const y = Math.floor((row + 0.5) * canvas.height / source.height) + 0.5;
    const gap = 8;
    context.strokeStyle = "#ffb000";
    context.lineWidth = 1;
    context.beginPath();
    for (const [x1, y1, x2, y2] of [[0, y, x - gap, y], [x + gap, y, canvas.width, y], [x, 0, x, y - gap], [x, y + gap, x, canvas.height]]) {
      context.moveTo(x1, y1);
      context.lineTo(x2, y2);
    }
    context.stroke();
  }

  /** Row and column of a voxel: head and front are up, right and front are on the left. */
  toPlane(point) { return this.others.map((axis) => this.shape[axis] - 1 - point[axis]); }

  /** The voxel at a row and column, beside the axis of the plane. */
  toVoxel([row, column], point) {
    const voxel = [...point];
    [row, column].forEach((place, number) => {
      const axis = this.others[number];
      voxel[axis] = Math.min(this.shape[axis] - 1, Math.max(0, this.shape[axis] - 1 - Math.floor(place)));
    });
    return voxel;
  }

  #place(event) {
    const box = this.canvas.getBoundingClientRect();
    const row = (event.clientY - box.top) / box.height * this.source.height;
    const column = (event.clientX - box.left) / box.width * this.source.width;
    return this.toVoxel([row, column], this.point());
  }

  #step(axis, by) {
    if (!this.shape) return;
    const point = [...this.point()];
    point[axis] = Math.min(this.shape[axis] - 1, Math.max(0, point[axis] + by));
    this.calls.onMove(point);
  }

  #onKey(event) {
    if (!this.shape) return;
    const [rows, columns] = this.others;
    const step = { ArrowUp: [rows, 1], ArrowDown: [rows, -1], ArrowLeft: [columns, 1], ArrowRight: [columns, -1],
      PageUp: [this.axis, 1], PageDown: [this.axis, -1] }[event.key];
    if (event.key === " " && this.calls.isDrawing()) {
      this.calls.onPaint(this, this.point(), this.point());
      this.calls.onLift();
    } else if (step) this.#step(...step);
    else return;
    event.preventDefault();
  }
}
