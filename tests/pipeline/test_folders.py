"""Folders of contents: kinds, files left out, names of results."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from command_line import Run
from convnd_tasks.pipeline.folders import list_contents, result_names, typical_file
from convnd_tasks.pipeline.resolve import resolve
from convnd_tasks.pipeline.style_folders import style_outputs
from error_fields import raises
from PIL import Image

from convnd.errors import InputFileError

QUICK = ["--backbone", "compact", "--steps", "1", "--scales", "1", "--size", "20"]


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def holiday(tmp_path: Path) -> Path:
    """What a telephone exports: a video first, hidden and foreign files, notes, a folder below."""
    folder = tmp_path / "holiday"
    picture(folder / "IMG_0002.JPG")
    picture(folder / "IMG_0005.png")
    picture(folder / "below" / "IMG_0003.JPG")
    (folder / "IMG_0001.MOV").write_bytes(b"x")
    (folder / "._IMG_0002.JPG").write_bytes(b"\0\5\x16\7")
    (folder / "IMG_0004.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    (folder / "IMG_0004.AAE").write_bytes(b"<plist/>")
    (folder / "list.csv").write_text("a,b\n1,2\n")
    for day in range(5):  # more than pictures
        (folder / f"notes{day}.txt").write_text("a walk\n")
    return folder


@pytest.mark.parametrize("dim", [None, 2])
def test_the_kind_of_most_files_counts(holiday: Path, dim: int | None) -> None:
    spec = resolve([str(holiday), "waves"], dim=dim)
    assert spec.modality == "pictures"
    assert [Path(content or "").name for content in spec.contents] == [
        "IMG_0002.JPG",
        "IMG_0004.HEIC",
        "IMG_0005.png",
    ]
    for part in (".aae (1)", ".csv (1)", ".mov (1)", ".txt (5)", "folders (1); --recursive"):
        assert part in spec.left_out
    assert typical_file(holiday, 1) == str(holiday / "list.csv")


def test_a_text_is_a_signal_where_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "ecg.txt").write_text("0.1\n0.2\n")
    assert resolve([str(tmp_path / "ecg.txt")], dim=1).modality == "signals"
    assert typical_file(tmp_path, None) is None
    with raises(InputFileError, expected="files of a known", got="none"):
        list_contents(tmp_path, "signals", 1)


def test_folders_below_are_searched_on_request(holiday: Path) -> None:
    spec = resolve([str(holiday), "waves"], recursive=True)
    assert [path.name for path in spec.outputs] == [
        "IMG_0002_stylized.png",
        "IMG_0004_stylized.png",
        "IMG_0005_stylized.png",
        "below-IMG_0003_stylized.png",
    ]


def test_a_folder_into_itself_leaves_results_alone(run: Run, tmp_path: Path) -> None:
    picture(tmp_path / "in" / "cat.png")
    for _ in range(2):
        code, _, err = run("stylize", "in", "waves", "-o", "in", *QUICK, "--overwrite")
        assert code == 0, err
    names = sorted(path.name for path in (tmp_path / "in").iterdir())
    assert names == ["cat.png", "cat_stylized.png"]
    assert "not stylised: results of convnd (1)" in err
    (tmp_path / "in" / "cat.png").unlink()
    with raises(InputFileError, operation="in", got="none"):
        list_contents(tmp_path / "in", "pictures", 2)
    shutil.copy(picture(tmp_path / "own.png"), tmp_path / "in" / "a_stylized.png")
    assert len(list_contents(tmp_path / "in", "pictures", 2).files) == 1  # it has no record


def test_two_results_never_have_one_name() -> None:
    names = result_names(["x.png", "x.jpg", "x.png.jpg", "X.png", "y.tif"], "pictures", 2, None)
    assert len({name.lower() for name in names[:3]}) == 3
    assert names[-1] == "y_stylized.png"
    assert result_names(["a.nii", "a.nii.gz"], "volumes", 3, None) == [
        "a.nii_stylized.nii.gz",
        "a.nii.gz_stylized.nii.gz",
    ]


def test_one_picture_goes_into_a_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    spec = resolve(["town", "waves"], output=tmp_path / "out")
    assert spec.outputs == (tmp_path / "out" / "town_stylized.png",)


def test_no_result_replaces_another_one(tmp_path: Path) -> None:
    """Folders become a part of a name, and so do styles; both can end in the same name."""
    folder = tmp_path / "c"
    contents = [picture(folder / "sub-b.png"), picture(folder / "sub" / "b.png")]
    names = result_names([str(path) for path in contents], "pictures", 2, folder)
    assert len({name.lower() for name in names}) == 2
    for styles in (["x/w.png", "y/w.png"], ["b", "b_b"]):
        results = [Path("a_stylized.png"), Path("a_b_stylized.png")]
        paths, _ = style_outputs(results, styles, "c", None)
        assert len(set(paths)) == 4, paths


def test_contents_and_styles_of_equal_names_give_all_results(run: Run, tmp_path: Path) -> None:
    picture(tmp_path / "c" / "sub-b.png")
    picture(tmp_path / "c" / "sub" / "b.png")
    picture(tmp_path / "style.png")
    code, _, err = run("stylize", "c", "style.png", "-o", "out/", "--recursive", *QUICK)
    assert code == 0, err
    assert len(list((tmp_path / "out").glob("*.png"))) == 2
