// Curves, drawn by uPlot (vendor/): colours of the page, ECG paper, spans.

const COLORS = ["content", "style", "result"];
const AXIS = 52; // px of the vertical axis, the same in all charts, so that they lie below each other

/** A colour of the page, light or dark. */
export const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** Calls back when the browser changes between light and dark. */
export function onTheme(work) {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", work);
}

const WHOLE = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000]; // steps between ticks

const axis = (more) => ({
  stroke: () => color("soft"), font: "12px system-ui, sans-serif",
  grid: { stroke: () => color("line"), width: 0.5 }, ticks: { stroke: () => color("line"), width: 0.5 }, ...more,
});

const lines = (labels) => labels.map((label) => ({
  label, stroke: () => color(`trace-${label}`), width: label === "result" ? 1.4 : 1, points: { show: false }, spanGaps: false,
}));

/** Draws squares of 1 and 5 mm behind a trace: 25 mm a second, 10 mm a millivolt. */
function drawPaper(chart) {
  const { ctx, bbox } = chart;
  ctx.save();
  ctx.fillStyle = color("paper");
  ctx.fillRect(bbox.left, bbox.top, bbox.width, bbox.height);
  for (const [millimetres, name] of [[1, "paper-fine"], [5, "paper-bold"]]) {
    const seconds = millimetres / 25, millivolts = millimetres / 10;
    const wide = chart.valToPos(seconds, "x", true) - chart.valToPos(0, "x", true);
    if (wide < 3) continue; // finer than can be seen
    ctx.beginPath();
    const { min, max } = chart.scales.x, { min: low, max: high } = chart.scales.y;
    for (let n = Math.ceil(min / seconds); n * seconds <= max; n += 1) {
      const x = Math.round(chart.valToPos(n * seconds, "x", true)) + 0.5;
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
    }
    for (let n = Math.ceil(low / millivolts); n * millivolts <= high; n += 1) {
      const y = Math.round(chart.valToPos(n * millivolts, "y", true)) + 0.5;
      ctx.moveTo(bbox.left, y);
      ctx.lineTo(bbox.left + bbox.width, y);
    }
    ctx.strokeStyle = color(name);
    ctx.lineWidth = 1;
    ctx.stroke();
  }
  ctx.restore();
}

function drawSpans(chart, spans) {
  const { ctx, bbox } = chart;
  ctx.save();
  ctx.fillStyle = color("span");
  for (const { start, end } of spans) {
    const left = Math.max(bbox.left, chart.valToPos(start, "x", true));
    const right = Math.min(bbox.left + bbox.width, chart.valToPos(end, "x", true));
    if (right > left) ctx.fillRect(left, bbox.top, right - left, bbox.height);
  }
  ctx.restore();
}

/**
 * A trace over time: content, style and result of one lead.
 * @param {HTMLElement} place
 * @param {{ width: number, height: number, paper: boolean, last: boolean, range: () => [number, number], unit: string,
 *   spans: () => any[], onSelect: (start: number, end: number) => void, onCursor: (chart: any) => void }} settings
 */
export function traceChart(place, settings) {
  const { width, height, paper, last, range, unit, spans, onSelect, onCursor } = settings;
  const chart = new uPlot({
    width, height: height + (last ? 34 : 4), legend: { show: false }, padding: [2, 6, 2, 0],
    scales: { x: { time: false }, y: { range } },
    axes: [axis({ show: last, size: 32, grid: { show: !paper, stroke: () => color("line"), width: 0.5 } }),
      axis({ size: AXIS, label: unit, labelSize: 14, labelFont: "12px system-ui, sans-serif", space: 24,
        grid: { show: !paper, stroke: () => color("line"), width: 0.5 } })],
    series: [{}, ...lines(COLORS)],
    cursor: { sync: { key: "leads", filters: { sub: (type) => type.startsWith("mousem") || type === "mouseleave" } }, drag: { x: true, y: false, setScale: false }, points: { size: 5 } },
    hooks: {
      drawClear: paper ? [drawPaper] : [],
      drawAxes: [(one) => drawSpans(one, spans())],
      setCursor: [onCursor],
      setSelect: [(one) => {
        const { left, width: wide } = one.select;
        if (wide > 2) onSelect(one.posToVal(left, "x"), one.posToVal(left + wide, "x"));
        one.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
      }],
    },
  }, [[0, 1], [null, null], [null, null], [null, null]], place);
  return chart;
}

/** Numbers beside an axis, with as many digits as tell them apart. @param {any} chart @param {number[]} places */
function distinct(chart, places) {
  const step = Math.abs(places[1] - places[0]) || 1, digits = Math.min(8, Math.max(0, Math.ceil(-Math.log10(step) - 1e-9)));
  return places.map((place) => place.toFixed(digits));
}

/**
 * Curves with horizontal axes of their own.
 * @param {HTMLElement} place @param {{ width: number, height: number, x: string, y: string }} settings
 * @param {{ label: string, x: number[], y: number[] }[]} curves
 */
export function curveChart(place, { width, height, x, y }, curves) {
  const labelFont = "12px system-ui, sans-serif";
  const data = curves.length ? uPlot.join(curves.map((curve) => [curve.x, curve.y])) : [[0, 1]];
  return new uPlot({
    width, height, legend: { show: false }, padding: [8, 8, 0, 0],
    scales: { x: { time: false } },
    axes: [axis({ label: x, labelSize: 18, labelFont, size: 34, ...(x === "frame" ? { incrs: WHOLE } : {}) }), axis({ label: y, labelSize: 18, labelFont, size: AXIS + 12, values: distinct })],
    series: [{}, ...lines(curves.map((curve) => curve.label)).map((line, number) =>
      ({ ...line, spanGaps: true, points: { show: curves[number].x.length < 20, size: 5 } }))],
  }, data, place);
}
