"""Inputs without any contrast, with one sample or with huge values go through every task.

Each ends in a finite result, or in one line and exit code 3 without one; never in a traceback, nor
in a result that holds NaN where the input held none.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from command_line import Run
from numpy.typing import NDArray
from PIL import Image

import convnd.io

FAST = ["--backbone", "compact", "--steps", "2"]
SHALLOW = ["--style-layers", "relu1_1,relu2_1", "--content-layers", "relu2_1"]


def counted(shape: tuple[int, ...]) -> NDArray[np.float64]:
    return np.arange(np.prod(shape), dtype=float).reshape(shape)


VALUES: dict[str, Callable[[tuple[int, ...]], NDArray[np.float64]]] = {
    "zeros": np.zeros,
    "constant": lambda shape: np.full(shape, 0.5),
    "white": np.ones,
    "huge": lambda shape: np.random.default_rng(0).normal(size=shape) * 1e30,
    "tiny": lambda shape: np.random.default_rng(0).normal(size=shape) * 1e-30,
    "far from zero": lambda shape: 1e6 + np.random.default_rng(0).normal(size=shape),
    "one outlier": lambda shape: np.where(counted(shape) == 7, 1e9, 0.0),
    "with a gap": lambda shape: np.where(counted(shape) % 50 == 7, np.nan, counted(shape) % 9),
    "all NaN": lambda shape: np.full(shape, np.nan),
    "one sample": lambda shape: np.ones((1,) * len(shape)),
}


def save(path: Path, values: NDArray[np.float64]) -> None:
    if path.suffix == ".png":
        pixels = np.clip(np.nan_to_num(values) * 255, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(path)
    elif path.suffix == ".nii":
        nib.Nifti1Image(values.astype(np.float32), np.eye(4)).to_filename(path)
    elif path.suffix == ".npy":
        np.save(path, values.astype(np.float32))
    else:
        rows = "\n".join(",".join(f"{value:.9g}" for value in row) for row in values)
        path.write_text(f"I (mV),II (mV)\n{rows}\n".replace("nan", ""))


TASKS = {
    "picture": ("x.png", "y.png", (20, 22), ["stylize", "--size", "24"]),
    "signal": ("x.csv", "y.csv", (400, 2), ["stylize", "--rate", "100", "--no-figures"]),
    "volume": ("x.nii", "y.nii", (18, 17, 16), ["stylize-volume", "--no-figures"]),
    "array": (
        "x.npy",
        "y.npy",
        (1, 18, 17, 16),
        ["stylize", "--dim", "3", "--scales", "1", *SHALLOW],
    ),
}


QUICK = ("constant", "with a gap", "all NaN", "one sample")


@pytest.mark.parametrize("where", ["content", pytest.param("style", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "kind",
    [kind if kind in QUICK else pytest.param(kind, marks=pytest.mark.slow) for kind in VALUES],
)
@pytest.mark.parametrize("task", TASKS)
def test_ends_in_a_finite_result_or_in_one_line(
    run: Run, tmp_path: Path, task: str, kind: str, where: str
) -> None:
    content, style, shape, command = TASKS[task]
    usual = np.random.default_rng(3).random(shape)
    odd = VALUES[kind](shape)
    save(tmp_path / content, odd if where == "content" else usual)
    save(tmp_path / style, odd if where == "style" else usual)
    before = set(tmp_path.iterdir())
    files = [content, "--style", style] if task == "volume" else [content, style]
    code, out, err = run(command[0], *files, *command[1:], *FAST)
    created = set(tmp_path.iterdir()) - before
    assert code in (0, 3), (code, err)
    if code == 3:
        lines = [line for line in err.splitlines() if line.startswith("convnd: ")]
        assert len(lines) == 1, err
        assert not created
        return
    (result,) = [path for path in created if path.suffix != ".json"]
    values = convnd.io.read(result).values.numpy()
    gaps = where == "content" and not content.endswith(".png")  # NaN has no byte
    missing = np.isnan(odd) if gaps else np.zeros(shape, bool)
    assert np.isnan(values).sum() == missing.sum(), out + err
    assert not np.isinf(values).any()
