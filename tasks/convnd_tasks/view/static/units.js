// Units: the patches that excite each unit of a network most, layer by layer.

import * as api from "./api.js";
import { Newest, attempt, byId, make } from "./dom.js";

const baseName = (name) => name.split("/").pop();

export class UnitView {
  constructor() {
    this.layers = {};
    this.opens = new Newest();
    byId("search").addEventListener("change", () => attempt(() => this.#open(byId("search").value)));
    byId("unit-layer").addEventListener("change", () => this.#showLayer());
    byId("unit").addEventListener("change", () => this.#showUnit());
    byId("unit-back").addEventListener("click", () => this.#step(-1));
    byId("unit-next").addEventListener("click", () => this.#step(1));
  }

  /** Lists the searches of the folder, and opens the newest. */
  async setInputs() {
    const isNewest = this.opens.begin(), { searches } = await api.get("searches");
    if (!isNewest()) return; // a later list is on its way
    byId("search").replaceChildren(...searches.map((name) => make("option", { value: name }, name)));
    byId("unit-empty").hidden = searches.length > 0;
    byId("unit-browser").hidden = !searches.length;
    const name = searches.includes(this.name) ? this.name : searches[0];
    if (name && name === this.opened) byId("search").value = name; // the layer and unit that are shown stay
    else if (name) await this.#open(name);
  }

  clearResult() {}

  async regions() { return {}; }

  async showJob(job, ended) {
    if (!ended) return;
    this.name = job.output;
    await this.setInputs();
  }

  async #open(name) {
    const isNewest = this.opens.begin(), { layers } = await api.get(api.withQuery("search", { name }));
    if (!isNewest()) return;
    this.name = this.opened = name;
    byId("search").value = name;
    this.layers = layers;
    byId("unit-layer").replaceChildren(...Object.keys(layers).map((layer) => make("option", { value: layer }, layer)));
    this.#showLayer();
  }

  #showLayer() {
    const layer = byId("unit-layer").value, { units, span } = this.layers[layer];
    byId("unit-field").textContent = `Each unit sees ${span.join(" × ")} samples.`;
    byId("unit").replaceChildren(...Object.keys(units).map(Number).sort((a, b) => a - b)
      .map((unit) => make("option", { value: unit }, units[unit].length ? `unit ${unit}` : `unit ${unit} (never active)`)));
    byId("unit-sheet").href = `${api.file(`${this.name}/${layer}.png`)}`;
    this.#showUnit();
  }

  #step(by) {
    const select = byId("unit");
    select.selectedIndex = Math.min(select.options.length - 1, Math.max(0, select.selectedIndex + by));
    this.#showUnit();
  }

  #showUnit() {
    const layer = byId("unit-layer").value, unit = byId("unit").value;
    const patches = this.layers[layer]?.units[unit] ?? [];
    byId("unit-title").textContent = patches.length ? `${layer}, unit ${unit}: its ${patches.length} strongest patches`
      : `${layer}, unit ${unit} is never active in these inputs`;
    byId("patches").replaceChildren(...patches.map(({ rank, value, input, start, stop }) => {
      const place = start.map((first, axis) => `${first}–${stop[axis]}`).join(", ");
      const picture = make("img", { src: api.withQuery("api/patch", { name: this.name, layer, unit, rank }),
        alt: `Patch ${rank} of ${baseName(input)}, activation ${value.toPrecision(3)}`, loading: "lazy" });
      return make("li", {}, picture, make("strong", {}, value.toPrecision(3)), make("span", {}, baseName(input)),
        make("span", { className: "hint" }, place));
    }));
  }
}
