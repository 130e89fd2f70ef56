"""Checkpoints and kept frames come from anywhere: they are continued, or refused in one line."""

from __future__ import annotations

import copy
import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from convnd_tasks.modalities.video.frame_cache import FIRST_PASS, FrameCache
from convnd_tasks.modalities.video.options import VideoOptions
from convnd_tasks.runtime.checkpoints import Checkpointer
from error_fields import raises
from safetensors.torch import save_file

from convnd.errors import (
    ConvndError,
    InputFileError,
    NumericalError,
    OutputExistsError,
    UsageError,
)
from convnd.io import read
from convnd.optimize import is_checkpoint, load_checkpoint, save_checkpoint
from convnd.transfer.options import TransferOptions
from convnd.transfer.problem import TransferProblem
from convnd.transfer.style_transfer import StyleTransfer

WRONG: tuple[Any, ...] = (
    *(None, True, -1, 10**9, 10**400, 1e308, float("nan"), float("inf"), "x", [], {}, [1]),
    *(torch.zeros(()), torch.zeros(3), torch.zeros(1, 1, 10**5)),
    *(torch.zeros(1, 1, 80, dtype=torch.float64), torch.full((1, 1, 80), float("nan"))),
)


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in nested dicts and lists."""
    yield place
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*place, key))


def replaced(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    """A copy with another value at one place; Ellipsis removes the entry."""
    if not place:
        return new
    value = copy.copy(value)
    if new is ... and len(place) == 1:
        del value[place[0]]
    else:
        value[place[0]] = replaced(value[place[0]], place[1:], new)
    return value


@pytest.fixture(scope="module")
def signal_transfer() -> tuple[StyleTransfer, TransferProblem]:
    options = TransferOptions(
        backbone="compact", precision="float32", steps=4, scales=2, size=0, init="random"
    )
    content, style = torch.rand(2, 1, 1, 80, generator=torch.Generator().manual_seed(1))
    transfer = StyleTransfer(options, spatial_dims=1, in_channels=1)
    return transfer, TransferProblem(content, [style])


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")
@pytest.mark.parametrize("count", [16, pytest.param(160, marks=pytest.mark.slow)])
def test_any_change_of_a_state_is_continued_or_refused(signal_transfer: Any, count: int) -> None:
    transfer, problem = signal_transfer
    states = [copy.deepcopy(step.state()) for step in transfer.run(problem)]
    state = states[-2]
    cases = [(place, new) for place in places(state) for new in (*WRONG, ...)]
    messages = []
    for place, new in random.Random(3).sample(cases, count):
        changed = replaced(copy.deepcopy(state), place, new)
        try:
            steps = list(transfer.run(problem, resume=changed))
        except InputFileError as error:
            messages.append(str(error))
        except NumericalError:  # from finite numbers that are wrong, the loss may not fall
            continue
        else:
            assert 0 < len(steps) <= len(states)
    assert len(messages) > count // 2
    assert all("checkpoint" in message for message in messages)
    assert list(transfer.run(problem, resume=state))


def test_a_step_beyond_the_last_does_not_run_for_ever(signal_transfer: Any) -> None:
    transfer, problem = signal_transfer
    state = [copy.deepcopy(step.state()) for step in transfer.run(problem)][-1]
    state["optimizer"]["step"]["index"] = 10**6
    with raises(InputFileError, operation="resume", expected="a checkpoint"):
        list(transfer.run(problem, resume=state))


STRUCTURES = {
    "deep": "[" * 200_000,
    "no JSON": "{",
    "another kind": "5",
    "no such tensor": '{"tensor": "9"}',
    "a name that is none": '{"tensor": 9}',
    "no dict": '{"dict": [[1]]}',
    "keys that cannot be": '{"dict": [[{"dict": []}, 1]]}',
    "twice": '[{"tensor": "0"}, {"tensor": "0"}]',
    "no boxes": '{"tensor": "0", "size": [4], "boxes": []}',
    "a hole": '{"tensor": "1", "size": [4], "boxes": [[[0, 2]]]}',
    "an overlap": '{"tensor": "1", "size": [4], "boxes": [[[0, 2]], [[1, 3]]]}',
    "boxes beyond": '{"tensor": "1", "size": [4], "boxes": [[[0, 400000000000]]]}',
    "a vast field": '{"tensor": "1", "size": [1000000000000], "boxes": [[[0, 1000000000000]]]}',
    "negative": '{"tensor": "1", "size": [4], "boxes": [[[-4, 0]]]}',
    "no numbers": '{"tensor": "1", "size": ["a"], "boxes": [[["a", "b"]]]}',
    "no size": '{"tensor": "1", "boxes": [[[0, 4]]]}',
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_structures_of_every_kind_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "c"
    tensors = {"0": torch.zeros(1, 1, 4), "1.0": torch.zeros(1, 1, 4), "1.1": torch.zeros(1, 1, 2)}
    metadata = {"format": "convnd checkpoint 6", "mark": "m", "state": STRUCTURES[name]}
    save_file(tensors, path, metadata)
    if name == "another kind":  # `StyleTransfer` refuses it
        assert load_checkpoint(path, "m") == 5
        return
    with raises(InputFileError, operation="resume", expected="a complete checkpoint"):
        load_checkpoint(path, "m")
    with raises(UsageError, operation="resume", expected="the checkpoint of these"):
        load_checkpoint(path, "other")  # the mark comes first


@pytest.mark.parametrize("dtype", [torch.complex64, torch.float8_e4m3fn, torch.int8, torch.float16])
def test_other_types_are_refused(dtype: torch.dtype, tmp_path: Path) -> None:
    metadata = {"format": "convnd checkpoint 6", "mark": "m", "state": '{"tensor": "0"}'}
    save_file({"0": torch.zeros(4).to(dtype)}, tmp_path / "c", metadata)
    with raises(InputFileError, operation="resume", expected="a complete checkpoint"):
        load_checkpoint(tmp_path / "c", "m")


@pytest.mark.parametrize("kind", ["folder", "pipe", "empty", "text", "loop", "metadata"])
def test_what_is_no_checkpoint_is_refused_and_stays(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png.checkpoint"
    makers: dict[str, Callable[[], object]] = {
        "folder": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
        "empty": path.touch,
        "text": lambda: path.write_text("of the user's"),
        "loop": lambda: path.symlink_to(path.name),
        "metadata": lambda: save_file({"a": torch.zeros(1)}, path, {"format": "pt"}),
    }
    makers[kind]()
    assert not is_checkpoint(path)
    with pytest.raises(InputFileError):
        load_checkpoint(path, "m")
    with raises(OutputExistsError, operation="a.png.checkpoint", got="another file"):
        Checkpointer(tmp_path / "a.png", 1).check(resume=False, overwrite=True)


def test_a_link_is_no_place_for_a_checkpoint(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "real", {}, "m")
    (tmp_path / "a.png.checkpoint").symlink_to(tmp_path / "real")
    assert is_checkpoint(tmp_path / "real")
    assert not is_checkpoint(tmp_path / "a.png.checkpoint")


OPTIONS = VideoOptions(backbone="compact", size=0)
ENTRY: dict[str, Any] = {
    **{"pass": 1, "number": 0, "pts": 0, "duration": 1, "name": "a.png", "cut": False},
    **{"steps": 3, "rejected_steps": 0, "loss": 1.5, "parts": {"style": 1.5}},
    **{"e_warp": None, "input_e_warp": 0.1, "codec": 0.1, "flow": 0.0, "features": 1},
}


def kept_frames(folder: Path, *lines: bytes | dict[str, Any]) -> FrameCache:
    """The frames that a run would continue from, with a list of our own."""
    cache = FrameCache(folder / "a.mp4")
    if not cache.exists():
        cache.open(OPTIONS, ["x"], resume=False)
        cache.save(FIRST_PASS, 0, torch.full((1, 3, 4, 6), 0.5), {})
    header = cache._log.read_bytes().splitlines()[0]
    texts = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    cache._log.write_bytes(b"\n".join([header, *texts]) + b"\n")
    cache = FrameCache(folder / "a.mp4")
    cache.open(OPTIONS, ["x"], resume=True)
    return cache


def test_kept_frames_that_are_right_are_continued(tmp_path: Path) -> None:
    assert set(kept_frames(tmp_path, ENTRY).records) == {(FIRST_PASS, 0)}


@pytest.mark.parametrize(
    "line",
    [b"[" * 100_000, b"\xff\xfe", b"5", b"[]", b"{}", b'{"pass": 1}', b'{"pass": 1, "number": 0}'],
)
def test_lines_that_are_no_entries_end_the_list(line: bytes, tmp_path: Path) -> None:
    assert kept_frames(tmp_path, line, ENTRY).records == {}


def test_any_change_of_an_entry_is_taken_or_ends_the_list(tmp_path: Path) -> None:
    wrong = [value for value in WRONG if not isinstance(value, torch.Tensor)]
    wrong += ["../x", "/etc/passwd", "a/b", "..", "\0", {"a": "b"}, {"a": float("nan")}]
    cases = [(name, value) for name in ENTRY for value in [*wrong, ...]]
    for name, value in random.Random(4).sample(cases, 60):
        entry = replaced(ENTRY, (name,), value)
        for frame in kept_frames(tmp_path, entry).records.values():
            assert frame["name"] in (None, "", "x", ENTRY["name"])
            assert all(isinstance(x, int | float) for x in frame["parts"].values())
            assert isinstance(frame["pts"], int)


def test_kept_frames_of_another_shape_are_refused(tmp_path: Path) -> None:
    cache = kept_frames(tmp_path, ENTRY)
    cache.size = (4, 6)
    assert cache.load(FIRST_PASS, 0).shape == (1, 3, 4, 6)
    cache.size = (4, 8)
    with raises(InputFileError, operation="resume", expected="8x4 pixels"):
        cache.load(FIRST_PASS, 0)


def test_a_list_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    folder = tmp_path / "a.mp4.frames"
    folder.mkdir()
    os.mkfifo(folder / "frames.jsonl")
    with pytest.raises(ConvndError):
        FrameCache(tmp_path / "a.mp4").open(OPTIONS, ["x"], resume=True)


def test_folders_of_others_are_refused_and_stay(tmp_path: Path) -> None:
    folder = tmp_path / "a.mp4.frames"
    folder.mkdir()
    FrameCache(tmp_path / "a.mp4").check(resume=False, overwrite=False)  # empty
    (folder / "frame-000001.png").write_bytes(b"of the user's")
    for flags in ({"resume": True}, {"overwrite": True}, {}):
        with raises(OutputExistsError, operation="a.mp4.frames", got="another"):
            FrameCache(tmp_path / "a.mp4").check(**{"resume": False, "overwrite": False, **flags})
    with pytest.raises(InputFileError):
        read(folder / "frame-000001.png")
    other = tmp_path / "b.mp4.frames"
    other.symlink_to(folder)
    with pytest.raises(OutputExistsError):
        FrameCache(tmp_path / "b.mp4").check(resume=False, overwrite=True)
