"""Whatever a header or the command line says: a result, or our own one-line error."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_origin

import numpy as np
import pytest
from convnd_tasks.inspect.options import PatchOptions
from convnd_tasks.inspect.units import parse_units
from convnd_tasks.modalities.video.options import VideoOptions
from convnd_tasks.modalities.volumes.options import VolumeOptions, parse_window
from convnd_tasks.pipeline.flags import numbers
from convnd_tasks.pipeline.resolve import parse_shard
from convnd_tasks.runtime.fraction import parse_fraction
from hypothesis import given, settings
from hypothesis import strategies as st
from malformed import PARTS, WHOLE
from refusals import refusal

import convnd.io
from convnd.errors import UsageError
from convnd.options import flags_of
from convnd.shapes import parse_layer, parse_shape
from convnd.transfer.byte_size import parse_memory
from convnd.transfer.options import TransferOptions

# The same cases each time; no time is measured.
SETTINGS = settings(max_examples=12, derandomize=True, deadline=None, database=None)

HEADERS = {  # of one file of each format: bytes in which it says what follows
    "a.png": 60, "a.jpg": 200, "a.webp": 40, "a.bmp": 54, "a.gif": 40, "a.avif": 300, "a.tif": 8,
    "a.npy": 128, "a.npz": 200, "a.nii": 352, "a.nrrd": 300, "a.mha": 300, "a.csv": 60,
    "a.hea": 120, "a.edf": 768, "a.bdf": 768, "a.wav": 44, "a.dcm": 900, "a.mp4": 600, "a.mkv": 400,
}  # fmt: skip

NUMBERS = st.one_of(
    st.sampled_from([0, 1, -1, 2**15, -(2**15), 2**31 - 1, -(2**31), 2**63 - 1]),
    st.integers(-(2**63), 2**63 - 1),
)
BINARY = st.one_of(
    st.builds(struct.pack, st.sampled_from(["<q", ">q"]), NUMBERS),
    st.builds(
        lambda form, number: struct.pack(form, number & 0xFFFF_FFFF),
        st.sampled_from(["<I", ">I"]),
        NUMBERS,
    ),
    st.builds(
        lambda form, number: struct.pack(form, number & 0xFFFF),
        st.sampled_from(["<H", ">H"]),
        NUMBERS,
    ),
    st.builds(struct.pack, st.sampled_from(["<f", ">f"]), st.floats(width=32)),
    st.builds(struct.pack, st.sampled_from(["<d", ">d"]), st.floats()),
)
TEXT = st.one_of(NUMBERS.map(str), st.floats().map(str), st.text(max_size=12)).map(
    lambda text: text.encode("utf-8", "replace")
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    for name in HEADERS:
        WHOLE[name](folder / name, np.random.default_rng(1))
        convnd.io.read(folder / name)
    return folder


@pytest.mark.parametrize("name", HEADERS)
def test_any_header_is_read_or_refused(
    name: str,
    whole: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path_factory.mktemp("any")
    monkeypatch.chdir(folder)
    for part in PARTS.get(name, (name,)):
        Path(part).write_bytes((whole / part).read_bytes())
    good = (whole / name).read_bytes()
    place = st.integers(0, min(HEADERS[name], len(good)) - 1)

    @SETTINGS
    @given(st.lists(st.tuples(place, st.one_of(BINARY, TEXT)), min_size=1, max_size=3))
    def check(changes: list[tuple[int, bytes]]) -> None:
        data = bytearray(good)
        for offset, new in changes:
            data[offset : offset + len(new)] = new
        Path(name).write_bytes(data)
        refusal(Path(name))

    check()


# Python itself refuses to make a number of more than 4300 digits.
_LONG = "9" * 5000
WORDS = st.one_of(
    st.text(max_size=20),
    st.text("0123456789.,:-+eExX/×=naninf ", max_size=16),
    st.lists(NUMBERS.map(str), max_size=4).map(",".join),
    st.sampled_from(["auto", "none", "all", "random:3", "0-15", "lung", "4GiB", "conv:5:2"]),
    st.sampled_from(["²", "random:²", "0-²", "²/²", "²GiB", "²x²", "conv:²:²"]),
    st.sampled_from([_LONG, f"0-{_LONG}", f"random:{_LONG}", f"{_LONG}/{_LONG}", f"{_LONG}GiB"]),
    st.sampled_from([f"{_LONG}x1", f"conv:{_LONG}:{_LONG}", f"conv:3:3,stride={_LONG}"]),
)
PARSERS: dict[str, Callable[[str], object]] = {
    "shape": lambda text: parse_shape(text, None),
    "layer": lambda text: parse_layer(text, 2),
    "window": parse_window,
    "memory": parse_memory,
    "shard": parse_shard,
    "units": lambda text: parse_units(text, 64, layer="relu1_1", seed=0),
    "numbers": lambda text: numbers("--style-weights", text, float),
    "whole numbers": lambda text: numbers("--references", text, int),
    "seconds": lambda text: parse_fraction("--from", text),
    "rate": lambda text: parse_fraction("--rate", text),
}


@pytest.mark.parametrize("parser", PARSERS)
def test_any_word_is_understood_or_a_usage_error(parser: str) -> None:
    @settings(SETTINGS, max_examples=100)
    @given(WORDS)
    def check(word: str) -> None:
        try:
            PARSERS[parser](word)
        except UsageError as error:
            said = str(error)
        else:
            said = ""
        assert said.isprintable()

    check()


def _values(kind: Any) -> st.SearchStrategy[Any]:
    if get_origin(kind) is tuple:
        return st.lists(_values(get_args(kind)[0]), max_size=4).map(tuple)
    kinds: dict[Any, st.SearchStrategy[Any]] = {
        int: NUMBERS | st.integers(-(10**30), 10**30),
        float: st.floats(),
        str: WORDS,
        bool: st.booleans(),
        type(None): st.none(),
    }
    return st.one_of([kinds[member] for member in (get_args(kind) or (kind,))])


@pytest.mark.parametrize("options", [TransferOptions, VideoOptions, VolumeOptions, PatchOptions])
def test_any_options_are_taken_or_a_usage_error(options: Any) -> None:
    fields = {name: _values(kind) for name, (kind, _) in flags_of(options).items()}

    @settings(SETTINGS, max_examples=200)
    @given(
        st.sampled_from(sorted(fields)).flatmap(lambda name: st.tuples(st.just(name), fields[name]))
    )
    def check(chosen: tuple[str, Any]) -> None:
        try:
            accepted = options(**dict([chosen]))
        except UsageError as error:
            said = str(error)
            assert said.isprintable()
        else:
            # What is kept of options is all there.
            assert set(accepted.record()) == {field.name for field in dataclasses.fields(accepted)}

    check()
