"""``--json`` and ``-v`` in every command there is."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
import typer
from command_line import Run
from convnd_tasks.inspect.reading import Input, iter_batches
from convnd_tasks.pipeline.job import Job
from convnd_tasks.pipeline.output import CommandOutput
from convnd_tasks.view import run as view
from PIL import Image

from convnd.errors import InternalError

FAST = ["--backbone", "compact", "--steps", "1", "--scales", "1"]
PICTURE = ["stylize", "a.png", "waves", *FAST, "--size", "32"]
VIDEO = ["stylize-video", "frames", "waves", *FAST, "--size", "64", "--frame-steps", "1"]

# Of every command: one that works, entries that its object has, and one that fails with 2 or 3.
COMMANDS: dict[str, tuple[list[str], set[str], list[str]]] = {
    "backbones": (["backbones", "compact"], {"layers", "parameters"}, ["backbones", "none"]),
    "evaluate": (["evaluate", "a.csv", "a.csv"], {"measures"}, ["evaluate", "a.csv", "no.csv"]),
    "export": (
        ["export", "style.safetensors"],
        {"path", "spatial_dims", "channels"},
        ["export", "no.safetensors"],
    ),
    "patches": (
        ["patches", "a.png", "--backbone", "compact", "--layer", "relu1_1", "--units", "0-1"],
        {"output", "patches", "inputs", "pictures", "settings"},
        ["patches", "no.png", "--layer", "relu1_1"],
    ),
    "rerun": (["rerun", "made.png"], {"result", "output", "same_bytes"}, ["rerun", "a.png"]),
    "formats": (["formats"], {"formats"}, []),
    "samples": (["samples"], {"samples"}, []),
    "stylize": (
        PICTURE,
        {"results", "settings"},
        ["stylize", "no.png", "waves"],
    ),
    "stylize-video": (
        VIDEO,
        {"results", "settings"},
        ["stylize-video", "no.mp4", "waves"],
    ),
    "stylize-volume": (
        ["stylize-volume", "a.nii", "--style", "waves", "--steps", "1", "--no-figures"],
        {"results", "settings"},
        ["stylize-volume", "no.nii", "--style", "sharp"],
    ),
    "train": (
        ["train", "a.csv", "--data", "rows", "--steps", "1", "--crop", "256", "--batch", "1"],
        {"output", "steps", "losses"},
        ["train", "no.png"],
    ),
    "trace": (["trace", "14x1", "conv:5:2"], {"layers"}, ["trace", "14x1", "conv:99:2"]),
    "view": (
        ["view", "--no-browser", "--read-only", "."],
        {"address", "folder"},
        ["view", "--no-browser", "--read-only", "none"],
    ),
    "weights list": (["weights", "list"], {"weights"}, []),
    "weights get": (["weights", "get", "compact"], {"name"}, ["weights", "get", "none"]),
    "weights verify": (["weights", "verify", "compact"], {"intact"}, ["weights", "verify", "none"]),
    "weights path": (["weights", "path", "compact"], {"file"}, ["weights", "path", "none"]),
    "weights remove": (
        ["weights", "remove", "vgg16-edges"],
        {"removed"},
        ["weights", "remove", "none"],
    ),
}


@pytest.fixture(autouse=True)
def inputs(tmp_path: Path, rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 255, (64, 64, 3), np.uint8)
    (tmp_path / "frames").mkdir()
    (tmp_path / "rows").mkdir()
    for name in ("a.png", "frames/1.png", "frames/2.png"):
        Image.fromarray(pixels).save(tmp_path / name)
    scan = rng.normal(size=(17, 16, 16)).astype(np.float32)
    nib.Nifti1Image(scan, np.eye(4)).to_filename(tmp_path / "a.nii")
    rows = "\n".join(f"{number / 100},{value:.6g}" for number, value in enumerate(scan.flat[:500]))
    for name in ("a.csv", "rows/a.csv"):
        (tmp_path / name).write_text(f"t (s),I (mV)\n{rows}\n")


def names() -> Iterator[str]:
    for entry in entry_points(group="convnd.tasks"):
        task = entry.load()
        if isinstance(task, typer.Typer):
            yield from (f"{entry.name} {command.name}" for command in task.registered_commands)
        else:
            yield entry.name


def test_no_command_is_left_out() -> None:
    assert set(names()) == set(COMMANDS)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name == "export" else ()) for name in COMMANDS],
)
def test_one_object_on_stdout_and_details_on_stderr(
    name: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, entries, bad = COMMANDS[name]
    monkeypatch.setattr(view, "wait_for_signal", lambda: None)  # the page ends at once
    if name == "rerun":
        run(*PICTURE, "-o", "made.png")
    if name == "export":
        run(*COMMANDS["train"][0])
    code, out, err = run(*command, "--json", "-v")
    assert code == 0, err
    assert out.count("\n") == 1
    record = json.loads(out)
    assert (record["command"], record["exit_code"]) == (name, 0)
    assert entries <= record.keys()
    assert record["peak_memory"] > 2**20
    for result in record.get("results", []):
        assert Path(result["output"]).exists()
        assert result["steps"] >= 1
    first, *between, last = err.splitlines()
    assert first.startswith("convnd 0.")
    assert " s, at most " in last
    if "settings" in entries:
        assert any(" on cpu in " in line and "threads: 1" in line for line in between), err
        assert record["settings"]["device"] == "cpu"
    if name in ("stylize", "stylize-video"):
        assert any("in one piece, about" in line for line in between), err
    assert not logging.getLogger("convnd_tasks").handlers
    if bad:
        code, out, err = run(*bad, "--json")
        assert code in (2, 3)
        record = json.loads(out)
        assert record["exit_code"] == code
        assert err == f"convnd: {record['error']}\n"


def test_verbose_leaves_stdout_to_people(run: Run) -> None:
    command = COMMANDS["trace"][0]
    _, plain, silence = run(*command)
    code, out, err = run(*command, "-v")
    assert (code, out, silence) == (0, plain, "")
    assert err.startswith("convnd 0.")


def test_several_inputs(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "a.png").rename(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "b.png").write_bytes(b"\x89PNG\r\n")
    code, out, _ = run("stylize", "in", *PICTURE[2:], "--json")
    assert code == 1
    record: dict[str, Any] = json.loads(out)
    assert record["exit_code"] == 1
    assert [Path(result["output"]).name for result in record["results"]] == ["a_stylized.png"]
    assert "b.png" in record["failed"][0]["error"]


@pytest.mark.parametrize(
    "fault",
    [
        KeyError("x"),
        pytest.param(MemoryError(), marks=pytest.mark.slow),
        pytest.param(PermissionError(13, "denied", "a\nb"), marks=pytest.mark.slow),
    ],
)
def test_a_fault_on_one_file_of_a_folder_leaves_the_others(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / "in" / name).write_bytes((tmp_path / "a.png").read_bytes())
    run_content = Job.run

    def fail_on_b(self: Job, content: str, *args: Any, **options: Any) -> Any:
        if content.endswith("b.png"):
            raise fault
        return run_content(self, content, *args, **options)

    monkeypatch.setattr(Job, "run", fail_on_b)
    monkeypatch.delenv("CONVND_TRACEBACK", raising=False)
    code, out, err = run("stylize", "in", *PICTURE[2:], "--json", "--quiet")
    assert code == 1
    record = json.loads(out)
    names = [Path(result["output"]).name for result in record["results"]]
    assert names == ["a_stylized.png", "c_stylized.png"]
    assert [Path(failure["output"]).name for failure in record["failed"]] == ["b_stylized.png"]
    assert [line for line in err.splitlines() if "b.png: " in line] == [
        f"convnd: {record['failed'][0]['error']}"
    ]
    assert "convnd: 1 of 3 failed" in err.splitlines()


def test_a_fault_on_one_input_of_a_search_leaves_the_others() -> None:
    def prepare(item: Input) -> Any:
        if item.name == "b":
            raise KeyError("x")
        return (4,), [(item.name, torch.zeros(1, 1, 4))]

    inputs = [Input(name, pytest.fail) for name in "abc"]
    batches = list(iter_batches(inputs, prepare, batch=1))
    results = {item.name: result for batch in batches for item, result in batch.inputs}
    assert isinstance(results.pop("b"), InternalError)
    assert results == {"a": (4,), "c": (4,)}


def test_what_json_cannot_say_is_null(capsys: pytest.CaptureFixture[str]) -> None:
    command_output = CommandOutput("x", json=True)
    with command_output.collect():
        print("for people")
        command_output.add(values=[1.5, math.nan, {"far": -math.inf}], path=Path("a"))
    out, err = capsys.readouterr()
    record = json.loads(out, parse_constant=lambda word: pytest.fail(word))
    assert (record["values"], record["path"]) == ([1.5, None, {"far": None}], "a")
    assert err == "for people\n"
