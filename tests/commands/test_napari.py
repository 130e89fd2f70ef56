"""The plugin for napari."""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import tomllib
from pathlib import Path

import nibabel as nib
import numpy as np
from convnd_tasks.napari import plugin
from PIL import Image

import convnd.io

MANIFEST = Path(plugin.__file__).with_name("napari.toml")


def test_the_manifest_names_what_is_there() -> None:
    manifest = tomllib.loads(MANIFEST.read_text())
    contributions = manifest["contributions"]
    commands = {command["id"]: command["python_name"] for command in contributions["commands"]}
    for target in commands.values():
        module, _, name = target.partition(":")
        assert callable(getattr(importlib.import_module(module), name))
    used = [part["command"] for kind in ("readers", "widgets") for part in contributions[kind]]
    assert sorted(used) == sorted(commands)
    (group,) = importlib.metadata.entry_points(group="napari.manifest", name=manifest["name"])
    module, _, file = group.value.partition(":")
    assert importlib.resources.files(module).joinpath(file).read_text() == MANIFEST.read_text()
    (reader,) = contributions["readers"]
    assert tuple(pattern.lstrip("*") for pattern in reader["filename_patterns"]) == plugin.SUFFIXES
    assert set(plugin.SUFFIXES) <= set(convnd.io.suffixes())


def test_layers_of_files(tmp_path: Path) -> None:
    scan = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    nib.save(nib.Nifti1Image(scan, np.diag([2.0, 1.0, 3.0, 1.0])), tmp_path / "scan.nii.gz")
    pixels = np.arange(5 * 6 * 3, dtype=np.uint8).reshape(5, 6, 3)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    read = plugin.get_reader([str(tmp_path / name) for name in ("scan.nii.gz", "photo.png")])
    assert read is not None
    (volume, shown, kind), (picture, of_picture, _) = read(
        [str(tmp_path / name) for name in ("scan.nii.gz", "photo.png")]
    )
    assert kind == "image"
    assert sorted(volume.ravel().tolist()) == list(range(24))
    assert sorted(shown["scale"]) == [1.0, 2.0, 3.0]
    np.testing.assert_allclose(picture.astype(np.float64) * 255, pixels, atol=1e-4)
    assert of_picture["rgb"]
    assert plugin.get_reader(str(tmp_path / "notes.txt")) is None


def test_layers_are_stylised(rng: np.random.Generator) -> None:
    content, style = (rng.integers(0, 255, (32, 40, 3), dtype=np.uint8) for _ in range(2))
    result = plugin.stylize_image(content, style, steps=1)
    assert result.shape == content.shape
    assert 0 <= result.min() < result.max() <= 1
    unchanged = plugin.stylize_image(content, style, strength=0.0, steps=1)
    np.testing.assert_allclose(unchanged * 255, content, atol=1e-3)
    grey = plugin.stylize_image(content[..., 0], style[..., 0], steps=1)
    assert grey.shape == content.shape[:2]
    quiet, noisy = (rng.normal(100, sd, (16, 20, 20)).astype(np.float32) for sd in (2, 8))
    louder = plugin.stylize_image(quiet, noisy)
    assert louder.shape == quiet.shape
