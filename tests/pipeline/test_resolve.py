"""What was typed becomes a job: folders of every kind, their results, and shares of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from command_line import Run
from convnd_tasks.inspect.inputs import resolve_inputs
from convnd_tasks.pipeline.job_spec import JobSpec
from convnd_tasks.pipeline.resolve import resolve
from convnd_tasks.samples import MATCHING_STYLE
from error_fields import check_error, raises
from PIL import Image

from convnd.errors import InputFileError, UnknownNameError, UsageError


def folder_of(root: Path, *names: str) -> str:
    root.mkdir()
    for name in names:
        (root / name).touch()
    return str(root)


@pytest.mark.parametrize(
    ("names", "dim", "modality", "kind", "results"),
    [
        (["b.jpg", "a.png"], None, None, "pictures", ["a_stylized.png", "b_stylized.png"]),
        (["a.csv", "b.edf"], None, None, "signals", ["a_stylized.csv", "b_stylized.edf"]),
        (["a.npy", "b.npz"], 1, None, "signals", ["a_stylized.npy", "b_stylized.npz"]),
        (["a.npy", "b.npz"], 2, None, "arrays", ["a_stylized.npy", "b_stylized.npz"]),
        (["a.npy"], 4, None, "arrays", ["a_stylized.npy"]),
        (["a.nii", "b.nii.gz"], None, None, "volumes", ["a_stylized.nii.gz", "b_stylized.nii.gz"]),
        (["a.nii", "b.mha"], 3, "volumes", "volumes", ["a_stylized.nii.gz", "b_stylized.nii.gz"]),
        (["a.mp4", "b.mkv"], None, None, "videos", ["a_stylized.mp4", "b_stylized.mkv"]),
        (["a.mp4", "b.gif"], None, "videos", "videos", ["a_stylized.mp4", "b_stylized.gif"]),
    ],
)
def test_a_folder_is_a_job_for_each_file(
    names: list[str],
    dim: int | None,
    modality: str | None,
    kind: str,
    results: list[str],
    tmp_path: Path,
) -> None:
    folder = folder_of(tmp_path / "in", *names, "notes.pdf")
    spec = resolve([folder], ["waves"], dim=dim, modality=modality)
    assert (spec.modality, spec.batch) == (kind, True)
    assert [Path(name or "").name for name in spec.contents] == sorted(names)
    assert [path.name for path in spec.outputs] == results
    assert {path.parent.name for path in spec.outputs} == {"in_stylized"}
    spec = resolve([folder], ["waves"], dim=dim, modality=modality, output=tmp_path / "out")
    assert {path.parent for path in spec.outputs} == {tmp_path / "out"}


@pytest.mark.parametrize(
    ("names", "modality"),
    [(["1.dcm", "2.dcm"], "volumes"), (["1.png", "2.png"], "videos")],
)
def test_a_folder_of_slices_or_frames_is_one_content(
    names: list[str], modality: str, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path / "in", *names)
    spec = resolve([folder], ["waves"], modality=modality)
    assert (spec.modality, spec.batch, spec.contents) == (modality, False, (folder,))


def test_styles_come_from_both_places_and_one_is_built_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png", "c.png", "b.nii"):
        Path(name).touch()
    spec = resolve(["a.png", "b.png"], ["c.png"])
    assert (spec.contents, spec.styles) == (("a.png",), ("b.png", "c.png"))
    spec = resolve(["a.png"])
    assert len(spec.styles) == 1
    assert spec.styles[0] in spec.message
    spec = resolve(["a.png", "b.png"], texture=True)
    assert (spec.contents, spec.styles) == ((None,), ("a.png", "b.png"))
    with raises(UsageError, operation="inputs", got="2 of a.png and 3 of b.nii"):
        resolve(["a.png", "b.nii"])
    with raises(UsageError, operation="--dim", expected="2, the number", got="3"):
        resolve(["a.png"], dim=3)


def test_inputs_that_a_command_does_not_take_are_named(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "notes", "a.md", "photo.png")
    with raises(InputFileError, operation="photo.png", expected="a video"):
        resolve([f"{folder}/photo.png"], modality="videos")
    (tmp_path / "notes" / "photo.png").unlink()
    with raises(InputFileError, operation="notes", got="none", remedy="give another folder"):
        resolve([folder, "waves"])


def test_shares_of_a_folder_are_disjoint_and_complete(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in", *(f"{number}.nii" for number in range(7)))
    spec = resolve([folder], ["waves"])
    shares = [spec.shard(number, 3) for number in (1, 2, 3)]

    def pairs(spec: JobSpec) -> list[tuple[str | None, Path]]:
        return list(zip(spec.contents, spec.outputs, strict=True))

    together = [pair for share in shares for pair in pairs(share)]
    assert sorted(together, key=str) == sorted(pairs(spec), key=str)
    assert [len(share.contents) for share in shares] == [3, 2, 2]


SCANS = ["stylize-volume", "scans", "--style", "style.nii", "--transfer", "paint"]
SCANS += ["--backbone", "compact", "--style-layers", "relu1_1"]
SCANS += ["--steps", "1", "--scales", "1", "--no-figures", "-q"]


@pytest.fixture
def scans(tmp_path: Path, rng: np.random.Generator) -> Path:
    """A folder of three scans."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for path in (*(folder / f"{name}.nii" for name in "abc"), tmp_path / "style.nii"):
        voxels = rng.normal(0, 100, (18, 17, 16)).astype(np.float32)
        nib.Nifti1Image(voxels, np.eye(4)).to_filename(path)
    return folder


def results_in(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in sorted(folder.iterdir())}


def test_machines_share_a_folder_of_scans_and_skip_what_is_there(
    scans: Path, run: Run, tmp_path: Path
) -> None:
    results = tmp_path / "scans_stylized"
    code, _, err = run(*SCANS, "--shard", "2/2")
    assert code == 0, err
    assert list(results_in(results)) == ["b_stylized.nii.gz"]
    code, out, err = run(*SCANS, "--skip-existing")
    assert code == 0, err
    first = results_in(results)
    assert list(first) == [f"{name}_stylized.nii.gz" for name in "abc"]
    assert out.count("\n") == 3
    code, _, err = run(*SCANS, "--skip-existing")
    assert (code, results_in(results)) == (0, first), err
    # Other parameters: refused without --overwrite.
    code, _, err = run(*SCANS, "--skip-existing", "--seed", "3")
    assert (code, results_in(results)) == (1, first), err
    code, _, err = run("stylize-volume", "scans/a.nii", *SCANS[2:], "--shard", "1/2")
    assert (code, err.count("\n")) == (2, 1)
    check_error(err, operation="--shard", expected="a folder")


@pytest.mark.parametrize(
    ("output", "kind", "result", "folder"),
    [
        (None, None, "a_stylized.png", None),
        ("b.png", None, "b.png", None),
        ("new/", None, "new/a_stylized.png", "new"),
        ("there", None, "there/a_stylized.png", None),
        ("there/", None, "there/a_stylized.png", None),
        ("new", None, "new", None),  # an unknown suffix, which writing refuses
        ("new/", "videos", "new", None),  # a folder of frames
        ("there/", "videos", "there/a_stylized.mp4", None),
    ],
)
def test_the_place_of_a_result(
    output: str | None,
    kind: str | None,
    result: str,
    folder: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there").mkdir()
    name = "a.mp4" if kind == "videos" else "a.png"
    Path(name).touch()
    spec = resolve([name, "waves"], output=output)
    assert spec.outputs == (Path(result),)
    assert spec.folder == (None if folder is None else Path(folder))
    spec.make_folder()
    assert Path("new").exists() == (folder == "new")


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("stylize", "a.png", "waves", "--size", "32"), "neu.png"),
        (("stylize", "a.csv", "a.csv", "--rate", "250"), "neu.csv"),
        pytest.param(
            ("stylize-volume", "a.nii", "--style", "waves"), "neu.nii", marks=pytest.mark.slow
        ),
    ],
)
def test_a_name_without_suffix_is_answered_with_names_that_work(
    words: tuple[str, ...], name: str, tmp_path: Path, run: Any
) -> None:
    Image.new("RGB", (32, 32), (9, 80, 70)).save(tmp_path / "a.png")
    (tmp_path / "a.csv").write_text("II\n" + "".join(f"{k % 7}\n" for k in range(64)))
    values = np.random.default_rng(0).normal(0, 20, (16, 16, 16)).astype("f")
    nib.Nifti1Image(values, np.eye(4)).to_filename(tmp_path / "a.nii")
    few = ("--steps", "0", "--scales", "1", "--no-figures")
    code, _, err = run(*words, *few, "-o", "neu")
    assert code == 2
    check_error(err, remedy=f"{name}, or neu/")
    code, _, err = run(*words, *few, "-o", "neu/")  # as it says
    assert code == 0, err
    assert any("stylized" in path.name for path in (tmp_path / "neu").iterdir())


@pytest.mark.parametrize(
    ("names", "role", "typed", "remedy"),
    [
        (["town", "wavs"], "style", "'wavs'", "did you mean 'waves'?"),
        (["twon", "waves"], "content", "'twon'", "did you mean 'town'?"),
        (["photos", "waves"], "content", "'photos'", "check the spelling"),
    ],
)
def test_a_mistyped_name_is_the_fault_and_not_a_missing_rank(
    names: list[str], role: str, typed: str, remedy: str
) -> None:
    with pytest.raises(UnknownNameError) as refused:
        resolve(names)
    assert (refused.value.operation, refused.value.got) == (role, typed)
    assert refused.value.remedy == remedy


@pytest.mark.parametrize(
    "words",
    [
        ("stylize", "photo.jgp", "a.png"),
        ("stylize", "a.png", "photo.jgp"),
        ("stylize", "a.png", "photo/"),
        ("stylize", "a.png", "--style", "photo.jgp"),
        ("stylize", "a.png", "a.png", "--mask", "photo.jgp"),
        ("stylize", "a.png", "a.png", "--mask", "photo"),
        ("stylize", "a.png", "a.png", "--init", "photo.jgp"),
        ("stylize", "--texture", "photo.jgp"),
        ("stylize", "in/", "photo.jgp"),
        ("stylize", "a.png", "photo.safetensors"),
        ("stylize-volume", "photo.nii", "--style", "a.png"),
        ("stylize-video", "photo.mp4", "a.png"),
        ("evaluate", "a.png", "photo.jgp"),
        ("evaluate", "a.png", "a.png", "--style", "photo.jgp"),
        ("patches", "photo.jgp"),
        ("train", "a.png", "--data", "photo"),
        ("train", "photo.jgp"),
        ("rerun", "photo.jgp"),
        ("rerun", "a.png", "--inputs", "photo"),
    ],
)
def test_a_missing_input_is_the_first_fault(
    words: tuple[str, ...], tmp_path: Path, run: Any
) -> None:
    folder_of(tmp_path / "in", "a.png")
    folder_of(tmp_path / "photos", "a.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    for name in ("photo.jpg", "photo.mp4x", "a_stylized.png", "a_stylized"):
        (tmp_path / name).touch()
    before = sorted(tmp_path.rglob("*"))
    code, out, err = run(*words)
    assert (code, out, err.count("\n")) == (3, "", 1)
    check_error(err, operation="read photo", expected="an existing f", remedy="did you mean 'photo")
    assert sorted(tmp_path.rglob("*")) == before


def test_samples_of_one_rank_tell_the_rank() -> None:
    assert resolve(["town", "waves"]).dim == 2
    assert resolve(["ecg", "arrhythmia"]).modality == "signals"
    assert resolve(["chest", MATCHING_STYLE]).modality == "volumes"
    assert resolve_inputs(["town"], None)[1] == 2
    with raises(UsageError, operation="--dim"):
        resolve_inputs(["waves"], None)
    with pytest.raises(UsageError, match="add --dim"):
        resolve(["waves"], texture=True)


def test_work_without_files_is_refused_from_five_axes_on(run: Run) -> None:
    assert resolve([], dim=4).demo
    with raises(UsageError, operation="--dim", got="5"):
        resolve([], dim=5)
    code, out, err = run("patches", "--dim", "5")
    assert (code, out) == (2, "")
    check_error(err, operation="--dim", got="5")


def test_the_demo_has_defaults_of_its_own() -> None:
    # 24 samples along each of four axes took minutes.
    assert resolve([], dim=4).defaults == {"size": 16, "steps": 15}
    assert resolve([], dim=2).defaults == {"size": 320}
    assert resolve(["town", "waves"]).defaults == {}
