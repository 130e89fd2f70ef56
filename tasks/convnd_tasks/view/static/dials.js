// The dials: each is an option of the command line.

import { byId, make } from "./dom.js";

/** live: a running job takes the new value without starting anew. */
const DIALS = [
  { name: "strength", label: "Strength", min: 0, max: 1, step: 0.05, value: 1, live: true },
  { name: "style-scale", label: "Style size", live: true, value: 4,
    stops: [0.25, 0.35, 0.5, 0.7, 1, 1.4, 2, 2.8, 4] },
  { name: "style-weight", label: "Style weight", live: true, value: 5,
    stops: [0.5, 1, 2, 5, 10, 23, 40, 70, 115, 200, 350] },
  { name: "tv-weight", label: "Smoothness", min: 0, max: 1, step: 0.05, value: 0, live: true },
];
const CHOICES = [
  { name: "colors", label: "Colours", live: true,
    options: [["style", "of the style"], ["luminance", "of the content (only brightness changes)"],
      ["match", "of the content (style recoloured first)"]] },
  { name: "size", label: "Size", options: [["256", "256 px"], ["512", "512 px"], ["1024", "1024 px"],
    ["2048", "2048 px"], ["0", "that of the content"]], value: "512" },
  { name: "steps", label: "Steps", options: [["40", "40 (quick)"], ["85", "85"], ["200", "200 (fine)"]],
    value: "85" },
];

/** Options that one pass of a network has as well. */
const OF_PREVIEW = ["strength", "style-scale", "colors", "style-weights"];

export class Dials {
  /** @param {(name: string, live: boolean) => void} onChange */
  constructor(onChange) {
    this.onChange = onChange;
    this.inputs = new Map();
    const place = byId("dials");
    for (const dial of DIALS) place.append(this.#range(dial));
    for (const choice of CHOICES) place.append(this.#select(choice));
    this.weights = [];
  }

  #range({ name, label, stops, min = 0, max = stops.length - 1, step = 1, value, live }) {
    const read = (place) => (stops ? stops[place] : place);
    const output = make("output", { id: `${name}-value`, textContent: String(read(value)) });
    const input = make("input", { type: "range", id: name, min, max, step, value });
    input.setAttribute("aria-valuetext", String(read(value)));
    input.addEventListener("input", () => {
      const text = String(read(Number(input.value)));
      output.textContent = text;
      input.setAttribute("aria-valuetext", text);
      this.onChange(name, Boolean(live));
    });
    this.inputs.set(name, { read: () => read(Number(input.value)), usual: read(value) });
    return make("div", { className: "dial" }, make("label", { for: name }, `${label} `, output), input);
  }

  #select({ name, label, options, value, live }) {
    const input = make("select", { id: name }, ...options.map(([key, text]) => make("option", { value: key }, text)));
    input.value = value ?? options[0][0];
    input.addEventListener("change", () => this.onChange(name, Boolean(live)));
    this.inputs.set(name, { read: () => input.value, usual: input.value });
    return make("div", { className: "dial" }, make("label", { for: name }, label), input);
  }

  /** Shows one weight for each style, where there are several. @param {string[]} styles */
  showWeights(styles, nameOf) {
    const before = new Map(this.weights.map(({ style, input }) => [style, input.value]));
    this.weights = styles.length < 2 ? [] : styles.map((style, number) => {
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
    for (const [name, { read, usual }] of this.inputs) if (read() !== usual) options[name] = read();
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
