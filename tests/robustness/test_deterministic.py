"""The same seed, the same bytes, in every task."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from command_line import Run
from error_fields import check_error
from PIL import Image

import convnd.io
from convnd.losses import Objective

SHALLOW = ["--style-layers", "relu1_1,relu2_1", "--content-layers", "relu2_1"]
FAST = ["--backbone", "compact", "--steps", "2", "--scales", "1"]
RANDOM = [*FAST, "--init", "random", "--seed", "3"]
TASKS: dict[str, tuple[list[str], str]] = {
    "picture": (["stylize", "a.png", "waves", *RANDOM, "--size", "40"], "png"),
    "texture in tiles": (
        ["stylize", "--texture", "a.png", *RANDOM, "--size", "64", "--tile", "32"],
        "png",
    ),
    "signal": (["stylize", "a.csv", "a.csv", *RANDOM, "--rate", "100", "--no-figures"], "csv"),
    "array": (
        ["stylize", "a.npy", "a.npy", *RANDOM, "--size", "18", "--dim", "3", *SHALLOW],
        "npy",
    ),
    "volume": (["stylize-volume", "a.nii", "--style", "a.nii", *FAST, "--no-figures"], "nii.gz"),
    "clip": (["stylize-video", "frames", "waves", *FAST, "--size", "64"], "mkv"),
    "patches": (
        [
            "patches",
            "a.png",
            "--layer",
            "relu2_1",
            "--units",
            "random:3",
            "--optimal",
            "--steps",
            "3",
            "--seed",
            "3",
        ],
        "",
    ),
}


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(autouse=True)
def inputs(tmp_path: Path, rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 255, (64, 64, 3), np.uint8)
    (tmp_path / "frames").mkdir()
    for number, name in enumerate(("a.png", "frames/1.png", "frames/2.png")):
        Image.fromarray(np.roll(pixels, number, 1)).save(tmp_path / name)
    scan = rng.normal(size=(17, 16, 16)).astype(np.float32)
    nib.Nifti1Image(scan, np.eye(4)).to_filename(tmp_path / "a.nii")
    np.save(tmp_path / "a.npy", scan[None])
    rows = "\n".join(f"{value:.6g}" for value in scan.flat[:400])
    (tmp_path / "a.csv").write_text(f"I (mV)\n{rows}\n")


@pytest.mark.parametrize(
    "task",
    [
        pytest.param(task, marks=pytest.mark.slow) if task in ("texture in tiles", "clip") else task
        for task in TASKS
    ],
)
def test_the_same_seed_gives_the_same_bytes(task: str, run: Run, tmp_path: Path) -> None:
    command, suffix = TASKS[task]
    digests = []
    for folder in ("one", "two"):
        output = Path(folder) / (f"out.{suffix}" if suffix else "out")
        output.parent.mkdir()
        code, _, err = run(*command, "--deterministic", "-o", output, "-q")
        assert code == 0, err
        assert torch.are_deterministic_algorithms_enabled()
        digests.append(convnd.io.digest(tmp_path / output))
    assert digests[0] == digests[1]
    if suffix:
        assert convnd.io.read_provenance(tmp_path / output)["convnd:deterministic"] == "True"


@pytest.mark.slow
def test_another_seed_gives_others(run: Run, tmp_path: Path) -> None:
    command, _ = TASKS["picture"]
    for seed in (3, 4):
        run(*command, "--deterministic", "--seed", seed, "-o", f"{seed}.png", "--no-metadata")
    assert (tmp_path / "3.png").read_bytes() != (tmp_path / "4.png").read_bytes()


def test_what_cannot_be_is_said(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def value(*_: object) -> None:
        # One of the few operations for which torch has no such way on CPUs either.
        torch.zeros(4).put_(torch.tensor([1]), torch.tensor([1.0]), accumulate=False)

    monkeypatch.setattr(Objective, "value", value)
    command, _ = TASKS["picture"]
    code, out, err = run(*command, "--deterministic", "-o", "o.png", "-q")
    assert (code, out) == (2, "")
    assert err.startswith("convnd: deterministic: ")
    check_error(err, got="put_", remedy="use --device cpu")
    assert not (tmp_path / "o.png").exists()
