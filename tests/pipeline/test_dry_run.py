"""``--dry-run`` says what a job takes and would write, and writes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import psutil
import pytest
from command_line import Run
from convnd_tasks.pipeline import dry_run
from convnd_tasks.pipeline.dry_run import Estimate
from error_fields import check_error
from PIL import Image

from convnd.feedforward import ArbitraryStyleNet
from convnd.transfer import one_pass

SMALL = ("--backbone", "compact", "--steps", "30")
SIZE = ("--size", "40")


def _dry_run(run: Run, *words: object) -> dict[str, Any]:
    code, out, err = run(*words, "--dry-run", "--json")
    assert code == 0, err
    entry: dict[str, Any] = json.loads(out)["dry_run"]
    return entry


@pytest.fixture
def inputs(tmp_path: Path, rng: np.random.Generator) -> Path:
    pixels = rng.integers(0, 255, (48, 48, 3), np.uint8)
    (tmp_path / "photos").mkdir()
    for name in ("photo.png", *(f"photos/{name}.png" for name in "abc")):
        Image.fromarray(pixels).save(tmp_path / name)
    voxels = rng.normal(size=(18, 17, 16)).astype(np.float32)
    nib.Nifti1Image(voxels, np.eye(4)).to_filename(tmp_path / "scan.nii")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "outputs"),
    [
        (
            ("stylize", "photo.png", "cells", *SMALL, *SIZE, "--report", "r.html"),
            ["photo_stylized.png", "r.html"],
        ),
        pytest.param(
            ("stylize", "--dim", "1", *SMALL, "--size", "256", "--no-figures"),
            ["stylized.csv"],
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ("stylize-volume", "scan.nii", "--no-figures"),
            ["scan_stylized.nii.gz"],
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ("stylize-volume", "scan.nii", "--transfer", "paint", *SMALL, "--no-figures"),
            ["scan_stylized.nii.gz"],
            marks=pytest.mark.slow,
        ),
        (
            ("stylize-video", "--size", "48", "--to", "0.2", *SMALL, "--no-figures"),
            ["stylized.mp4"],
        ),
    ],
)
def test_every_kind_of_data_has_an_estimate(
    run: Run, inputs: Path, words: tuple[str, ...], outputs: list[str]
) -> None:
    before = sorted(inputs.rglob("*"))
    entry = _dry_run(run, *words)
    assert entry["outputs"] == outputs
    assert 0 < entry["seconds_low"] <= entry["seconds"] <= entry["seconds_high"] < 600
    assert sorted(inputs.rglob("*")) == before


def test_memory_is_that_of_the_job(run: Run, inputs: Path) -> None:
    small, large = (
        _dry_run(run, "stylize", "photo.png", "cells", *SMALL, "--scales", "1", "--size", size)
        for size in (32, 64)
    )
    assert 0 < small["memory"] < large["memory"] < large["memory_free"]


def test_of_a_folder_the_first_stands_for_all(run: Run, inputs: Path) -> None:
    entry = _dry_run(run, "stylize", "photos", "cells", *SMALL, *SIZE)
    assert entry["files"] == 3
    assert entry["outputs"] == [f"photos_stylized/{name}_stylized.png" for name in "abc"]
    assert not (inputs / "photos_stylized").exists()


@pytest.mark.parametrize("count", [1, 3])
def test_the_first_step_is_timed_again_for_a_folder(
    run: Run, inputs: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """The second time needs no network: of ten seconds to the first step, nine are saved."""
    monkeypatch.setattr(dry_run, "_setup_seconds", lambda *_: 1.0)
    monkeypatch.setattr(
        dry_run,
        "_estimate",
        lambda *_: (Estimate(outputs=[], seconds=20.0, seconds_low=20.0, seconds_high=20.0), 10.0),
    )
    content = "photos" if count == 3 else "photo.png"
    entry = _dry_run(run, "stylize", content, "cells", *SMALL, *SIZE)
    assert entry["seconds"] == pytest.approx({1: 20.0, 3: 20.0 + 2 * 11.0}[count])


@pytest.mark.parametrize("regions", [(), ("--regions", "map.png", "--region", "red=waves")])
def test_one_pass_is_only_planned(
    run: Run, inputs: Path, monkeypatch: pytest.MonkeyPatch, regions: tuple[str, ...]
) -> None:
    sizes = []
    stylize = ArbitraryStyleNet.stylize

    def noted(network: ArbitraryStyleNet, content: Any, *more: Any, **named: Any) -> Any:
        sizes.append(tuple(content.shape[2:]))
        return stylize(network, content, *more, **named)

    monkeypatch.setattr(ArbitraryStyleNet, "stylize", noted)
    monkeypatch.setattr(one_pass, "_MEASURED_EXTENT", 32)
    Image.new("RGB", (48, 48), "red").save(inputs / "map.png")
    words = ("photo.png", "cells", "--instant", *regions)
    small, large = (_dry_run(run, "stylize", *words, "--size", size) for size in (96, 4096))
    assert set(sizes) == {(32, 32)}
    assert 0 < small["seconds_low"] < small["seconds"] < small["seconds_high"]
    assert large["seconds"] > 100 * small["seconds"]
    assert small["memory"] < large["memory"] <= large["memory_free"]
    memory = f"{psutil.Process().memory_info().rss + (300 << 20)}B"
    code, _, err = run("stylize", *words, "--size", "4096", "--memory", memory, "--dry-run")
    assert code == 4
    check_error(err, operation="instant")


def test_what_would_fail_fails_dry(run: Run, inputs: Path) -> None:
    (inputs / "photo_stylized.png").write_bytes(b"")
    code, _, err = run("stylize", "photo.png", "cells", "--dry-run")
    assert code == 2
    check_error(err, remedy="--overwrite")
    (inputs / "photo_stylized.png").unlink()
    code, _, err = run("stylize", "photo.png", "missing.png", "--dry-run")
    assert code == 3


def test_a_job_that_ends_within_the_measurement_is_exact(run: Run, inputs: Path) -> None:
    entry = _dry_run(
        run, "stylize", "photo.png", "cells", "--backbone", "compact", "--steps", "1", *SIZE
    )
    assert entry["seconds_low"] == entry["seconds"] == entry["seconds_high"]


def test_people_read_lines(run: Run, inputs: Path) -> None:
    code, out, _ = run("stylize", "photo.png", "cells", *SMALL, *SIZE, "--dry-run")
    time, memory, result = out.splitlines()
    assert (code, result) == (0, "would write photo_stylized.png")
    assert time.startswith("time: about ")
    assert memory.startswith("memory: about ")
