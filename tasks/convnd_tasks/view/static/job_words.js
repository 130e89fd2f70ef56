// The words of a job's command as the request that made it.

const PLACE = /^\{(\d+)\}$/;
const OWN = ["dim", "init"]; // the server sets the first; the second is where a job began

/** What a job was asked to do, with the dials as they stand now. @param {any} job */
export function describeJob({ line, inputs, kind, figures }) {
  const typed = { kind, content: inputs[0], styles: [], options: {} };
  const named = (value) => { const place = PLACE.exec(value); return place ? inputs[place[1]] : value; };
  for (const word of line) {
    const found = /^--([a-z][a-z0-9-]*)(?:=(.*))?$/.exec(word);
    if (!found || OWN.includes(found[1])) continue;
    const [, name, value] = found, inside = /^([^=]+)=(.*)$/.exec(value ?? "");
    if (name === "style") typed.styles.push(named(value));
    else if (["mask", "regions"].includes(name)) typed[name] = named(value);
    else if (["region", "keyframe"].includes(name)) typed[name] = { ...typed[name], [inside[1]]: named(inside[2]) };
    else typed.options[name] = value ?? true;
  }
  for (const change of figures.changes ?? []) { // "30:strength=0.5"
    const found = /^\d+:([a-z-]+)=(.*)$/.exec(change);
    if (found) typed.options[found[1]] = found[2].replaceAll(":", ",");
  }
  return typed;
}
