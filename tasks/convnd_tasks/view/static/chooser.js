// Content and styles: built-in ones and the user's, as tiles; files are dropped or chosen.

import { thumbnail, upload } from "./api.js";
import { attempt, byId, make } from "./dom.js";

const baseName = (name) => name.split("/").pop();

export class Chooser {
  /** @param {any} state @param {() => void} onChange */
  constructor(state, onChange) {
    this.state = state;
    this.onChange = onChange;
    this.contents = [...state.contents];
    this.styles = [...state.styles];
    [this.content = null] = state.chosen;
    this.chosen = state.chosen.slice(1);
    for (const name of state.chosen.slice(0, 1)) if (!this.contents.includes(name)) this.contents.unshift(name);
    for (const name of this.chosen) if (!this.styles.includes(name)) this.styles.unshift(name);
    for (const zone of document.querySelectorAll(".drop")) this.#listen(zone);
    this.draw();
  }

  #listen(zone) {
    const input = zone.querySelector("input"), role = zone.dataset.role;
    input.addEventListener("change", () => this.#take([...input.files], role));
    zone.addEventListener("dragover", (event) => { event.preventDefault(); zone.classList.add("over"); });
    zone.addEventListener("dragleave", () => zone.classList.remove("over"));
    zone.addEventListener("drop", (event) => {
      event.preventDefault();
      zone.classList.remove("over");
      this.#take([...event.dataTransfer.files], role);
    });
  }

  async #take(files, role) {
    for (const file of files) {
      const name = await attempt(() => upload(file, file.name, this.state.largest_upload));
      if (name) this.add(name, role);
    }
  }

  /** Adds a file of the folder, and chooses it. */
  add(name, role) {
    const list = role === "content" ? this.contents : this.styles;
    if (!list.includes(name)) list.unshift(name);
    if (role === "content") this.content = name;
    else if (!this.chosen.includes(name)) this.chosen.push(name);
    this.draw();
    this.onChange();
  }

  nameOf(name) { return baseName(name); }

  #tile(name, pressed, onClick) {
    const picture = make("img", { src: thumbnail(name, 128), alt: "", loading: "lazy" });
    const tile = make("button", { type: "button", className: "tile", "aria-pressed": pressed }, picture, baseName(name));
    tile.addEventListener("click", onClick);
    return tile;
  }

  draw() {
    byId("contents").replaceChildren(...this.contents.map((name, number) =>
      this.#tile(name, name === this.content, () => {
        this.content = name;
        this.draw();
        this.onChange();
        byId("contents").children[number].focus();
      })));
    byId("styles").replaceChildren(...this.styles.map((name) =>
      this.#tile(name, this.chosen.includes(name), () => {
        const number = this.styles.indexOf(name);
        this.chosen = this.chosen.includes(name)
          ? this.chosen.filter((other) => other !== name) : [...this.chosen, name];
        this.draw();
        this.onChange();
        byId("styles").children[number].focus();
      })));
  }
}
