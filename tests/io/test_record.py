"""Every format gives back the record it was given, keeps none that an input brought, and says none
of a patient."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from error_fields import raises
from malformed import WHOLE

import convnd.io
from convnd.errors import InputFileError, OutputExistsError
from convnd.grid import Grid
from convnd.io.registry import FORMATS

RECORD = {
    "Software": "convnd 9",
    "convnd:inputs": '[{"name": "ü: 名; \\"x\\"", "sha256": "ab"}]',
    "convnd:blend": "",
}
WRITTEN = sorted(suffix for name in FORMATS for suffix in FORMATS[name].suffixes
                 if FORMATS[name].write is not None)  # fmt: skip

VOLUMES = (*(".nii", ".nii.gz", ".hdr", ".img", ".nrrd", ".nhdr", ".mha", ".mhd", ".mgz", ".mgh"),)


def grid_for(suffix: str) -> Grid:
    dims = convnd.io.spatial_dims(f"a{suffix}") or 2
    channels = 1 if dims == 1 or suffix in VOLUMES else 3
    values = torch.rand(1, channels, *[16] * dims, generator=torch.Generator().manual_seed(1))
    # Most formats of recordings cannot be written without a sampling rate.
    if dims == 1:
        return Grid(values=values, spacing=(1 / 250,), units=("s",), axes=("t",))
    return Grid(values=values)


@pytest.mark.parametrize("suffix", WRITTEN)
def test_the_record_comes_back_and_is_not_inherited(tmp_path: Path, suffix: str) -> None:
    first, second, third = (tmp_path / f"{name}{suffix}" for name in "abc")
    convnd.io.write(first, grid_for(suffix), provenance=RECORD)
    assert convnd.io.read_provenance(first) == RECORD
    read = convnd.io.read(first)
    convnd.io.write(second, read, provenance={"Software": "convnd 10"})
    assert convnd.io.read_provenance(second) == {"Software": "convnd 10"}
    convnd.io.write(third, convnd.io.read(second))
    assert convnd.io.read_provenance(third) == {}
    assert b"convnd" not in third.read_bytes()


# Each Ogg stream has a random serial number, which libsndfile draws.
@pytest.mark.parametrize("suffix", [kind for kind in WRITTEN if kind not in (".oga", ".ogg")])
def test_the_same_grid_gives_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    for folder in "ab":
        (tmp_path / folder).mkdir()
        convnd.io.write(tmp_path / folder / f"x{suffix}", grid_for(suffix), provenance=RECORD)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_no_moment_is_in_a_workbook(tmp_path: Path) -> None:
    """Bytes of two moments are equal only if none is written."""
    convnd.io.write(tmp_path / "a.xlsx", grid_for(".xlsx"))
    with zipfile.ZipFile(tmp_path / "a.xlsx") as archive:
        assert {part.date_time for part in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        properties = archive.read("docProps/core.xml")
    assert b"created" not in properties
    assert b"modified" not in properties


def test_a_file_beside_that_is_no_record_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.csv.json").write_text(json.dumps({"mine": "yes"}))
    with raises(OutputExistsError, operation="a.csv.json", got="another file"):
        convnd.io.write(tmp_path / "a.csv", grid_for(".csv"), provenance=RECORD)
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv.json"]
    convnd.io.write(tmp_path / "b.csv", grid_for(".csv"), provenance=RECORD)
    convnd.io.write(tmp_path / "b.csv", grid_for(".csv"), provenance=RECORD, overwrite=True)


def test_the_digest_is_of_all_that_belongs_to_an_input(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    WHOLE["a.hea"](tmp_path / "a.hea", rng)
    WHOLE["series"](tmp_path / "series", rng)
    for path, part in ((tmp_path / "a.hea", "a.dat"), (tmp_path / "a.hea", "a.atr"),
                       (tmp_path / "series", "series/1.dcm")):  # fmt: skip
        before = convnd.io.digest(path)
        data = (tmp_path / part).read_bytes()
        (tmp_path / part).write_bytes(data[:-1] + b"!")
        assert convnd.io.digest(path) != before
        (tmp_path / part).write_bytes(data)
        assert convnd.io.digest(path) == before
    with raises(InputFileError, operation="none", expected="a file that can"):
        convnd.io.digest(tmp_path / "none")


@pytest.mark.parametrize("mine", [True, False])
def test_a_result_without_a_record_leaves_none_of_an_earlier_one(
    tmp_path: Path, mine: bool
) -> None:
    side = tmp_path / "a.csv.json"
    convnd.io.write(tmp_path / "a.csv", grid_for(".csv"), provenance=RECORD)
    if not mine:
        side.write_text(json.dumps({"mine": "yes"}))
    convnd.io.write(tmp_path / "a.csv", grid_for(".csv"), overwrite=True)
    assert side.exists() != mine  # the owner's own file is left alone


def test_a_file_in_the_record_s_place_is_found_before_any_work(tmp_path: Path) -> None:
    for name in ("a.csv", "a.gif", "a.png"):
        (tmp_path / f"{name}.json").write_text("{}")
    convnd.io.check_output(tmp_path / "a.csv")
    convnd.io.check_output(tmp_path / "a.png", provenance=True)  # which holds its record itself
    with raises(OutputExistsError, operation="a.csv.json", got="another file"):
        convnd.io.check_output(tmp_path / "a.csv", provenance=True)
    WHOLE["a.mp4"](tmp_path / "a.mp4", np.random.default_rng(1))
    clip = convnd.io.open_video(tmp_path / "a.mp4")
    with raises(OutputExistsError, operation="a.gif.json", got="another file"):
        convnd.io.check_video_output(tmp_path / "a.gif", clip.info, provenance=True)
