"""What the process behind the page does with a request; a request may be made up."""

from __future__ import annotations

import base64
import io as streams
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import Run
from convnd_tasks.view.clips import curves_so_far
from convnd_tasks.view.small_copies import SmallCopies
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
    assert picture(worker._thumbnail({"name": "waves", "side": 64, "dim": 2})).size == (64, 64)


def test_a_picture_keeps_its_proportions_and_colours(worker: _Worker, tmp_path: Path) -> None:
    Image.new("RGB", (100, 50), (200, 10, 10)).save(tmp_path / "red.png")
    shown = picture(worker._thumbnail({"name": str(tmp_path / "red.png"), "side": 40}))
    assert shown.size == (40, 20)
    assert np.abs(np.asarray(shown, float) - (200, 10, 10)).max() < 4


def test_a_large_picture_is_copied_once_and_anew_when_it_changes(tmp_path: Path) -> None:
    path, copies = tmp_path / "photo.png", SmallCopies()
    Image.linear_gradient("L").resize((1500, 900)).convert("RGB").save(path)
    first = copies.path(str(path))
    assert copies.path(str(path)) == first != str(path)
    whole, copy = (io.read(name).values for name in (str(path), first))
    assert tuple(copy.shape) == (1, 3, 614, 1024)
    places = (slice(None), slice(None), [5, 300, 600], [5, 500, 1000])
    assert torch.allclose(copy[places], whole[..., [8, 440, 880], [8, 733, 1465]], atol=0.02)
    Image.new("RGB", (1500, 900), (9, 99, 9)).save(path)
    os.utime(path, (1, 1))
    colors = io.read(copies.path(str(path))).values[0, :, 5, 5] * 255
    assert colors.round().tolist() == [9, 99, 9]
    Image.new("RGB", (64, 48)).save(tmp_path / "small.png")
    for name in (str(tmp_path / "small.png"), "town", str(tmp_path / "missing.png")):
        assert copies.path(name) == name


def test_a_result_is_described_by_its_record(worker: _Worker, run: Run) -> None:
    assert run("stylize", "town", "waves", "--dim", "2", *QUICK, "-o", "a.png")[0] == 0
    record = worker._describe({"name": "a.png"})["record"]
    assert record["inputs"] == ["town", "waves"]
    assert record["found"] == ["town", "waves"]
    assert record["fields"]["steps_taken"] == "1"
    Image.new("RGB", (20, 20)).save("foreign.png")
    assert worker._describe({"name": "foreign.png"}) == {"record": None}


def test_an_input_of_a_record_counts_only_with_its_sha256(worker: _Worker, run: Run) -> None:
    Path("inputs").mkdir()
    Image.new("RGB", (40, 32), (9, 90, 200)).save("inputs/a.png")
    assert run("stylize", "inputs/a.png", "waves", *QUICK, "-o", "b.png")[0] == 0
    assert worker._describe({"name": "b.png"})["record"]["found"] == ["inputs/a.png", "waves"]
    Image.new("RGB", (40, 32), (9, 90, 201)).save("inputs/a.png")
    assert worker._describe({"name": "b.png"})["record"]["found"] == [None, "waves"]


def test_the_figures_of_a_scan_are_described(worker: _Worker, tmp_path: Path, run: Run) -> None:
    assert run("stylize", "town", "waves", "--dim", "2", *QUICK, "-o", "a.png")[0] == 0
    record = io.read_provenance(Path("a.png")) | {
        "convnd:measured_anatomy": "0.3 HU of 5; " * 60,
        "convnd:measured_e_warp": "0.1",
    }
    io.write("b.png", io.read("a.png"), provenance=record)
    figures = worker._describe({"name": "b.png"})["record"]["figures"]
    assert figures == {"anatomy": "0.3 HU of 5; " * 60, "e_warp": "0.1"}  # whole


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


@pytest.mark.parametrize(
    "word",
    [
        "--output=/tmp/x",
        "--report=/tmp/x",
        "--overwrite",
        "--channel-maps=/etc/passwd",
        "--backbone=os:system",
        "--units={0}",
        "{7}",
        "/etc/passwd",
        "-o",
    ],
)
def test_words_that_a_search_may_not_hold_are_refused(word: str) -> None:
    with pytest.raises(UsageError):
        _words({"line": ["patches", "{0}", word], "inputs": ["a.png"]})


def test_a_search_is_run_and_its_patches_are_drawn(
    worker: _Worker, run: Run, tmp_path: Path
) -> None:
    words = _words({"line": ["patches", "{0}", "--units=0-1", "--layer=relu1_1"], "inputs": ["a"]})
    assert words == ["patches", "a", "--units=0-1", "--layer=relu1_1"]
    assert run("patches", "town", *words[2:], "--dim", "2", "-q", "-o", "found")[0] == 0
    folder = {"folder": str(Path("found").absolute())}
    layers = worker._data.answers["search"](folder)["layers"]
    first = layers["relu1_1"]["units"]["1"][0]
    assert (first["rank"], first["input"]) == (1, "town")
    values = [patch["value"] for patch in layers["relu1_1"]["units"]["1"]]
    assert values == sorted(values, reverse=True)
    place = {"name": "found/relu1_1.npz", "unit": 1, "rank": 1}
    data = worker._data.answers["patch"](place)["data"]
    with Image.open(streams.BytesIO(base64.b64decode(data))) as picture:
        assert picture.size == (112, 112)
    with pytest.raises(InputFileError):
        worker._data.answers["patch"]({**place, "rank": 99})
    Path("found/patches.json").write_text('{"receptive_fields": 3}')
    with pytest.raises(InputFileError):
        worker._data.answers["search"](folder)


def test_a_users_network_is_not_imported() -> None:
    line = ["stylize", "{0}", "--backbone=os:system"]
    with raises(UsageError, got="os:system"):
        _words({"line": line, "inputs": ["a.png"]})


def test_places_become_inputs() -> None:
    request = {"line": ["stylize", "{0}", "--style={1}"], "inputs": ["inputs/a b.png", "waves"]}
    assert _words(request) == ["stylize", "inputs/a b.png", "--style=waves"]


def test_a_job_that_is_stopped_before_it_begins_does_not_begin(
    worker: _Worker, tmp_path: Path
) -> None:
    worker._stop()  # while modules are loaded
    request = {"id": 1, "line": ["stylize", "{0}"], "inputs": ["town"], "state": str(tmp_path)}
    assert worker._run({**request, "settings": []}) == {"stopped": True}
    assert list(tmp_path.iterdir()) == []


def test_a_dial_that_moves_while_modules_are_loaded_counts(worker: _Worker, tmp_path: Path) -> None:
    worker._changes.put({"strength": "0.5"})
    line = ["stylize", "{0}", "--style={1}", "--dim=2", "--size=32", "--steps=2", "--scales=1"]
    target = tmp_path / "result.png"
    request = {"id": 1, "line": line, "inputs": ["town", "waves"], "state": str(tmp_path)}
    assert worker._run({**request, "settings": ["-q", "-o", str(target)]}) == {"done": True}
    assert io.read_provenance(target)["convnd:change"] == "0:strength=0.5"


def test_traces_keep_peaks_and_gaps(worker: _Worker, tmp_path: Path) -> None:
    import torch

    values = np.zeros((1, 1000), np.float32)
    values[0, 503] = 7.0
    grid = Grid(values=torch.from_numpy(values)[None], spacing=(0.01,), units=("s",), axes=("t",))
    io.write(tmp_path / "a.csv", grid)
    request = {"name": str(tmp_path / "a.csv"), "dim": 0}
    described = worker._data.answers["signal"](request)
    assert (described["end"], described["samples"]) == (10.0, 1000)
    leads = described["leads"]
    place = {"leads": leads, "start": 0.0, "end": 10.0, "points": 40}
    (trace,) = worker._data.answers["traces"]({**request, **place})["traces"]
    assert max(trace) == 7.0
    assert trace.index(7.0) // 2 == 10  # the bucket of 5.03 s
    close = {"leads": leads, "start": 5.0, "end": 5.1, "points": 20}
    (trace,) = worker._data.answers["traces"]({**request, **close})["traces"]
    assert trace[6] == 7.0  # every sample, and one point between two of them
    assert trace[5] == 3.5
    beyond = {"leads": leads, "start": 9.9, "end": 10.3, "points": 8}
    (trace,) = worker._data.answers["traces"]({**request, **beyond})["traces"]
    assert trace[-1] is None


def test_curves_of_a_running_clip_are_those_of_its_finished_frames(tmp_path: Path) -> None:
    log = tmp_path / "frames.jsonl"
    assert curves_so_far(log) == {"e_warp": [], "input_e_warp": [], "loss": []}
    lines: list[Any] = [
        {"fingerprint": "x"},
        {"pass": 1, "number": 1, "loss": 2.0, "e_warp": 0.25, "input_e_warp": None},
        {"pass": 1, "number": 0, "loss": 4.0, "e_warp": None, "input_e_warp": "x"},
        {"pass": 0, "number": 2, "loss": 9.0},
        {"pass": 1},
        {"pass": 1, "number": "x"},
    ]
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    log.write_text(text + '{"pass": 1, "number": 3, "lo')
    curves = {"e_warp": [None, 0.25], "input_e_warp": [None, None], "loss": [4.0, 2.0]}
    assert curves_so_far(log) == curves


def test_a_frame_of_a_video_is_the_one_of_its_number(worker: _Worker, tmp_path: Path) -> None:
    from convnd_tasks.samples import video

    made = video.SampleVideo((6, 32, 48))
    io.write_video(tmp_path / "a.mp4", made.info, made.frames())
    request = {"name": str(tmp_path / "a.mp4")}
    assert worker._data.answers["clip"](request) == {"rate": 25.0, "frames": 6, "size": [48, 32]}
    frames = [frame.values for frame in io.open_video(tmp_path / "a.mp4").frames()]
    for index in (0, 3, 5):
        data = worker._data.answers["frame"]({**request, "index": index})["data"]
        pixels = np.asarray(Image.open(streams.BytesIO(base64.b64decode(data))), float)
        expected = frames[index][0].movedim(0, -1).numpy() * 255
        assert np.abs(pixels - expected).max() <= 0.5 + 1e-4
    with pytest.raises(UsageError):
        worker._data.answers["frame"]({**request, "index": 9})
