"""Files that do not exist: the error names those that may have been meant."""

from __future__ import annotations

from pathlib import Path

import pytest
from error_fields import raises

from convnd import io
from convnd.errors import InputFileError
from convnd.io.missing import missing_file_error, similar_paths


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("photo.jpg", "Painting.PNG", "scan.nii.gz", "b.csv", ".photo.jpg", "style.x"):
        Path(name).touch()
    Path("holiday").mkdir()
    Path("holiday/beach.jpg").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("typed", "similar"),
    [
        ("photo.jgp", ["photo.jpg"]),
        ("phto", ["photo.jpg"]),
        ("painting.png", ["Painting.PNG"]),
        ("scan.nii", ["scan.nii.gz"]),
        ("scna.nii.gz", ["scan.nii.gz"]),
        ("a.csv", []),  # one letter of one is not similar
        ("holidy", ["holiday"]),
        ("holidy/", ["holiday"]),
        ("photo/", []),  # no file is a folder
        ("holidy/beach.jpg", ["holiday/beach.jpg"]),
        ("holidy/forest.jpg", ["holiday"]),
        ("holiday/beech.png", ["holiday/beach.jpg"]),
        ("photo.jpg/x.png", []),
        ("a\0b", []),
    ],
)
def test_similar_names_are_found(typed: str, similar: list[str], folder: Path) -> None:
    assert similar_paths(typed) == similar
    assert similar_paths(f"{folder}/{typed}") == [str(folder / name) for name in similar]


def test_the_nearest_of_many_names_come_first(folder: Path) -> None:
    for suffix in ("png", "tif", "webp", "jpeg"):
        (folder / f"photo.{suffix}").touch()
    assert similar_paths("photo.jpgg") == ["photo.jpg", "photo.jpeg", "photo.png"]


def test_the_error_names_the_fault_and_the_similar_files(folder: Path) -> None:
    (folder / "old.png").symlink_to("nowhere.png")
    for name, expected, got, remedy in (
        ("photo.jgp", "an existing file", "none", "did you mean 'photo.jpg'?"),
        ("holidy/x.png", "an existing file", "no folder holidy", "did you mean 'holiday'?"),
        ("places/", "an existing folder", "none", "check the spelling"),
        ("old.png", "an existing file", "a link to nothing", "did you mean 'old.png'?"),
        ("https://example.org/a.png", "a file", "an address", "download it first"),
    ):
        error = missing_file_error(name)
        assert (error.expected, error.got) == (expected, got)
        assert remedy in error.remedy


@pytest.mark.parametrize("name", ["photo.jgp", "photo", "photo.jpe", "photo.zzz"])
def test_a_file_that_is_missing_is_not_one_of_an_unknown_format(name: str, folder: Path) -> None:
    del folder
    for read in (io.read, io.read_provenance, io.open_video):
        with raises(InputFileError, operation=name, got="none", remedy="did you mean 'photo.jpg'?"):
            read(name)


def test_an_unknown_format_is_named_with_few_suffixes(folder: Path) -> None:
    for read in (io.read, io.read_provenance, io.open_video):
        with raises(InputFileError, got="'style.x'", remedy="convnd formats") as refused:
            read(folder / "style.x")
        assert len(refused.value.expected) < 100
