"""The description for 3D Slicer, and the command that Slicer makes of it."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import nibabel as nib
import numpy as np
from command_line import Run
from convnd_tasks.pipeline.slicer_xml import module_description

TYPES = {"image", "boolean", "integer", "float", "string", "string-enumeration"}


def slicers_words(description: str, files: dict[str, str]) -> list[str]:
    """The command line that Slicer makes of the defaults and of some files."""
    words, positions = [], {}
    for element in ElementTree.fromstring(description).iterfind("parameters/*"):
        if element.tag in ("label", "description"):
            continue
        assert element.tag in TYPES
        name = element.findtext("name") or ""
        value = files.get(name, element.findtext("default") or "")
        index, flag = element.findtext("index"), element.findtext("longflag")
        if index is not None:
            positions[int(index)] = value
        elif element.tag == "boolean":
            words += [f"--{flag}"] if value == "true" else []
        elif value:
            words += [f"--{flag}", value]
    return [*words, *(positions[index] for index in sorted(positions))]


def test_the_command_that_slicer_makes_runs(tmp_path: Path, run: Run) -> None:
    code, description, err = run("stylize-volume", "--xml")
    assert (code, err) == (0, "")
    rng = np.random.default_rng(0)
    scan = np.full((16, 16, 12), 40.0, np.float32)
    for name, noise in (("scan", 5.0), ("other", 20.0)):
        values = scan + rng.normal(0, noise, scan.shape).astype(np.float32)
        nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / f"{name}.nii")
    result = tmp_path / "result.nii.gz"
    result.touch()  # Slicer may reserve the name
    files = {"scan": "scan.nii", "style": "other.nii", "output": result.name}
    words = slicers_words(description, {name: str(tmp_path / f) for name, f in files.items()})
    code, _, err = run("stylize-volume", *words, "-q")
    assert code == 0, err
    assert nib.load(result).shape == scan.shape


def test_every_element_is_named_once() -> None:
    root = ElementTree.fromstring(module_description())
    names = [element.text for element in root.iterfind("parameters/*/name")]
    assert len(names) == len(set(names))
    assert {"scan", "style", "output", "strength", "transfer", "mask"} <= set(names)
    assert root.findtext("version")
    for element in root.iterfind("parameters/*[constraints]"):
        low, high = (
            float(element.findtext(f"constraints/{e}") or "") for e in ("minimum", "maximum")
        )
        assert low <= float(element.findtext("default") or "") <= high
