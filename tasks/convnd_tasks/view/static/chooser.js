// Content and styles: built-in ones and the user's, as tiles; files are dropped or chosen.

import { MOST_FILES, RequestFailed, thumbnail, upload, uploadSeries } from "./api.js";
import { alertUser, attempt, byId, make, setText, smallPicture } from "./dom.js";
import { KINDS, dimOf } from "./kinds.js";

export const baseName = (name) => name.split("/").pop();

/** Kinds of styles that a kind of content takes, besides its own. */
const FURTHER_STYLES = { volumes: ["pictures"], videos: ["pictures"] };

const MOST_OFFERED = 12; // files of the folder, of each kind

const ARRAY = /\.np[yz]$/i;
const COMPANION = /\.(dat|atr)$/i; // lies beside a file that names it

const DICOM = /\.dcm$/i;
const NO_SLICE = /^(\.|DICOMDIR$|Thumbs\.db$)/i; // in folders of DICOM files

/** The files of a folder that was dropped, also in folders below. */
async function filesBelow(folder) {
  const files = [], waiting = [folder];
  const ask = (work) => new Promise(work);
  let seen = 0;
  while (waiting.length) {
    const entry = waiting.pop();
    seen += 1;
    if (seen > 2 * MOST_FILES) throw new RequestFailed(`${folder.name} holds more than ${MOST_FILES} files; drop the folder of one series`);
    if (entry.isFile) files.push(await ask((take, refuse) => entry.file(take, refuse)));
    else {
      const reader = entry.createReader();
      for (let part = [null]; part.length;) { // in parts of about a hundred
        part = await ask((take, refuse) => reader.readEntries(take, refuse));
        waiting.push(...part);
      }
    }
  }
  return files;
}

/** The files without notes and indices, sorted by name. @param {File[]} files */
const slices = (files) => files.filter(({ name }) => !NO_SLICE.test(name)).sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));

export class Chooser {
  /** @param {any} state @param {() => void} onChange @param {(kind: string) => void} onKind */
  constructor(state, onChange, onKind) {
    this.state = state;
    this.onChange = onChange;
    this.onKind = onKind;
    this.lists = Object.fromEntries(Object.entries(state.built_in).map(([kind, { contents, styles }]) =>
      [kind, { contents: [...contents], styles: [...styles], content: null, chosen: [] }]));
    this.kind = state.kind;
    const [content, ...styles] = state.chosen;
    if (content) this.#put(content, "content", this.kind);
    for (const name of styles) this.#put(name, "style", this.kind);
    byId("series-close").addEventListener("click", () => byId("series").close());
    for (const zone of document.querySelectorAll(".drop")) this.#listen(zone);
    for (const input of document.querySelectorAll("input[webkitdirectory]")) {
      input.addEventListener("change", () => {
        const files = [...input.files], name = files[0]?.webkitRelativePath.split("/")[0];
        input.value = "";
        if (name) this.#takeFolders([name], async () => files, input.dataset.role);
      });
    }
  }

  get content() { return this.lists[this.kind].content; }
  get chosen() { return this.lists[this.kind].chosen; }
  get styles() { return this.lists[this.kind].styles; }

  #listen(zone) {
    const input = zone.querySelector("input"), role = zone.dataset.role;
    input.addEventListener("change", () => {
      const files = [...input.files];
      input.value = ""; // so that the same file can be chosen again
      this.#take(files, role);
    });
    zone.addEventListener("dragover", (event) => { event.preventDefault(); zone.classList.add("over"); });
    zone.addEventListener("dragleave", () => zone.classList.remove("over"));
    zone.addEventListener("drop", (event) => {
      event.preventDefault();
      zone.classList.remove("over");
      const items = [...event.dataTransfer.items].filter(({ kind }) => kind === "file");
      const folders = items.map((item) => item.webkitGetAsEntry()).filter((entry) => entry?.isDirectory); // later they are gone
      const files = [...event.dataTransfer.files].filter(({ name }) => !folders.some((folder) => folder.name === name));
      this.#takeFolders(folders.map(({ name }) => name), (number) => filesBelow(folders[number]), role);
      this.#take(files, role);
    });
  }

  /** Takes folders that hold a DICOM series each. */
  async #takeFolders(names, list, role) {
    for (const [number, name] of names.entries()) await this.#takeSeries(name, () => list(number), role);
  }

  async #takeSeries(name, list, role) {
    const sent = await attempt(async () => {
      const files = slices(await list());
      if (!files.length) throw new RequestFailed(`${name} holds no files.`);
      return this.#sending(name, () => uploadSeries(files, name, this.state.largest_upload));
    });
    if (!sent) return;
    if (sent.series.length > 1) this.chooseSeries(name, sent.series, role);
    else this.add(sent.name, role, sent.kind);
  }

  /** Lets people choose one of several series; the others stay among the tiles. @param {any[]} series */
  chooseSeries(name, series, role) {
    for (const one of [...series].reverse()) this.offer(one.name, "volumes", role);
    if (this.kind === "volumes") this.draw();
    const dialog = byId("series");
    byId("series-title").textContent = `${name} holds ${series.length} series. Which one?`;
    byId("series-list").replaceChildren(...series.map((one) => {
      const count = `${one.slices} slice${one.slices === 1 ? "" : "s"}`;
      const button = make("button", { type: "button" }, [one.text, one.modality, count].filter(Boolean).join(", "));
      button.addEventListener("click", () => { dialog.close(); this.add(one.name, role, "volumes"); });
      return make("li", {}, button);
    }));
    dialog.showModal();
  }

  /** Says what is being sent while it is. */
  async #sending(name, work) {
    setText(byId("sending"), `Sending ${name} …`);
    try { return await work(); } finally { setText(byId("sending"), ""); }
  }

  async #take(files, role) {
    if (files.length > 1 && files.every(({ name }) => DICOM.test(name))) { // slices of one scan
      await this.#takeSeries(files[0].name.replace(DICOM, ""), async () => files, role);
      return;
    }
    const taken = [];
    for (const file of files) {
      const sent = await attempt(() => this.#sending(file.name, () => upload(file, file.name, this.state.largest_upload)));
      if (!sent) continue;
      if (this.kind === "signals" && ARRAY.test(sent.name)) sent.kind = "signals"; // an array does not tell
      if (sent.kind) taken.push(sent);
      else if (!COMPANION.test(sent.name)) alertUser(`${baseName(sent.name)} does not tell what it holds: an array of numbers is taken under Signals, or on the command line.`);
    }
    for (const { name, kind } of taken) this.add(name, role, kind);
  }

  /** Adds a file of the folder, and chooses it; a content of another kind changes the kind of the page. */
  add(name, role, kind) {
    const styles = [this.kind, ...(FURTHER_STYLES[this.kind] ?? [])];
    const stays = role === "style" && (styles.includes(kind) || (this.kind === "units" && kind === "pictures"));
    const target = stays ? this.kind : kind;
    this.#put(name, role, target);
    if (target !== this.kind) this.onKind(target);
    this.draw();
    this.onChange();
  }

  #put(name, role, kind) {
    const lists = this.lists[kind];
    const list = role === "content" ? lists.contents : lists.styles;
    if (!list.includes(name)) list.unshift(name);
    if (role === "content") lists.content = name;
    else if (!lists.chosen.includes(name)) lists.chosen.push(name);
  }

  /** Adds a file to the contents or styles of a kind, without choosing it. */
  offer(name, kind, role = "content") {
    const lists = this.lists[kind], list = role === "content" ? lists.contents : lists.styles;
    if (!list.includes(name)) list.unshift(name);
  }

  /** Adds the newest files of the folder after those that people have chosen. @param {{ name: string, kind: string }[]} files */
  offerFiles(files) {
    const before = JSON.stringify(this.lists);
    for (const [kind, lists] of Object.entries(this.lists)) {
      const names = files.filter((file) => file.kind === kind).slice(0, MOST_OFFERED).map(({ name }) => name);
      for (const role of ["contents", "styles"]) {
        const builtIn = this.state.built_in[kind][role];
        const own = lists[role].filter((name) => !builtIn.includes(name));
        lists[role] = [...new Set([...own, ...names, ...builtIn])];
      }
    }
    if (JSON.stringify(this.lists) === before) return;
    const focused = document.activeElement, list = focused?.closest("#contents, #styles");
    this.draw();
    if (list) [...list.children].find(({ textContent }) => textContent === focused.textContent)?.focus();
  }

  /** The files among the contents and styles of a kind, without built-in ones. */
  files(kind) {
    const { contents, styles } = this.lists[kind], builtIn = this.state.built_in[kind];
    return [...new Set([...contents, ...styles])].filter((name) => !builtIn.contents.includes(name) && !builtIn.styles.includes(name));
  }

  nameOf(name) { return baseName(name); }

  /** The number of axes of an input, for built-in ones. */
  dim(name) { return dimOf(this.kind, name, this.state); }

  #tile(name, pressed, onClick) {
    const picture = name === "matching" ? make("span", { className: "no-picture" }, "of its modality")
      : smallPicture(thumbnail(name, 128, this.dim(name)), "");
    const tile = make("button", { type: "button", className: "tile", "aria-pressed": pressed }, picture, baseName(name));
    tile.addEventListener("click", onClick);
    return tile;
  }

  /** Shows the inputs of a kind of data. */
  setKind(kind) {
    this.kind = kind;
    const words = KINDS[kind];
    byId("content-box").hidden = !words.content;
    byId("content-hint").textContent = words.content;
    byId("style-hint").textContent = words.style;
    byId("styles-legend").textContent = kind === "units" ? "Pictures to search" : "Styles";
    for (const input of document.querySelectorAll(".drop input")) {
      input.accept = words.accept;
      input.multiple = input.id === "style-file" || kind === "signals";
    }
    this.draw();
  }

  draw() {
    const lists = this.lists[this.kind];
    byId("contents").replaceChildren(...lists.contents.map((name, number) =>
      this.#tile(name, name === lists.content, () => {
        lists.content = name;
        this.draw();
        this.onChange();
        byId("contents").children[number].focus();
      })));
    byId("styles").replaceChildren(...lists.styles.map((name, number) =>
      this.#tile(name, lists.chosen.includes(name), () => {
        lists.chosen = lists.chosen.includes(name)
          ? lists.chosen.filter((other) => other !== name) : [...lists.chosen, name];
        this.draw();
        this.onChange();
        byId("styles").children[number].focus();
      })));
  }
}
