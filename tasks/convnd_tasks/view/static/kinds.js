// The kinds of data, in words.

export const KINDS = {
  pictures: { title: "Pictures", make: "Make a picture", content: "Drop a picture here, or choose a file",
    style: "Drop a painting here, or choose a file", accept: "image/*", stage: "Picture", dim: 2 },
  signals: { title: "Signals", make: "Stylise a signal", content: "Drop a recording here (CSV, EDF, WFDB, sound, …), or choose files",
    style: "Drop a recording here, or choose files", accept: "", stage: "Signal", dim: 1 },
  volumes: { title: "Scans", make: "Stylise a scan", content: "Drop a scan here (NIfTI, NRRD, MetaImage, …), or choose a file",
    style: "Drop a scan or a painting here, or choose a file", accept: "", stage: "Scan", dim: 3 },
  videos: { title: "Clips", make: "Stylise a clip", content: "Drop a clip here, or choose a file",
    style: "Drop a painting here, or choose a file", accept: "", stage: "Clip", dim: 3 },
  units: { title: "Units", make: "See what units look for", content: "", style: "Drop pictures here, or choose files",
    accept: "image/*", stage: "Units", dim: 2 },
};

/** Number of axes of a built-in input. Patterns for scans and clips are pictures. */
export function dimOf(kind, name, state) {
  const pictures = state.built_in.pictures.styles;
  return ["volumes", "videos"].includes(kind) && pictures.includes(name) ? 2 : KINDS[kind].dim;
}
