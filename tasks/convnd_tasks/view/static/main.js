// The page of convnd view: puts its parts together.

import * as api from "./api.js";
import { Chooser } from "./chooser.js";
import { Dials } from "./dials.js";
import { attempt, byId, debounce, make } from "./dom.js";
import { JobList, isActive } from "./jobs.js";
import { showResults } from "./results.js";
import { Stage } from "./stage.js";

const CHANGE_AFTER = 150; // milliseconds without a movement of a dial
const PREVIEW_AFTER = 250;

const state = await api.get("state");
const place = state.read_only ? `${state.folder} (only shown)` : state.folder;
byId("folder").textContent = place;
const stage = new Stage();
const refresh = () => attempt(() => showResults(state.read_only, jobs));
const jobs = new JobList(stage, state.read_only, refresh, larger);
let pending = {}; // dials that moved since the last change was sent
let previewing = null;

const dials = new Dials((name, live) => {
  const job = jobs.current;
  if (job && isActive(job)) {
    if (live) { pending[name] = String(dials.value(name)); sendChanges(); }
  } else if (job) {
    if (live) pending[name] = String(dials.value(name));
    jobs.offerChanges(Object.keys(pending).length > 0);
  } else preview();
});
const chooser = new Chooser(state, () => {
  jobs.select(null);
  stage.hideAfter();
  dials.showWeights(chooser.chosen, chooser.nameOf);
  showContent();
  showRegionStyles();
  preview();
});

byId("apply").addEventListener("click", () => {
  const options = pending;
  pending = {};
  jobs.offerChanges(false);
  attempt(() => api.post("continue", { job: jobs.shown, options }));
});

const sendChanges = debounce(() => {
  const options = pending, job = jobs.current;
  pending = {};
  if (job) attempt(() => api.post("change", { job: job.id, options }));
}, CHANGE_AFTER);

const preview = debounce(async () => {
  if (state.read_only || !chooser.content || !chooser.chosen.length) return;
  previewing?.abort();
  previewing = new AbortController();
  const began = performance.now(), { signal } = previewing;
  byId("preview-note").textContent = "Preview …";
  await attempt(async () => {
    const typed = { content: chooser.content, styles: chooser.chosen, options: dials.previewOptions() };
    const { preview: number } = await (await api.post("preview", typed, signal)).json();
    const address = `api/preview?number=${number}`;
    if (!signal.aborted && !jobs.current) await stage.showAfter(address, "Preview");
  });
  if (!signal.aborted) {
    byId("preview-note").textContent = `Preview after ${((performance.now() - began) / 1000).toFixed(1)} s`;
  }
}, PREVIEW_AFTER);

function showContent() {
  if (chooser.content) stage.showBefore(api.thumbnail(chooser.content, 1024), `Content ${chooser.nameOf(chooser.content)}`);
}

function showRegionStyles() {
  const select = byId("region-style"), before = select.value;
  const styles = chooser.styles.map((name) => make("option", { value: name }, chooser.nameOf(name)));
  select.replaceChildren(make("option", { value: "" }, "no region"), make("option", { value: "keep" }, "the content stays"), ...styles);
  select.value = before;
}

/** What the form describes, as a job. */
async function describe() {
  const typed = { content: chooser.content, styles: chooser.chosen, options: dials.options() };
  const style = byId("region-style").value, map = style ? await stage.brush.map() : null;
  if (!map) return typed;
  const regions = await api.upload(map, "region.png", state.largest_upload);
  return { ...typed, regions, region: { red: style } };
}

async function start(typed) {
  pending = {};
  const { job } = await (await api.post("start", typed)).json();
  jobs.select(job);
}

/** Goes on from a result at a larger size. */
function larger(job) {
  attempt(async () => {
    const [content, ...styles] = job.inputs;
    const options = { ...dials.options(), size: 4096, scales: 1, steps: 20 };
    await start({ content, styles, init: job.output, options });
  });
}

byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(async () => {
    if (!chooser.content || !chooser.chosen.length) throw new Error("Choose a content and at least one style.");
    await start(await describe());
  });
});
for (const name of ["dragover", "drop"]) document.addEventListener(name, (event) => event.preventDefault());

byId("choose").hidden = byId("queue-section").hidden = state.read_only;
showContent();
dials.showWeights(chooser.chosen, chooser.nameOf);
showRegionStyles();
preview();
refresh();
let first = true;
api.listen((list) => {
  if (first && list.some(isActive)) jobs.shown = list.find(isActive).id; // a reload loses nothing
  first = false;
  jobs.update(list);
}, (connected) => {
  byId("folder").textContent = connected ? place : `${place} – the server does not answer`;
});
