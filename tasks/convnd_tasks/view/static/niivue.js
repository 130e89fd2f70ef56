// NiiVue on this page. The package ipyniivue carries it as a widget of notebooks, which is told what to show by a
// "model" of values and events (https://anywidget.dev/en/afm). Here the page is the notebook.

const OPTIONS = {
  backColor: [0, 0, 0, 1], crosshairColor: [1, 0.69, 0, 1], crosshairWidth: 0.5, crosshairWidthUnit: "percent", show3Dcrosshair: true,
  sliceType: 3, multiplanarShowRender: 1, // three planes and the rendering
  isRadiologicalConvention: true, sagittalNoseLeft: true, isNearestInterpolation: true,
  dragMode: 0, dragAndDropEnabled: false, loadingText: "", logLevel: "error", isAntiAlias: true,
};
const VIEW = { // values of the widget's view that the page leaves as they are
  meshes: [], background_masks_overlays: false, draw_lut: null, draw_opacity: 0.8, draw_fill_overwrites: true, graph: null, scene: null,
  overlay_outline_width: 0, overlay_alpha_shader: 1,
};
const VOLUME = {
  path: {}, url: "", paired_img_path: {}, paired_img_url: "", paired_img_data: null, opacity: 1, cal_min_neg: NaN, cal_max_neg: NaN,
  colormap_negative: "", colormap_type: 0, colormap_label: null, colormap_invert: false, colorbar_visible: false, frame_4d: 0,
  modulation_image: null, modulate_alpha: 0,
};

/** Values that a widget reads, and events of either side. */
class Model {
  #values;
  #calls = new Map();

  /** @param {Record<string, any>} values @param {(event: { event: string, data: any }) => void} onEvent of the widget */
  constructor(values, onEvent = () => {}) {
    this.#values = values;
    this.send = onEvent;
  }

  get(name) { return this.#values[name]; }

  /** Takes a value of the widget. */
  set(name, value) { this.#values[name] = value; }

  save_changes() {} // the page reads values when it needs them

  /** Hears how the view was turned. With no `_comm_live`, the widget sends no voxels back. */
  send_sync_message({ scene }) { if (scene) this.send({ event: "scene", data: scene }); }

  on(name, call) { this.#calls.set(name, [...this.#calls.get(name) ?? [], call]); }

  off(name, call) { this.#calls.set(name, call ? (this.#calls.get(name) ?? []).filter((one) => one !== call) : []); }

  tell(name, ...values) { for (const call of this.#calls.get(name) ?? []) call(...values); }

  /** Gives the widget a value. */
  change(name, value) {
    this.#values[name] = value;
    this.tell(`change:${name}`);
  }
}

/**
 * A file in the format NIfTI-1, which NiiVue reads.
 * @param {Float32Array | Uint8Array} values right is the fastest axis, then front and head
 * @param {{ shape: number[], spacing: number[], affine: number[][] | null }} grid towards head, front, right
 */
export function nifti(values, { shape, spacing, affine }) {
  const isFloat = values instanceof Float32Array, file = new Uint8Array(352 + values.byteLength), head = new DataView(file.buffer);
  const place = affine ?? [[0, 0, spacing[2], 0], [0, spacing[1], 0, 0], [spacing[0], 0, 0, 0]];
  const whole = (at, ...numbers) => numbers.forEach((number, n) => head.setInt16(at + 2 * n, number, true));
  const real = (at, ...numbers) => numbers.forEach((number, n) => head.setFloat32(at + 4 * n, number, true));
  head.setInt32(0, 348, true);
  whole(40, 3, shape[2], shape[1], shape[0], 1, 1, 1, 1);
  whole(70, isFloat ? 16 : 2, isFloat ? 32 : 8);
  real(76, 1, spacing[2], spacing[1], spacing[0]);
  real(108, 352, 1, 0); // where values begin, their slope and intercept
  head.setUint8(123, 2); // mm
  whole(252, 0, 1); // the rows that follow say where the voxels are
  place.forEach((row, n) => real(280 + 16 * n, row[2], row[1], row[0], row[3]));
  file.set(new TextEncoder().encode("n+1\0"), 344);
  file.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), 352);
  return file;
}

/** One view of NiiVue: layers of voxels on each other, as planes and as a rendering. */
export class NiivueView {
  #layers = new Map(); // by their names: the model, and the values that it shows
  #grid = null;
  #count = 0;

  /**
   * @param {HTMLElement} place where the view is put @param {string} label for screen readers
   * @param {(name: string, data: any) => void} onEvent
   */
  static async open(place, label, onEvent) {
    const { default: widget } = await import(`./api/niivue?view=${place.id}`); // a module makes one view
    return new NiivueView(widget, place, onEvent).#begin(label);
  }

  constructor(widget, place, onEvent) {
    this.widget = widget;
    this.place = place;
    this.model = new Model({ ...VIEW, this_model_id: "view", opts: OPTIONS, volumes: [], height: place.clientWidth }, ({ event, data }) => onEvent(event, data));
    this.models = new Map([["view", this.model]]);
    this.model.widget_manager = { get_model: async (id) => this.models.get(id) };
  }

  async #begin(label) {
    await this.widget.initialize({ model: this.model });
    await this.widget.render({ model: this.model, el: this.place });
    this.canvas = this.place.querySelector("canvas");
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", label);
    new ResizeObserver(() => this.model.change("height", this.place.clientWidth)).observe(this.place);
    return this;
  }

  #message(type, ...data) { this.model.tell("msg:custom", { type, data }, []); }

  /**
   * Shows layers, the first at the bottom.
   * @param {{ shape: number[], spacing: number[], affine: number[][] | null }} grid
   * @param {{ name: string, values: Float32Array | Uint8Array, version?: number, low: number, high: number, colormap: string,
   *   negative?: string, opacity?: number }[]} layers
   */
  show(grid, layers) {
    if (grid !== this.#grid) this.#layers.clear();
    this.#grid = grid;
    for (const layer of layers) this.#showLayer(layer);
    const names = layers.map(({ name }) => name);
    for (const name of this.#layers.keys()) if (!names.includes(name)) this.#layers.delete(name);
    const volumes = names.map((name) => `IPY_MODEL_${this.#layers.get(name).model.get("id")}`);
    if (volumes.join() !== this.model.get("volumes").join()) this.model.change("volumes", volumes);
  }

  #showLayer({ name, values, version = 0, low, high, colormap, negative = "", opacity = 1 }) {
    let layer = this.#layers.get(name);
    if (!layer) {
      const id = `${name}-${this.#count += 1}`;
      const model = new Model({ ...VOLUME, id, name: `${name}.nii`, data: nifti(values, this.#grid), colormap, opacity,
        colormap_negative: negative, cal_min: low, cal_max: high });
      this.models.set(id, model);
      layer = { model, values, version };
      this.#layers.set(name, layer);
    }
    if (layer.values !== values || layer.version !== version) {
      Object.assign(layer, { values, version });
      const copy = values.slice(), type = values instanceof Float32Array ? "float32" : "uint8";
      layer.model.tell("msg:custom", { type: "buffer_change", data: { attr: "img", type } }, [new DataView(copy.buffer)]);
    }
    for (const [end, value] of [["cal_min", low], ["cal_max", high]]) if (layer.model.get(end) !== value) layer.model.change(end, value);
  }

  /** Moves the cross to a voxel of the grid. @param {number[]} point towards head, front, right */
  moveTo(point) {
    this.model.change("scene", { crosshairPos: [2, 1, 0].map((axis) => (point[axis] + 0.5) / this.#grid.shape[axis]) });
    this.#message("draw_scene");
  }

  /** Turns the rendering. @param {number} azimuth in degrees @param {number} elevation in degrees */
  turn(azimuth, elevation) {
    this.model.change("scene", { renderAzimuth: azimuth, renderElevation: elevation });
    this.#message("draw_scene");
  }
}
