// The results in the folder, with the settings in their records.

import * as api from "./api.js";
import { attempt, byId, make, smallPicture } from "./dom.js";

const SHOWN = ["--strength", "--style-scale", "--colors", "--size", "--style-weights", "--change"];

/** The settings of a result in one line. */
function summary(record) {
  if (!record) return "no record of how it was made";
  const [content, ...styles] = record.inputs;
  const options = record.line.filter((word) => SHOWN.includes(word.split("=")[0])).map((word) => word.slice(2));
  return `${content} + ${styles.join(", ")}; ${options.join(", ")}`;
}

/**
 * @param {any[]} results @param {boolean} readOnly @param {import("./jobs.js").JobList} jobs
 * @param {(result: any) => void} onShow
 */
export function showResults(results, readOnly, jobs, onShow) {
  byId("results").replaceChildren(...results.map((result) => {
    const { name, record } = result;
    const picture = smallPicture(api.thumbnail(name, 256), `Result ${name}`);
    const facts = record && [
      record.fields.steps_taken && `${record.fields.steps_taken} steps`,
      record.fields.loss && `loss ${record.fields.loss}`,
      record.fields.stopped && "stopped early",
    ].filter(Boolean).join(", ");
    const caption = make("figcaption", {}, make("strong", {}, name), make("p", {}, summary(record)));
    if (facts) caption.append(make("p", {}, facts));
    const figures = Object.entries(record?.figures ?? {});
    if (figures.length) {
      const list = figures.map(([key, text]) => make("li", {}, `${key.replaceAll("_", " ")}: ${text}`));
      caption.append(make("details", {}, make("summary", {}, "Figures"), make("ul", {}, ...list)));
    }
    const row = make("div", { className: "row" });
    const look = make("button", { type: "button", "aria-label": `Show ${name}` }, "Show");
    look.addEventListener("click", () => {
      jobs.select(null);
      onShow(result);
      byId("stage").focus();
    });
    row.append(look);
    row.append(make("a", { className: "button", href: `${api.file(name)}&download=1`, download: name, "aria-label": `Download ${name}` }, "Download"));
    if (record && !readOnly) {
      const again = make("button", { type: "button", "aria-label": `Make ${name} again` }, "Again");
      again.addEventListener("click", () => attempt(async () => {
        jobs.select((await (await api.post("again", { name })).json()).job);
      }));
      row.append(again);
    }
    caption.append(row);
    return make("figure", {}, picture, caption);
  }));
  if (!results.length) byId("results").append(make("p", {}, "No result yet."));
}
