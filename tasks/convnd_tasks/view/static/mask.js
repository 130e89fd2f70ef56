// Voxels that are marked on a scan, and the array of them that a job reads.

export class Mask {
  /** @param {number[]} shape towards head, front and right */
  constructor(shape) {
    this.shape = shape;
    this.voxels = null; // until something is marked
    this.version = 0; // grows with every change
  }

  #index([d, h, w]) { return (d * this.shape[1] + h) * this.shape[2] + w; }

  has(point) { return this.voxels !== null && this.voxels[this.#index(point)] === 1; }

  get isEmpty() { return this.voxels === null || !this.voxels.includes(1); }

  clear() {
    this.voxels = null;
    this.version += 1;
  }

  /**
   * Marks a disc in a plane, or a ball.
   * @param {number[]} centre @param {number} radius in mm @param {number[]} spacing
   * @param {number | null} axis that the disc is across; null is a ball
   */
  paint(centre, radius, spacing, axis, value) {
    this.version += 1;
    this.voxels ??= new Uint8Array(this.shape.reduce((a, b) => a * b, 1));
    const reach = spacing.map((step, n) => (n === axis ? 0 : Math.floor(radius / step)));
    const range = reach.map((r, n) => [Math.max(0, centre[n] - r), Math.min(this.shape[n] - 1, centre[n] + r)]);
    for (let d = range[0][0]; d <= range[0][1]; d += 1) {
      for (let h = range[1][0]; h <= range[1][1]; h += 1) {
        for (let w = range[2][0]; w <= range[2][1]; w += 1) {
          const away = [d, h, w].map((place, n) => (place - centre[n]) * spacing[n]);
          if (Math.hypot(...away) <= radius) this.voxels[this.#index([d, h, w])] = value;
        }
      }
    }
  }

  /**
   * The voxels as a file of NumPy, in the order of the scan's file.
   * @param {[number, boolean][]} order for each axis that of the file, and whether it is reversed
   * @param {number} rest value of voxels that are not marked
   */
  file(order, rest) {
    const shape = [0, 0, 0];
    order.forEach(([axis], n) => { shape[axis] = this.shape[n]; });
    const strides = [shape[1] * shape[2], shape[2], 1];
    const data = new Uint8Array(this.voxels.length).fill(rest);
    let index = 0;
    for (let d = 0; d < this.shape[0]; d += 1) {
      for (let h = 0; h < this.shape[1]; h += 1) {
        for (let w = 0; w < this.shape[2]; w += 1, index += 1) {
          if (this.voxels[index] !== 1) continue;
          const place = [d, h, w].reduce((sum, at, n) => {
            const [axis, flip] = order[n];
            return sum + strides[axis] * (flip ? this.shape[n] - 1 - at : at);
          }, 0);
          data[place] = 1;
        }
      }
    }
    const text = `{'descr': '|u1', 'fortran_order': False, 'shape': (${shape.join(", ")}), }`;
    const padded = `${text.padEnd(Math.ceil((text.length + 11) / 64) * 64 - 11)}\n`;
    const head = new Uint8Array([0x93, ...new TextEncoder().encode("NUMPY"), 1, 0, padded.length % 256, padded.length >> 8]);
    return new Blob([head, padded, data]);
  }
}
