// The dials: each is an option of the command line.

import { byId, make } from "./dom.js";
import { KINDS } from "./kinds.js";

/**
 * live: a running job takes the new value without starting anew. value: index of a stop, or the number.
 * Values that equal the default of the command are not sent.
 */
const STRENGTH = { name: "strength", label: "Strength", min: 0, max: 1, step: 0.05, value: 1, live: true };
const SCALE = { name: "style-scale", label: "Style size", live: true, value: 4,
  stops: [0.25, 0.35, 0.5, 0.7, 1, 1.4, 2, 2.8, 4] };
const SMOOTH = { name: "tv-weight", label: "Smoothness", min: 0, max: 1, step: 0.05, value: 0, live: true };
const COLORS = { name: "colors", label: "Colours", live: true,
  options: [["style", "of the style"], ["luminance", "of the content (only brightness changes)"],
    ["match", "of the content (style recoloured first)"]] };
const weight = (stops, value) => ({ name: "style-weight", label: "Style weight", live: true, stops, value });
const size = (own) => ({ name: "size", label: "Size", value: "512", options: [["256", "256 px"], ["512", "512 px"],
  ["1024", "1024 px"], ["2048", "2048 px"], ["0", own]] });
const steps = (usual, ...others) => ({ name: "steps", label: "Steps", value: String(usual),
  options: [usual, ...others].sort((a, b) => a - b).map((count) => [String(count), String(count)]) });

const DIALS = {
  pictures: [STRENGTH, SCALE, weight([0.5, 1, 2, 5, 10, 23, 40, 70, 115, 200, 350], 5), SMOOTH, COLORS,
    size("that of the content"),
    { name: "steps", label: "Steps", options: [["40", "40 (quick)"], ["85", "85"], ["200", "200 (fine)"]], value: "85" }],
  signals: [STRENGTH, SCALE, weight([1, 3, 10, 30, 60, 120, 300], 3), SMOOTH, steps(50, 20, 150),
    { name: "rate", label: "Sampling rate in Hz, of files that do not say it", number: true }],
  volumes: [STRENGTH,
    { name: "transfer", label: "Transfer", options: [["auto", "automatic"], ["look", "look: noise and sharpness of a scan"],
      ["paint", "paint: all patterns, as of a painting"]] },
    { name: "window", label: "Values that may change", options: [["auto", "automatic"], ["lung", "lung window (CT)"],
      ["soft", "soft tissue (CT)"], ["bone", "bone (CT)"], ["brain", "brain (CT)"]] },
    { name: "modality", label: "Modality", options: [["auto", "automatic"], ["ct", "CT, Hounsfield units"], ["mr", "MR"],
      ["other", "another"]] },
    { ...SCALE, label: "Size of patterns" }, { ...weight([1, 3, 10, 30, 60, 120, 300], 3), label: "Weight of patterns" },
    steps(40, 20, 100)],
  videos: [STRENGTH, SCALE, weight([2, 5, 10, 20, 40, 80, 160], 3),
    { name: "temporal-weight", label: "Against flicker", live: true, stops: [0, 15, 30, 60, 120, 240], value: 3 },
    { ...COLORS, live: false }, size("that of the clip"), steps(80, 20, 40),
    { name: "instant", label: "Way", options: [["", "optimised, frame by frame"], ["true", "instant: one pass of a network"]] }],
  units: [
    { name: "layer", label: "Layers", options: [["relu1_1,relu2_1,relu3_1,relu4_1", "relu1_1 to relu4_1"],
      ["relu1_1", "relu1_1"], ["relu2_1", "relu2_1"], ["relu3_1", "relu3_1"], ["relu4_1", "relu4_1"]] },
    { name: "units", label: "Units", value: "0-15", options: [["0-7", "0 to 7"], ["0-15", "0 to 15"],
      ["random:16", "16 at random"], ["all", "all"]] },
    { name: "top", label: "Patches for each unit", stops: [3, 6, 9, 16, 25], value: 2 },
    { name: "suppress", label: "Overlapping patches", value: "overlap", options: [["overlap", "keep the strongest"],
      ["input", "one for each input"], ["none", "keep all"]] }],
};

/** Options that one pass of a network has as well. */
const OF_PREVIEW = ["strength", "style-scale", "colors", "style-weights"];

export class Dials {
  /** @param {(name: string, live: boolean) => void} onChange */
  constructor(onChange) {
    this.onChange = onChange;
    this.inputs = new Map();
    this.weights = [];
    this.kept = {}; // what was set for other kinds
  }

  /** Shows the dials of a kind of data, as they were left. @param {string} kind */
  setKind(kind) {
    for (const [name, { input }] of this.inputs) this.kept[`${this.kind}.${name}`] = input.value;
    this.kind = kind;
    this.inputs.clear();
    byId("dials-hint").hidden = !KINDS[kind].dials;
    byId("dials-hint").textContent = KINDS[kind].dials;
    byId("dial-list").replaceChildren(...DIALS[kind].map((dial) => {
      if (dial.number) return this.#number(dial);
      return "options" in dial ? this.#select(dial) : this.#range(dial);
    }));
  }

  #range({ name, label, stops, min = 0, max = stops.length - 1, step = 1, value, live }) {
    const read = (place) => (stops ? stops[place] : place);
    const output = make("output", { id: `${name}-value` });
    const input = make("input", { type: "range", id: name, min, max, step, value: this.kept[`${this.kind}.${name}`] ?? value });
    const say = () => {
      const text = String(read(Number(input.value)));
      output.textContent = text;
      input.setAttribute("aria-valuetext", text);
    };
    say();
    input.addEventListener("input", () => { say(); this.onChange(name, Boolean(live)); });
    this.inputs.set(name, { input, read: () => read(Number(input.value)), usual: read(value) });
    return make("div", { className: "dial" }, make("label", { for: name }, `${label} `, output), input);
  }

  #number({ name, label }) {
    const input = make("input", { type: "number", id: name, min: 0, step: "any", value: this.kept[`${this.kind}.${name}`] ?? "" });
    this.inputs.set(name, { input, read: () => input.value, usual: "" });
    return make("div", { className: "dial" }, make("label", { for: name }, label), input);
  }

  #select({ name, label, options, value = options[0][0], live }) {
    const input = make("select", { id: name }, ...options.map(([key, text]) => make("option", { value: key }, text)));
    input.value = this.kept[`${this.kind}.${name}`] ?? value;
    input.addEventListener("change", () => this.onChange(name, Boolean(live)));
    this.inputs.set(name, { input, read: () => input.value, usual: value });
    return make("div", { className: "dial" }, make("label", { for: name }, label), input);
  }

  /** Shows one weight for each style, where there are several. @param {string[]} styles */
  showWeights(styles, nameOf) {
    const before = new Map(this.weights.map(({ style, input }) => [style, input.value]));
    this.weights = styles.length < 2 || this.kind === "units" ? [] : styles.map((style, number) => {
      const id = `weight-${number}`;
      const input = make("input", { type: "range", id, min: 0, max: 1, step: 0.05, value: before.get(style) ?? 0.5 });
      input.addEventListener("input", () => this.onChange("style-weights", true));
      return { style, input, label: make("label", { for: id }, `Weight of ${nameOf(style)}`) };
    });
    byId("weights").replaceChildren(
      ...this.weights.map(({ label, input }) => make("div", { className: "dial" }, label, input)));
  }

  #styleWeights() {
    const values = this.weights.map(({ input }) => Number(input.value));
    return values.some((value) => value > 0) ? values.join(",") : "";
  }

  /** The options as the command line has them, without those that have their default. */
  options() {
    const options = {};
    for (const [name, { read, usual }] of this.inputs) {
      if (read() !== usual) options[name] = read() === "true" ? true : read();
    }
    const weights = this.#styleWeights();
    return weights ? { ...options, "style-weights": weights } : options;
  }

  /** The value of one option. */
  value(name) {
    return name === "style-weights" ? this.#styleWeights() : this.inputs.get(name).read();
  }

  /** The options that an instant preview takes. */
  previewOptions() {
    const all = this.options();
    const taken = OF_PREVIEW.filter((name) => name in all).map((name) => [name, all[name]]);
    return { ...Object.fromEntries(taken), instant: true, size: 384 };
  }
}
