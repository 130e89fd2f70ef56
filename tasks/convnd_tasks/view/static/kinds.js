// The kinds of data, in words.

export const KINDS = {
  pictures: { title: "Pictures", make: "Make a picture", stage: "Picture", dim: 2, accept: "image/*",
    content: "Drop a picture here, or choose a file", style: "Drop a painting here, or choose a file",
    dials: "They also change a picture while it is made." },
  signals: { title: "Signals", make: "Stylise a signal", stage: "Signal", dim: 1, accept: "",
    content: "Drop a recording here (CSV, EDF, WFDB, sound, …), or choose files", style: "Drop a recording here, or choose files",
    dials: "Strength, size, weights and smoothness also change a signal while it is made." },
  volumes: { title: "Scans", make: "Stylise a scan", stage: "Scan", dim: 3, accept: "",
    content: "Drop a scan here (NIfTI, NRRD, MetaImage, a folder of DICOM files, …), or choose a file",
    style: "Drop a scan or a painting here, or choose a file",
    dials: "Strength, size and weights also change a scan while patterns are painted." },
  videos: { title: "Clips", make: "Stylise a clip", stage: "Clip", dim: 3, accept: "",
    content: "Drop a clip here, or choose a file", style: "Drop a painting here, or choose a file",
    dials: "Strength, size and weights also change the frames that follow while a clip is made." },
  units: { title: "Units", make: "See what units look for", stage: "Units", dim: 2, accept: "image/*",
    content: "", style: "Drop pictures here, or choose files", dials: "" },
};

/** Number of axes of a built-in input. Patterns for scans and clips are pictures. */
export function dimOf(kind, name, state) {
  const pictures = state.built_in.pictures.styles;
  return ["volumes", "videos"].includes(kind) && pictures.includes(name) ? 2 : KINDS[kind].dim;
}
