from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from error_fields import raises

import convnd.io
from convnd.errors import InputFileError
from convnd.grid import Grid
from convnd.io.array import without_channels
from convnd.io.cropping import crop


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4", "int16", "u1", "bool"])
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_values_and_floating_types_come_back(
    tmp_path: Path, rng: np.random.Generator, suffix: str, dtype: str
) -> None:
    stored = (rng.normal(size=(2, 3, 4)) * 50).astype(dtype)
    save = np.save if suffix == ".npy" else np.savez
    save(tmp_path / f"a{suffix}", stored)
    grid = convnd.io.read(tmp_path / f"a{suffix}")
    assert grid.values.dtype == torch.float32
    np.testing.assert_array_equal(grid.values[0].numpy(), stored.astype(np.float32))

    convnd.io.write(tmp_path / f"b{suffix}", grid)
    back = np.load(tmp_path / f"b{suffix}")
    back = back if suffix == ".npy" else back["values"]
    assert back.dtype == {"float16": "f2", "float64": "f8"}.get(dtype, "f4")
    np.testing.assert_allclose(back, stored, rtol=1e-6)


def test_one_axis_is_one_channel_and_order_does_not_matter(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(5.0))
    assert convnd.io.read(tmp_path / "a.npy").values.shape == (1, 1, 5)
    stored = np.asfortranarray(np.arange(24.0).reshape(2, 3, 4))
    np.save(tmp_path / "b.npy", stored)
    np.testing.assert_array_equal(convnd.io.read(tmp_path / "b.npy").values[0], stored)


def test_gaps_survive(tmp_path: Path) -> None:
    stored = np.array([[1, np.nan, 3]], np.float32)
    np.save(tmp_path / "a.npy", stored)
    convnd.io.write(tmp_path / "b.npy", convnd.io.read(tmp_path / "a.npy"))
    np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), stored)


def test_half_precision_gives_way_before_values_do(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((1, 4), np.float16))
    grid = convnd.io.read(tmp_path / "a.npy")
    convnd.io.write(tmp_path / "b.npy", grid.with_values(grid.values * 1e6))
    assert np.load(tmp_path / "b.npy").tolist() == [[1e6] * 4]


def test_npz_describes_its_grid(tmp_path: Path) -> None:
    grid = Grid(
        values=torch.rand(1, 2, 9),
        spacing=(0.002,),
        units=("s",),
        axes=("t",),
        channels=("I", "II"),
    )
    convnd.io.write(tmp_path / "a.npz", grid, provenance={"steps": "5"})
    with np.load(tmp_path / "a.npz") as stored:
        assert stored["spacing"].tolist() == [0.002]
        assert stored["channels"].tolist() == ["I", "II"]
        assert json.loads(str(stored["record"])) == {"steps": "5"}
    back = convnd.io.read(tmp_path / "a.npz")
    for name in ("spacing", "units", "axes", "channels"):
        assert getattr(back, name) == getattr(grid, name)


def test_an_array_alone_may_have_any_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", ecg=np.zeros((1, 8)), spacing=[0.5])
    assert convnd.io.read(tmp_path / "a.npz").spacing == (0.5,)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.array([None]), {"expected": "an array of real", "got": "object"}),
        (np.zeros((1, 2), complex), {"got": "complex128"}),
        (np.array([["a"]]), {"got": "<U1"}),
        (np.zeros((1, 2), [("a", "f4")]), {"got": "[('a', '<f4')]"}),
        (np.zeros((1, 2), [("名", "f4")]), {"expected": "1 or 2", "got": "(3, 0)"}),
        (np.float32(1), {"got": "a single number"}),
        (np.zeros((1, 0)), {"expected": "at least one sample", "got": "1 × 0"}),
        (np.full((1, 2), 1e300), {"got": "damaged or unsupported"}),
    ],
)
def test_arrays_that_are_refused(tmp_path: Path, array: Any, words: dict[str, str]) -> None:
    array, file = np.asarray(array), io.BytesIO()
    version = (3, 0) if array.dtype.names == ("名",) else None
    np.lib.format.write_array(file, array, version=version)
    (tmp_path / "a.npy").write_bytes(file.getvalue())
    with raises(InputFileError, **words):
        convnd.io.read(tmp_path / "a.npy")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", file.getvalue())
    with raises(InputFileError, **words):
        convnd.io.read(tmp_path / "a.npz")


def test_archives_that_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"

    def refused(words: dict[str, str], **entries: Any) -> None:
        np.savez(path, **entries)
        with raises(InputFileError, **words):
            convnd.io.read(path)

    refused({"operation": "a.npz", "got": "a, b"}, a=[1.0], b=[2.0])
    refused({"operation": "a.npz", "got": "none"})
    refused(
        {"operation": "a.npz", "got": "('Grid: expected 1 spacing"},
        values=[1.0, 2.0],
        spacing=[1.0, 2.0],
    )
    refused(
        {"operation": "a.npz", "got": "expected positive finite spacing"},
        values=[1.0, 2.0],
        spacing=[0.0],
    )
    refused({"operation": "a.npz", "got": "float64"}, values=[1.0, 2.0], units=[1.0])


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_size_is_judged_by_the_header(tmp_path: Path, suffix: str) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (1, 10**12)}
    )
    path = tmp_path / f"a{suffix}"
    if suffix == ".npy":
        path.write_bytes(header.getvalue() + bytes(40))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("values.npy", header.getvalue() + bytes(40))
    with raises(
        InputFileError, expected="1,073,741,824 pixels", got="1 × 1000000000000 = 1,000,000,000,000"
    ):
        convnd.io.read(path)
    np.save(tmp_path / "b.npy", np.zeros((2, 5)))
    assert convnd.io.read(tmp_path / "b.npy", max_pixels=10).shape == (5,)
    with raises(InputFileError, operation="b.npy", expected="9 pixels", got="2 × 5 = 10"):
        convnd.io.read(tmp_path / "b.npy", max_pixels=9)


def test_wrong_lengths_and_checksums_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((2, 5)))
    whole = path.read_bytes()
    for data, word in ((whole[:-1], "fewer"), (whole + b"x", "more")):
        path.write_bytes(data)
        with raises(InputFileError, expected="80 bytes", got=word):
            convnd.io.read(path)
    np.savez(tmp_path / "a.npz", values=np.zeros((2, 5)))
    changed = bytearray((tmp_path / "a.npz").read_bytes())
    changed[changed.index(b"NUMPY") + 150] ^= 1  # among the values, which are not compressed
    (tmp_path / "a.npz").write_bytes(changed)
    with raises(InputFileError, operation="a.npz", got="('Bad CRC-32"):
        convnd.io.read(tmp_path / "a.npz")


@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.int64])
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_the_first_axis_as_a_spatial_one(suffix: str, dtype: Any, tmp_path: Path) -> None:
    first = 2**40 if dtype is np.int64 else 0  # float32 does not hold it
    values = (np.arange(120) + first).reshape(2, 3, 4, 5).astype(dtype)
    path = tmp_path / f"a{suffix}"
    (np.savez if suffix == ".npz" else np.save)(path, values)
    grid = without_channels(convnd.io.read(path))
    assert grid.shape == (2, 3, 4, 5)
    assert len(grid.channels) == 1
    codes: Any = grid.header.get("integer_codes", np.zeros((1, *grid.shape)))
    assert codes.shape == (1, 2, 3, 4, 5)
    convnd.io.write(tmp_path / f"b{suffix}", grid)
    again = np.load(tmp_path / f"b{suffix}")
    again = again["values"] if suffix == ".npz" else again
    assert again.shape == values.shape
    np.testing.assert_allclose(again, values, rtol=1e-7)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f8", ">f8"])
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_unchanged_values_keep_all_digits(
    suffix: str, dtype: str, order: Any, tmp_path: Path
) -> None:
    values = np.asarray(np.random.default_rng(0).normal(size=(2, 7, 9)), dtype, order=order)
    values[0, 0, 0] = np.nan
    (np.savez if suffix == ".npz" else np.save)(tmp_path / f"a{suffix}", values)
    grid = convnd.io.read(tmp_path / f"a{suffix}")
    changed = grid.values.clone()
    changed[0, 1, 3:] += 1
    parts = {"b": (grid.with_values(changed), values)}
    parts["c"] = without_channels(parts["b"][0]), values
    parts["d"] = crop(parts["b"][0], (slice(1, 6), slice(2, 9))), values[:, 1:6, 2:]
    for name, (part, expected) in parts.items():
        convnd.io.write(tmp_path / f"{name}{suffix}", part)
        again = np.load(tmp_path / f"{name}{suffix}")
        again = again["values"] if suffix == ".npz" else again
        start = 3 if name != "d" else 2
        assert again.dtype == np.float64
        np.testing.assert_array_equal(again[0], expected[0])
        np.testing.assert_array_equal(again[1, :start], expected[1, :start])
        np.testing.assert_allclose(again[1, start:], expected[1, start:] + 1, rtol=1e-6, atol=1e-7)
