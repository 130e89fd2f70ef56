// Spans of time that are regions of a signal: marked with the mouse, or typed.

import { byId, make } from "./dom.js";

const round = (value) => Number(value.toPrecision(6));

export class Spans {
  /** @param {() => void} onChange */
  constructor(onChange) {
    this.onChange = onChange;
    this.spans = [];
    this.leads = [];
    this.view = [0, 1];
    byId("add-span").addEventListener("click", () => {
      const [start, end] = this.view, third = (end - start) / 3;
      this.add(start + third, end - third);
      byId("spans").querySelector("li:last-child input").focus();
    });
    byId("clear-spans").addEventListener("click", () => this.clear());
  }

  /** Takes another recording. @param {string[]} leads @param {number} length */
  setSignal(leads, length, unit) {
    this.leads = leads.filter((name) => !/\s/.test(name)); // a table separates names by spaces
    this.length = length;
    this.unit = unit || "samples";
    this.clear();
  }

  clear() { this.spans = []; this.#draw(); }

  /** Marks a span of all leads. */
  add(start, end) {
    const span = { start: round(Math.max(0, start)), end: round(Math.min(this.length, end)), lead: "" };
    if (span.end > span.start) this.spans.push(span);
    this.#draw();
  }

  /** The spans that a lead shows. */
  of(lead) { return this.spans.filter((span) => !span.lead || span.lead === lead); }

  /**
   * The spans as a table of intervals; null without any.
   * @param {boolean} rest whether the rest of the recording is a region, too; of overlapping rows the later counts
   */
  table(rest) {
    if (!this.spans.length) return null;
    const rows = this.spans.map(({ start, end, lead }) => `${start},${end},span,${lead}`);
    if (rest) rows.unshift(`0,${this.length},rest,`);
    return new Blob([`start,end,label,lead\n${rows.join("\n")}\n`], { type: "text/csv" });
  }

  #draw() {
    const field = (span, name, number) => {
      const input = make("input", { type: "number", min: 0, step: "any", value: span[name],
        "aria-label": `${name === "start" ? "Start" : "End"} of span ${number + 1} in ${this.unit}` });
      input.addEventListener("change", () => { span[name] = Number(input.value); this.onChange(); });
      return input;
    };
    byId("spans").replaceChildren(...this.spans.map((span, number) => {
      const lead = make("select", { "aria-label": `Leads of span ${number + 1}` }, make("option", { value: "" }, "all leads"),
        ...this.leads.map((name) => make("option", { value: name }, name)));
      lead.value = span.lead;
      lead.addEventListener("change", () => { span.lead = lead.value; this.onChange(); });
      const remove = make("button", { type: "button", "aria-label": `Remove span ${number + 1}` }, "Remove");
      remove.addEventListener("click", () => {
        this.spans.splice(number, 1);
        this.#draw();
        byId("add-span").focus();
      });
      return make("li", { className: "row" }, field(span, "start", number), make("span", {}, "to"), field(span, "end", number),
        make("span", {}, this.unit), lead, remove);
    }));
    byId("clear-spans").hidden = !this.spans.length;
    this.onChange();
  }
}
