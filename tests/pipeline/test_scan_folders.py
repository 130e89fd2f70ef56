"""Folders of scans: series in folders below, pairs of files, and names after BIDS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as _nibabel
import numpy as np
import pytest
from command_line import Run
from convnd_tasks.pipeline.folders import result_name
from convnd_tasks.pipeline.resolve import resolve
from dicom_files import series
from error_fields import check_error, raises
from PIL import Image

import convnd.io
from convnd.errors import InputFileError, UsageError

nibabel: Any = _nibabel  # its type hints are incomplete
QUICK = ("--steps", "1", "-q", "--no-figures", "--style-layers", "relu1_1")


def scan(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).normal(300, 40, (18, 17, 16)).astype(np.float32)
    image = nibabel.Nifti1Pair if path.suffix == ".img" else nibabel.Nifti1Image
    nibabel.save(image(values, np.diag([1.0, 1, 2, 1])), path)
    return path


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("sub-01_T1w.nii.gz", "sub-01_desc-stylized_T1w.nii.gz"),
        ("sub-01_ses-pre_acq-mp2_run-1_T1w.nii", "sub-01_ses-pre_acq-mp2_run-1_desc-stylized_T1w"),
        ("sub-01_desc-preproc_T1w.nii.gz", "sub-01_desc-preprocstylized_T1w.nii.gz"),
        ("sub-01.nii.gz", "sub-01_stylized.nii.gz"),
        ("subject_T1w.nii.gz", "subject_T1w_stylized.nii.gz"),
    ],
)
def test_results_of_names_after_bids_are_such_names(name: str, result: str) -> None:
    assert result_name(name, "volumes", 3).removesuffix(".nii.gz") == result.removesuffix(".nii.gz")


def test_a_tree_after_bids_becomes_such_a_tree(run: Run, tmp_path: Path) -> None:
    for subject in ("01", "02"):
        scan(tmp_path / "bids" / f"sub-{subject}" / "anat" / f"sub-{subject}_T1w.nii.gz")
    (tmp_path / "bids" / "dataset_description.json").write_text("{}")
    (tmp_path / "bids" / "participants.tsv").write_text("participant_id\nsub-01\nsub-02\n")
    style = scan(tmp_path / "style.nii", 1)
    code, _, err = run("stylize-volume", "bids", "--style", style, *QUICK)
    assert code == 3
    check_error(err, remedy="--recursive")
    typed = ("stylize-volume", "bids", "--style", style, "--recursive", *QUICK)
    code, out, err = run(*typed)
    assert code == 0, err
    results = sorted(
        path.relative_to(tmp_path / "bids_stylized").as_posix()
        for path in (tmp_path / "bids_stylized").rglob("*.nii.gz")
    )
    assert results == [f"sub-{n}/anat/sub-{n}_desc-stylized_T1w.nii.gz" for n in ("01", "02")]
    assert "not stylised: .json (1), .tsv (1)" in err
    code, out, err = run(*typed, "--skip-existing")
    assert (code, out.count("made with the same parameters")) == (0, 2), err


def test_the_style_of_a_folder_of_scans_may_be_a_picture(run: Run, tmp_path: Path) -> None:
    for name in ("a.nii", "b.nii"):
        scan(tmp_path / "scans" / name)
    Image.effect_noise((32, 24), 60).convert("RGB").save(tmp_path / "paint.png")
    typed = ("stylize-volume", "scans", "--style", "paint.png", "--transfer", "paint", *QUICK)
    code, _, err = run(*typed, "--backbone", "compact")
    assert code == 0, err
    assert len(list((tmp_path / "scans_stylized").iterdir())) == 2


def test_series_in_folders_below_are_contents(tmp_path: Path) -> None:
    patient = tmp_path / "patient"
    series(patient / "thorax", [0, 5, 10])
    series(patient / "head" / "a", [0, 5], SeriesInstanceUID="1.2.9")
    scan(patient / "mr.nii")
    scan(patient / "pet.img")
    spec = resolve([str(patient)], modality="volumes", recursive=True)
    assert [Path(content or "").relative_to(patient).as_posix() for content in spec.contents] == [
        *("head/a", "mr.nii", "pet.hdr", "thorax")
    ]
    assert [path.name for path in spec.outputs] == [
        *("head-a_stylized", "mr_stylized.nii.gz", "pet_stylized.nii.gz", "thorax_stylized")
    ]
    spec = resolve([str(patient)], modality="volumes")
    assert [Path(content or "").name for content in spec.contents] == ["mr.nii", "pet.hdr"]
    assert spec.left_out == "not stylised: folders (2); --recursive searches folders"


def test_one_of_several_series_is_chosen(run: Run, tmp_path: Path) -> None:
    places = [0, 5, 10, 15]
    both = tmp_path / "both"
    series(both / "a", places, SeriesNumber=2, SeriesDescription="B70f", SeriesInstanceUID="1.2.1")
    series(both / "b", places[:3], SeriesNumber=3, SeriesInstanceUID="1.2.2")
    typed = ("stylize-volume", "both", "--style", "both", *QUICK)
    code, _, err = run(*typed)
    assert code == 3
    check_error(err, remedy="--series")
    code, _, err = run(*typed, "--series", "b70,3")
    assert code == 0, err
    assert convnd.io.read(tmp_path / "both_stylized").shape == (20, 24, 4)
    code, _, err = run("evaluate", "both", "both_stylized", "--series", "2")
    assert code == 0, err
    code, _, err = run("rerun", "both_stylized", "-o", "again")
    assert code == 0, err
    assert convnd.io.digest(tmp_path / "again") == convnd.io.digest(tmp_path / "both_stylized")
    scan(tmp_path / "a.nii")
    code, _, err = run("stylize-volume", "a.nii", "--style", "a.nii", "--series", "2", *QUICK)
    assert code == 2, err
    check_error(err, operation="--series", expected="a folder of DICOM files")


def test_folders_without_scans_say_what_helps(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with raises(InputFileError, operation="empty", remedy="--recursive"):
        convnd.io.read(tmp_path / "empty")
    with pytest.raises((InputFileError, UsageError)):
        resolve([str(tmp_path / "empty")], modality="volumes", recursive=True)
