// The page of convnd view: puts its parts together.

import * as api from "./api.js";
import { Chooser } from "./chooser.js";
import { ClipView } from "./clips.js";
import { Dials } from "./dials.js";
import { Newest, alertUser, attempt, byId, debounce, inBackground, make } from "./dom.js";
import { describeJob } from "./job_words.js";
import { JobList, isActive } from "./jobs.js";
import { KINDS } from "./kinds.js";
import { showResults } from "./results.js";
import { ScanView } from "./scans.js";
import { SignalView } from "./signals.js";
import { PictureView } from "./stage.js";
import { UnitView } from "./units.js";

const CHANGE_AFTER = 150; // milliseconds without a movement of a dial
const STARTING = "convnd starting"; // in the storage of this tab, while a job that it has started is not known yet
const PREVIEW_AFTER = { dial: 250, choice: 20 }; // milliseconds

const state = await api.get("state");
const place = state.read_only ? `${state.folder} (only shown)` : state.folder;
byId("folder").textContent = place;
const dim = (name) => chooser.dim(name);
const views = { pictures: new PictureView(dim), signals: new SignalView(dim), volumes: new ScanView(dim, state.niivue), units: new UnitView(),
  videos: new ClipView(dim, { builtIn: state.built_in.videos.contents, onPicture: (name) => { chooser.offer(name, "pictures"); refresh(); } }) };
const viewOf = (kind) => views[kind] ?? views.pictures;
const refreshes = new Newest();
const refresh = () => inBackground(async () => {
  const isNewest = refreshes.begin(), { results, inputs } = await api.get("results");
  if (!isNewest()) return; // a later list is on its way
  showResults(results, state.read_only, jobs, showResult);
  chooser.offerFiles(inputs);
  const pictures = results.filter(({ kind }) => kind === "pictures").map(({ name }) => name);
  views.videos.offerPictures([...pictures, ...chooser.files("pictures")]);
});
const jobs = new JobList(viewOf, state.read_only, { onFinish: refresh, onLarger: larger, onSelect: showInputs });
let pending = {}; // dials that moved since the last change was sent
let changing = ""; // the job that they change
let previewing = null, previewTimer = 0;

const dials = new Dials((name, live) => {
  const job = jobs.current;
  if (job && isActive(job)) {
    if (live) {
      if (changing !== job.id) pending = {};
      changing = job.id;
      pending[name] = String(dials.value(name));
      sendChanges();
    }
  } else if (job) {
    if (live) pending[name] = String(dials.value(name));
    jobs.offerChanges(Object.keys(pending).length > 0);
  } else preview(PREVIEW_AFTER.dial);
});
const chooser = new Chooser(state, () => {
  jobs.select(null);
  viewOf(chooser.kind).clearResult();
  dials.showWeights(chooser.chosen, chooser.nameOf);
  showContent();
  showRegionStyles();
  preview();
}, setKind);

/** Shows the parts of the page for a kind of data. */
function setKind(kind) {
  byId("main").dataset.kind = kind;
  byId(`kind-${kind}`).checked = true;
  byId("choose-title").textContent = KINDS[kind].make;
  byId("stage-title").textContent = KINDS[kind].stage;
  dials.setKind(kind);
  chooser.setKind(kind);
  byId("preview-note").textContent = "";
  dials.showWeights(chooser.chosen, chooser.nameOf);
  showRegionStyles();
}

byId("kinds").append(...Object.entries(KINDS).filter(([kind]) => kind in views).map(([kind, { title }]) => {
  const input = make("input", { type: "radio", name: "kind", id: `kind-${kind}`, value: kind });
  input.addEventListener("change", () => {
    jobs.select(null);
    setKind(kind);
    showContent();
    preview();
  });
  return make("label", {}, input, title);
}));

byId("apply").addEventListener("click", () => {
  const options = pending;
  pending = {};
  jobs.offerChanges(false);
  attempt(() => api.post("continue", { job: jobs.shown, options }));
});

const sendChanges = debounce(() => {
  const options = pending;
  pending = {};
  if (jobs.jobs.some((job) => job.id === changing && isActive(job))) attempt(() => api.post("change", { job: changing, options }));
}, CHANGE_AFTER);

/** Makes an instant preview soon; one that is on its way is not shown. */
function preview(after = PREVIEW_AFTER.choice) {
  previewing?.abort();
  byId("preview-note").textContent = "";
  clearTimeout(previewTimer);
  previewTimer = setTimeout(makePreview, after);
}

async function makePreview() {
  if (state.read_only || chooser.kind !== "pictures" || !chooser.content || !chooser.chosen.length) return;
  previewing = new AbortController();
  const began = performance.now(), { signal } = previewing;
  byId("preview-note").textContent = "Preview …";
  const isShown = await inBackground(async () => {
    const typed = { content: chooser.content, styles: chooser.chosen, options: dials.previewOptions() };
    const { preview: number } = await (await api.post("preview", typed, signal)).json();
    const address = `api/preview?number=${number}`;
    return !signal.aborted && !jobs.shown && views.pictures.showAfter(address, "Preview");
  });
  if (signal.aborted) return;
  byId("preview-note").textContent = isShown ? `Preview after ${((performance.now() - began) / 1000).toFixed(1)} s` : "";
}

function showContent() {
  if (chooser.content || chooser.kind === "units") inBackground(() => viewOf(chooser.kind).setInputs(chooser.content, chooser.chosen));
}

/** Shows the inputs of a job, as far as its kind of data does. */
function showInputs(job) {
  if (!(job.kind in views) || !job.inputs.length) return;
  if (job.kind !== chooser.kind) setKind(job.kind);
  inBackground(() => views[job.kind].setInputs(job.inputs[0], describeJob(job).styles));
}

/** Shows a result of the folder, with its content where that is known. */
async function showResult(result) {
  const kind = result.kind in views ? result.kind : "pictures";
  if (kind !== chooser.kind) setKind(kind);
  await attempt(async () => {
    const [content, ...styles] = result.record?.found ?? [];
    await views[kind].setInputs(content ?? result.name, styles.filter(Boolean));
    await views[kind].showResult(result);
  });
}

function showRegionStyles() {
  const select = byId("region-style"), before = select.value;
  const options = [["", "no region"], ["keep", "the content stays"], ...chooser.styles.map((name) => [name, chooser.nameOf(name)])];
  if (chooser.kind !== "pictures") options.splice(1, 0, ["chosen", "the chosen styles; elsewhere the content stays"]);
  select.replaceChildren(...options.map(([value, text]) => make("option", { value }, text)));
  select.value = options.some(([value]) => value === before) ? before : "";
}

/** What the form describes, as a job. */
async function describe() {
  const { kind, content, chosen: styles } = chooser;
  const regions = await viewOf(kind).regions(byId("region-style").value, state.largest_upload);
  return { kind, content, styles, options: dials.options(), ...regions };
}

async function start(typed, options = {}) {
  pending = {};
  sessionStorage.setItem(STARTING, "1");
  const answer = await api.post("start", { ...typed, options: { ...typed.options, ...options } }).catch((error) => {
    if (error.message !== api.NO_ANSWER) sessionStorage.removeItem(STARTING); // a page that is left gets no answer
    throw error;
  });
  sessionStorage.removeItem(STARTING);
  jobs.select((await answer.json()).job);
  const stage = byId("stage"), { top } = stage.getBoundingClientRect();
  if (top < 0 || top > innerHeight / 2) stage.scrollIntoView(); // people want to see the steps
}

/** Goes on from a result at a larger size, with everything that it was made with. */
function larger(job) {
  attempt(() => start({ ...describeJob(job), init: job.output }, { size: 4096, scales: 1, steps: 20 }));
}

byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(async () => {
    const typed = await describe();
    const needsContent = typed.kind !== "units";
    if ((needsContent && !typed.content) || !(typed.styles.length || typed.keyframe)) {
      throw new Error(needsContent ? "Choose a content and at least one style." : "Choose at least one picture to search.");
    }
    await start(typed);
  });
});
for (const name of ["dragover", "drop"]) document.addEventListener(name, (event) => event.preventDefault());

byId("choose").hidden = byId("queue-section").hidden = state.read_only;
setKind(state.kind);
showContent();
preview();
refresh();
if (state.series.length) {
  const { name, place: number } = state.series[0];
  chooser.chooseSeries(chooser.nameOf(name).split(" - ")[0], state.series, number ? "style" : "content");
}
let first = true, starting = sessionStorage.getItem(STARTING) !== null; // it was reloaded before the answer
sessionStorage.removeItem(STARTING);
api.listen((list) => {
  if ((first || starting) && list.some(isActive)) { // a reload loses nothing
    starting = false;
    jobs.jobs = list;
    jobs.select((list.find(({ state: now }) => now === "running") ?? list.find(isActive)).id);
  }
  first = false;
  jobs.update(list);
}, (connected) => {
  if (connected && byId("alert").textContent === api.NO_ANSWER) alertUser("");
  byId("folder").textContent = connected ? place : `${place} – the server does not answer`;
});
