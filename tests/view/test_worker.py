"""What the process behind the page does with a request; a request may be made up."""

from __future__ import annotations

import base64
import io as streams
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Run
from convnd_tasks.view.worker import _words, _Worker
from error_fields import raises
from PIL import Image

from convnd import io
from convnd.errors import InputFileError, UsageError
from convnd.grid import Grid

QUICK = ("--size", "48", "--scales", "1", "--steps", "1", "--backbone", "compact", "-q")


@pytest.fixture
def worker() -> _Worker:
    return _Worker(lambda message: None)


def picture(answer: dict[str, Any]) -> Image.Image:
    return Image.open(streams.BytesIO(base64.b64decode(answer["image"])))


def test_a_thumbnail_of_every_rank_is_a_picture(worker: _Worker, tmp_path: Path) -> None:
    import torch

    generator = torch.Generator().manual_seed(3)
    names = {"a.png": (3, 30, 40), "a.csv": (2, 90), "a.nii": (1, 9, 10, 11), "a.npy": (1, 20, 30)}
    for name, shape in names.items():
        values = torch.rand(1, *shape, generator=generator)
        io.write(tmp_path / name, Grid(values=values))
        shown = picture(worker._thumbnail({"name": str(tmp_path / name), "side": 64}))
        assert shown.format == "JPEG"
        assert 16 <= max(shown.size) <= 3 * 64 + 8
        assert np.asarray(shown).std() > 5  # something is drawn
    assert picture(worker._thumbnail({"name": "waves", "side": 64})).size == (64, 64)


def test_a_picture_keeps_its_proportions_and_colours(worker: _Worker, tmp_path: Path) -> None:
    Image.new("RGB", (100, 50), (200, 10, 10)).save(tmp_path / "red.png")
    shown = picture(worker._thumbnail({"name": str(tmp_path / "red.png"), "side": 40}))
    assert shown.size == (40, 20)
    assert np.abs(np.asarray(shown, float) - (200, 10, 10)).max() < 4


def test_a_result_is_described_by_its_record(worker: _Worker, run: Run) -> None:
    assert run("stylize", "town", "waves", "--dim", "2", *QUICK, "-o", "a.png")[0] == 0
    record = worker._describe({"name": "a.png"})["record"]
    assert record["inputs"] == ["town", "waves"]
    assert record["fields"]["steps_taken"] == "1"
    Image.new("RGB", (20, 20)).save("foreign.png")
    assert worker._describe({"name": "foreign.png"}) == {"record": None}


def test_the_figures_of_a_scan_are_described(worker: _Worker, tmp_path: Path, run: Run) -> None:
    assert run("stylize", "town", "waves", "--dim", "2", *QUICK, "-o", "a.png")[0] == 0
    record = io.read_provenance(Path("a.png")) | {
        "convnd:measured_anatomy": "0.3 HU of 5",
        "convnd:measured_e_warp": "0.1",
    }
    io.write("b.png", io.read("a.png"), provenance=record)
    figures = worker._describe({"name": "b.png"})["record"]["figures"]
    assert figures == {"anatomy": "0.3 HU of 5", "e_warp": "0.1"}


@pytest.mark.parametrize(
    "line",
    [
        [],
        ["weights", "get", "x"],
        ["stylize", "{0}", "--output=/tmp/x"],
        ["stylize", "{0}", "--overwrite"],
        ["stylize", "{0}", "-o", "x"],
        ["stylize", "{7}"],
        ["stylize", "/etc/passwd"],
        ["stylize", "{0}", "--mask=/etc/passwd"],
        ["stylize", "{0}", "--region=red=/etc/passwd"],
    ],
    ids=str,
)
def test_words_that_a_record_may_not_hold_are_refused(line: list[str]) -> None:
    with pytest.raises(InputFileError):
        _words({"line": line, "inputs": ["a.png"]})


def test_a_users_network_is_not_imported() -> None:
    line = ["stylize", "{0}", "--backbone=os:system"]
    with raises(UsageError, got="os:system"):
        _words({"line": line, "inputs": ["a.png"]})


def test_places_become_inputs() -> None:
    request = {"line": ["stylize", "{0}", "--style={1}"], "inputs": ["inputs/a b.png", "waves"]}
    assert _words(request) == ["stylize", "inputs/a b.png", "--style=waves"]
