// Signals: stacked leads of content, style and result, ECG paper, spectra, and spans that are regions.

import * as api from "./api.js";
import { curveChart, onTheme, traceChart } from "./charts.js";
import { Newest, byId, debounce, inBackground, make, oneAtATime } from "./dom.js";
import { Spans } from "./spans.js";

const PX_PER_MM = 3.78; // of CSS: 96 px are an inch
const ROLES = ["content", "style", "result"];

export class SignalView {
  /** @param {(name: string) => number} dim */
  constructor(dim) {
    this.dim = dim;
    this.sources = {}; // by role: the query, and what the server says of it
    this.charts = [];
    this.place = byId("traces");
    this.spans = new Spans(() => this.#redraw());
    this.shows = new Newest();
    this.load = oneAtATime(() => this.#load());
    this.drawSpectrum = oneAtATime(() => this.#drawSpectrum());
    byId("signal-from").addEventListener("input", () => this.load());
    byId("signal-speed").addEventListener("change", () => this.#build());
    byId("spectrum-lead").addEventListener("change", () => this.drawSpectrum());
    for (const role of ROLES) byId(`show-${role}`).addEventListener("change", () => this.#show());
    this.place.addEventListener("keydown", (event) => this.#onKey(event));
    new ResizeObserver(debounce(() => {
      if (this.place.clientWidth === this.width) return;
      this.#build();
      this.drawSpectrum();
    }, 100)).observe(this.place);
    onTheme(() => { this.#redraw(); this.drawSpectrum(); });
    this.place.addEventListener("pointerdown", () => { this.isPressed = true; });
    for (const end of ["pointerup", "pointercancel"]) {
      document.addEventListener(end, () => {
        if (!this.isPressed) return;
        this.isPressed = false;
        setTimeout(() => this.load()); // what arrived while a span was drawn, after the chart has taken it
      });
    }
  }

  #query(name) { return { name, dim: this.dim(name) }; }

  async #describe(query) { return { query, ...await api.get(api.withQuery("signal", query)) }; }

  /** Shows a content, and the first of its styles. */
  setInputs(content, styles) {
    const wanted = JSON.stringify([content, styles[0] ?? ""]);
    if (this.wanted !== wanted) {
      this.wanted = wanted;
      this.ready = this.#open(content, styles[0], wanted);
    }
    return this.ready;
  }

  async #open(content, styleName, wanted) {
    const style = styleName ? await this.#describe(this.#query(styleName)).catch(() => null) : null;
    const described = await this.#describe(this.#query(content)).catch((error) => {
      if (this.wanted === wanted) this.wanted = null; // it can be tried again
      throw error;
    });
    if (this.wanted !== wanted) return; // another choice came in between
    const isNew = this.sources.content?.query.name !== content;
    if (isNew) {
      this.#clear();
      this.sources = { content: described, style, result: null };
      this.spans.setSignal(described.leads, described.end, described.axis_unit);
      this.isEcg = described.axis_unit === "s" && described.units.every((unit) => unit === "mV");
      byId("signal-speed").value = this.isEcg ? "25" : "0";
      byId("signal-from").value = 0;
      byId("spectrum-lead").replaceChildren(...described.leads.map((lead) => make("option", { value: lead }, lead)));
      await this.#build();
    } else {
      this.sources.style = style;
      await this.load();
    }
    await this.drawSpectrum();
  }

  /** Shows the last step of a job, or its result. */
  showJob(job, ended) { return this.#showResult(ended ? { name: job.output, dim: 1 } : { job: job.id, mark: job.figures.preview }); }

  /** Shows a result in the folder. */
  showResult({ name }) { return this.#showResult({ name, dim: 1 }); }

  clearResult() {
    this.shows.begin(); // one that is on its way is not shown
    this.sources.result = null;
    this.load();
  }

  async #showResult(query) {
    const isNewest = this.shows.begin();
    await this.ready;
    const { content } = this.sources, result = await this.#describe(query);
    if (!isNewest() || !content || content !== this.sources.content) return; // something else is shown by now
    this.sources.result = result;
    await this.load();
    await this.drawSpectrum();
  }

  /** The spans as regions of a job. @param {string} style what happens in them */
  async regions(style, largest) {
    const table = style ? this.spans.table(style !== "chosen") : null;
    if (!table) return {};
    const { name } = await api.upload(table, "spans.csv", largest);
    return { regions: name, region: style === "chosen" ? {} : { span: style } };
  }

  /** Start and end of what is shown. */
  #window() {
    const { end } = this.sources.content, speed = Number(byId("signal-speed").value);
    const length = speed ? Math.min(end, (this.width - 60) / (speed * PX_PER_MM)) : end;
    const start = (end - length) * Number(byId("signal-from").value) / 1000;
    return [start, start + length];
  }

  /** Shows nothing until another recording is loaded. */
  #clear() {
    for (const { chart } of this.charts) chart.destroy();
    this.charts = [];
    this.data = this.times = null;
    this.place.replaceChildren();
    byId("signal-range").textContent = "";
  }

  /** Makes the charts anew: another recording, width or scale. */
  async #build() {
    if (!this.sources.content || !this.place.clientWidth) return;
    this.width = this.place.clientWidth;
    this.isStale = true;
    await this.load();
  }

  /** Loads what is shown of all traces, and draws them together. */
  async #load() {
    const { content } = this.sources;
    if (!content || !this.width) return;
    const [start, end] = this.spans.view = this.#window();
    const points = Math.min(4000, 2 * Math.max(200, this.width - 60));
    const rows = await Promise.all(ROLES.map((role) => this.#rows(role, content, { start, end, points })));
    if (content !== this.sources.content || this.isPressed) return; // loaded again at once, or when the pointer is lifted
    const take = (role, number, lead) => (this.sources[role] && rows[number]?.[lead]) ?? null;
    this.data = content.leads.map((_, lead) => Object.fromEntries(ROLES.map((role, number) => [role, take(role, number, lead)])));
    this.times = Array.from({ length: points - points % 2 }, (_, n) => start + (end - start) * n / points);
    if (this.isStale || !this.#fits()) this.#makeCharts();
    this.isStale = false;
    this.#redraw();
    const unit = content.axis_unit || "samples";
    byId("signal-range").textContent = `${start.toFixed(2)} to ${end.toFixed(2)} ${unit} of ${content.end.toFixed(2)}`;
    byId("signal-from").disabled = end - start >= content.end;
    byId("signal-from").setAttribute("aria-valuetext", `from ${start.toFixed(1)} ${unit}`);
  }

  /** The traces of a source in a window, which it keeps until another window is shown. */
  async #rows(role, content, { start, end, points }) {
    const source = this.sources[role];
    if (!source) return null;
    const scale = role === "result" ? source.end / content.end : 1; // a coarse step has fewer samples
    const query = { ...source.query, leads: JSON.stringify(content.leads), start: start * scale, end: end * scale, points };
    const path = api.withQuery("traces", query);
    if (source.path !== path) {
      source.rows = (await api.get(path)).traces;
      source.path = path;
    }
    return source.rows;
  }

  /** Least and largest value of a lead that is loaded. */
  #extent(number) {
    const values = ROLES.flatMap((role) => this.data[number][role] ?? []).filter((value) => value !== null);
    if (!values.length) return [-0.5, 0.5];
    return [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))];
  }

  /** Whether all values lie inside of their charts, and fill them. */
  #fits() {
    return this.charts.every(({ range: [bottom, top] }, number) => {
      const [low, high] = this.#extent(number);
      return low >= bottom && high <= top && (this.isPaper || (high - low) * 4 > top - bottom);
    });
  }

  /** Whether a millivolt has 10 mm, at true scale; other values fill their chart. */
  get isPaper() { return this.isEcg && byId("signal-speed").value !== "0"; }

  #makeCharts() {
    const { content } = this.sources, top = this.place.scrollTop;
    for (const { chart } of this.charts) chart.destroy();
    this.place.replaceChildren();
    this.charts = content.leads.map((lead, number) => {
      const [low, high] = this.#extent(number);
      const middle = (low + high) / 2, span = Math.max(high - low, 1e-6);
      const height = this.isPaper ? Math.min(300, Math.max(70, (span + 0.4) * 10 * PX_PER_MM)) : 110;
      const reach = this.isPaper ? Math.max(height / (20 * PX_PER_MM), span * 0.5) : span * 0.55;
      const range = [middle - reach, middle + reach];
      const box = make("div", { className: "trace", role: "img" });
      this.place.append(make("p", { className: "lead" }, lead), box);
      const chart = traceChart(box, {
        width: this.width, height, paper: this.isPaper, last: number === content.leads.length - 1,
        range: () => range, unit: content.units[number],
        spans: () => this.spans.of(lead),
        onSelect: (start, end) => this.spans.add(start, end),
        onCursor: (one) => this.#say(one, lead, number),
      });
      return { chart, box, lead, range };
    });
    this.place.scrollTop = top;
  }

  #redraw() {
    if (!this.data || !this.times) return;
    const names = ROLES.filter((role) => this.sources[role]);
    this.charts.forEach(({ chart, box, lead }, number) => {
      const empty = this.times.map(() => null);
      chart.setData([this.times, ...ROLES.map((role) => this.data[number][role] ?? empty)]);
      box.setAttribute("aria-label", `Lead ${lead}: ${names.join(", ")}, ${byId("signal-range").textContent}`);
    });
    this.#show();
  }

  #show() {
    for (const { chart } of this.charts) {
      ROLES.forEach((role, number) => {
        const show = byId(`show-${role}`).checked;
        if (chart.series[number + 1].show !== show) chart.setSeries(number + 1, { show });
      });
    }
  }

  #say(chart, lead, number) {
    const index = chart.cursor.idx;
    if (index == null || !this.times || !chart.cursor.event) return;
    const unit = this.sources.content.units[number];
    const parts = ROLES.map((role) => [role, this.data[number][role]?.[index]])
      .filter(([, value]) => value != null).map(([role, value]) => `${role} ${value} ${unit}`);
    byId("signal-cursor").textContent = `${lead}, ${this.times[index].toFixed(3)}: ${parts.join(", ")}`;
  }

  #onKey(event) {
    const from = byId("signal-from"), speed = byId("signal-speed");
    const step = { ArrowLeft: -25, ArrowRight: 25, Home: -1000, End: 1000 }[event.key];
    const zoom = { "+": 1, "-": -1 }[event.key];
    if (event.target !== this.place || (!step && !zoom)) return;
    event.preventDefault();
    if (step) {
      from.value = Number(from.value) + step;
      this.load();
    } else {
      speed.selectedIndex = Math.min(speed.options.length - 1, Math.max(0, speed.selectedIndex + zoom));
      this.#build();
    }
  }

  async #drawSpectrum() {
    const lead = byId("spectrum-lead").value, place = byId("spectrum"), { content } = this.sources;
    if (!lead || !content || !place.clientWidth) return;
    const roles = ROLES.filter((role) => this.sources[role]);
    const spectra = await Promise.all(roles.map(async (role) =>
      (await api.get(api.withQuery("spectrum", { ...this.sources[role].query, lead }))).spectrum));
    if (content !== this.sources.content) return; // drawn again at once
    const curves = roles.map((label, number) => ({ label, x: spectra[number]?.frequency, y: spectra[number]?.density }))
      .filter((curve) => curve.x);
    place.replaceChildren();
    const unit = content.units[content.leads.indexOf(lead)] || "unit";
    curveChart(place, { width: place.clientWidth, height: 220, x: content.axis_unit ? "Hz" : "cycles per sample",
      y: content.axis_unit ? `dB (${unit}²/Hz)` : `dB (${unit}²)` }, curves);
    place.setAttribute("aria-label", `Power spectra of lead ${lead}: ${roles.join(", ")}`);
  }
}
