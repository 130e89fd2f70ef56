"""A result says how it was made, and is made again, bit by bit; nothing of a patient is in it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pyedflib
import pytest
import torch
from command_line import Run
from convnd_tasks import samples
from convnd_tasks.pipeline.provenance import is_up_to_date
from convnd_tasks.pipeline.recorded_inputs import find_input
from error_fields import check_error, raises
from malformed import WHOLE
from PIL import Image, PngImagePlugin

import convnd.io
from convnd.errors import InputFileError, OutputExistsError

FAST = ["--backbone", "compact", "--steps", "2"]
LAYERS = ["--style-layers", "relu1_1", "--content-layers", "relu1_1"]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def same(one: Path, other: Path) -> bool:
    return convnd.io.digest(one, named=False) == convnd.io.digest(other, named=False)


@pytest.fixture
def inputs(tmp_path: Path, rng: Any) -> Path:
    folder = tmp_path / "inputs"
    folder.mkdir()
    for name in ("photo.png", "paint.jpg", "start.png"):
        pixels = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    rows = "\n".join(f"{a:.4f},{b:.4f}" for a, b in rng.normal(size=(300, 2)))
    (folder / "ecg.csv").write_text(f"I (mV),II (mV)\n{rows}\n")
    for name in ("scan.nii", "other.nii.gz", "mask.nii"):
        voxels = (rng.normal(size=(18, 17, 16)) * 300).astype(np.int16)
        nib.Nifti1Image(np.abs(voxels) if name == "mask.nii" else voxels, np.eye(4)).to_filename(
            folder / name
        )
    WHOLE["a.mp4"](folder / "film.mp4", rng)
    return folder


CASES = {
    "photo_stylized.png": ["stylize", "inputs/photo.png", "inputs/paint.jpg", *FAST, "--size",
                           "24", "--init", "inputs/start.png", "--style-weight", "7.25"],
    "t.tif": ["stylize", "--texture", "inputs/paint.jpg", "waves", "--size", "24", "-o", "t.tif",
              "--style-weights", "1,3", *FAST],
    "ecg.edf": ["stylize", "inputs/ecg.csv", "-o", "ecg.edf", "--rate", "100",
                "--value-statistics", "none", *FAST, *LAYERS],
    "r.hea": ["stylize", "inputs/ecg.csv", "-o", "r.hea", "--rate", "100", *FAST, *LAYERS],
    "v.nii.gz": ["stylize-volume", "inputs/scan.nii", "--style", "inputs/other.nii.gz", "--style",
                 "waves", "--mask", "inputs/mask.nii", "--dtype", "input", "--window", "-50,900",
                 "--no-figures", "-o", "v.nii.gz", "--steps", "2"],
    "f.mkv": ["stylize-video", "inputs/film.mp4", "waves", "-o", "f.mkv", "--no-figures",
              "--from", "0.04", "--every", "2", "--steps", "2", "--frame-steps", "1"],
    "g.gif": ["stylize-video", "inputs/film.mp4", "waves", "-o", "g.gif", "--to", "0.06",
              "--no-figures", "--steps", "1", "--frame-steps", "1"],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_result_is_made_again(run: Run, tmp_path: Path, inputs: Path, name: str) -> None:
    code, _, err = run(*CASES[name])
    assert code == 0, err
    result = tmp_path / name
    record = " ".join(convnd.io.read_provenance(result).values())
    assert str(tmp_path) not in record
    assert "inputs/" not in record
    for entry in json.loads(convnd.io.read_provenance(result)["convnd:inputs"]):
        known = [path.name for path in inputs.iterdir()]
        assert (entry["name"] in known) == ("sha256" in entry)
        assert "sha256" not in entry or entry["sha256"] == sha256(inputs / entry["name"])
    code, out, err = run("rerun", name, "--inputs", "inputs")
    assert code == 0, err
    assert "the same bytes as" in out
    stem, dot, rest = name.partition(".")
    rest = "dat" if rest == "hea" else rest  # its header says its own name
    again = tmp_path / f"{stem}-rerun{dot}{rest}"
    assert sha256(again) == sha256(tmp_path / f"{stem}{dot}{rest}")
    if rest == "dat":
        again.write_bytes(again.read_bytes()[:-1] + b"!")
        assert not same(result, again.with_suffix(".hea"))


@pytest.mark.parametrize("name", ["town", "waves", "lowdose", samples.MATCHING_STYLE])
def test_a_built_in_input_needs_no_file(name: str) -> None:
    assert find_input({"name": name}, []) == name
    with raises(InputFileError, expected="the name of a sample"):
        find_input({"name": f"{name}s"}, [])


def test_inputs_that_are_missing_or_other_are_refused(
    run: Run, tmp_path: Path, inputs: Path
) -> None:
    assert run(*CASES["photo_stylized.png"])[0] == 0
    code, _, err = run("rerun", "photo_stylized.png")
    assert code == 3
    check_error(err, expected="the input photo.png with sha256")
    check_error(err, got="none in")
    (inputs / "photo.png").write_bytes((inputs / "start.png").read_bytes())
    code, _, err = run("rerun", "photo_stylized.png", "--inputs", inputs)
    assert code == 3
    check_error(err, got="with another sha256")
    assert not list(tmp_path.glob("*rerun*"))


def test_without_metadata_nothing_is_said(run: Run, tmp_path: Path, inputs: Path) -> None:
    for name in ("t.tif", "ecg.edf"):
        assert run(*CASES[name], "--no-metadata")[0] == 0
        assert convnd.io.read_provenance(tmp_path / name) == {}
        assert b"convnd" not in (tmp_path / name).read_bytes()
    assert not list(tmp_path.glob("*.json"))
    code, _, err = run("rerun", "t.tif")
    assert code == 3
    check_error(err, remedy="--no-metadata")


@pytest.mark.parametrize(
    ("command", "entries", "code", "message"),
    [
        (["stylize", "--overwrite"], [], 3, "got '--overwrite' in"),
        (["stylize", "--output=x.png"], [], 3, "got '--output=x.png' in"),
        (["stylize", "--paper=x.png"], [], 3, "got '--paper=x.png' in"),
        (["stylize", "/etc/passwd"], [], 3, "got '/etc/passwd' in"),
        (["stylize", "{0}"], [{"name": "--overwrite"}], 3, "expected the name of a sample"),
        (["stylize", "{0}"], [{"name": "../a.png"}], 3, "expected a result that holds the record"),
        (["stylize", "{0}"], [{"name": ".."}], 3, "expected a result that holds the record"),
        (["stylize", "{0}"], [{"name": "a" * 300}], 3, "expected a result that holds the record"),
        (["stylize", "{0}"], [{"name": "a.png", "sha256": 5}], 3, "expected a result that holds"),
        (["stylize", "{7}"], [], 3, "got '{7}' in"),
        (["stylize", "--backbone=os:getcwd"], [], 2, "whose import runs code"),
        (["stylize", "--backbone={0}"], [{"name": "evil:net"}], 3, "got '--backbone={0}' in"),
        (["stylize", "--init=../secret.png"], [], 3, "got '--init=../secret.png' in"),
        (["stylize", "--mask=/etc/passwd"], [], 3, "got '--mask=/etc/passwd' in"),
        (["stylize", "--style=secret.png"], [], 3, "got '--style=secret.png' in"),
        (["stylize", "--report=x.html"], [], 3, "got '--report=x.html' in"),
        (["stylize", "{0}"], [{"name": "not_a_sample"}], 3, "expected the name of a sample"),
        (["weights", "remove"], [], 3, "expected a result that holds the record"),
        ({"a": 1}, [], 3, "expected a result that holds the record"),
        (["stylize", 5], [], 3, "expected a result that holds the record"),
    ],
)
def test_records_that_are_made_up_do_no_harm(
    run: Run, tmp_path: Path, command: Any, entries: Any, code: int, message: str
) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("convnd:command", json.dumps(command))
    text.add_text("convnd:inputs", json.dumps(entries))
    text.add_text("convnd:record", "2")
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png", pnginfo=text)
    status, out, err = run("rerun", "a.png")
    assert (status, out) == (code, "")
    assert message in err
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"convnd:command": '["stylize"]', "convnd:inputs": "[]"}, "another version"),
        ({"convnd:command": "[" * 200_000, "convnd:inputs": "[]"}, "expected a result that holds"),
    ],
)
def test_records_of_other_forms_are_refused_in_one_line(
    run: Run, tmp_path: Path, entries: Any, message: str
) -> None:
    text = PngImagePlugin.PngInfo()
    for key, value in entries.items():
        text.add_text(key, value)
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png", pnginfo=text)
    code, out, err = run("rerun", "a.png")
    assert (code, out, err.count("\n")) == (3, "", 1)
    assert message in err


def test_a_record_prints_no_control_characters_and_waits_for_no_pipe(
    run: Run, tmp_path: Path, inputs: Path
) -> None:
    assert run(*CASES["photo_stylized.png"])[0] == 0
    with Image.open(tmp_path / "photo_stylized.png") as picture:
        text = PngImagePlugin.PngInfo()
        entries: dict[str, str] = picture.text  # type: ignore[attr-defined]  # it is a PNG
        for key, value in {**entries, "convnd:stopped": "\x1b[31mX\nconvnd: fake"}.items():
            text.add_text(key, value)
        picture.save(tmp_path / "forged.png", pnginfo=text)
    os.mkfifo(tmp_path / "photo.png")
    code, _, err = run("rerun", "forged.png")
    assert code == 3
    check_error(err, got="none in")
    assert "\x1b" not in err
    assert "\nconvnd: fake" not in err


def test_what_is_there_is_skipped_only_if_it_is_the_same(
    run: Run, tmp_path: Path, inputs: Path
) -> None:
    (tmp_path / "in").mkdir()
    for name in ("photo.png", "start.png"):
        (inputs / name).rename(tmp_path / "in" / name)
    command = ["stylize", "in", "waves", "-o", "out", "--size", "20", *FAST, "--skip-existing"]
    assert run(*command)[0] == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    code, out, _ = run(*command)
    assert (code, out.count("made with the same parameters")) == (0, 2)
    (tmp_path / "in" / "photo.png").write_bytes((tmp_path / "in" / "start.png").read_bytes())
    code, out, err = run(*command)
    assert (code, out.count("made with the same parameters")) == (1, 1)
    check_error(err.splitlines()[0], got="differs in inputs")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before
    code, out, _ = run(*command, "--overwrite")
    assert (code, out.count("made with the same parameters")) == (0, 1)
    code, _, err = run(*command, "--seed", "1")
    assert code == 1
    check_error(err.splitlines()[0], got="differs in seed")


def test_a_result_that_was_stopped_is_not_skipped(
    run: Run, tmp_path: Path, inputs: Path, stops: Any
) -> None:
    command = [*CASES["photo_stylized.png"], "--skip-existing"]
    with stops():
        assert run(*command)[0] == 143
    assert (tmp_path / "photo_stylized.png").exists()
    code, _, err = run(*command)
    assert code == 2
    check_error(err, got="stopped early")


def test_what_does_not_change_a_result_does_not_count(
    run: Run, tmp_path: Path, inputs: Path
) -> None:
    command = [*CASES["photo_stylized.png"], "--skip-existing"]
    assert run(*command)[0] == 0
    torch.set_num_threads(2)
    try:
        code, out, err = run(*command, "--tile", "128", "--memory", "64GiB")
    finally:
        torch.set_num_threads(1)
    assert (code, err) == (0, "")
    assert "made with the same parameters" in out
    result = tmp_path / "photo_stylized.png"
    record = convnd.io.read_provenance(result)
    versions = json.loads(record["convnd:versions"])
    assert (versions["threads"], versions["processes"]) == ("1", "1")
    versions["processes"] = "3"
    assert is_up_to_date(result, {**record, "convnd:versions": json.dumps(versions)})
    versions["torch"] = "0.1"
    with raises(
        OutputExistsError, operation="photo_stylized.png", got="one that differs in versions"
    ):
        is_up_to_date(result, {**record, "convnd:versions": json.dumps(versions)})


@pytest.mark.parametrize("case", ["photo_stylized.png", "v.nii.gz"])
def test_what_has_no_record_is_not_skipped(
    run: Run, tmp_path: Path, inputs: Path, case: str
) -> None:
    code, _, err = run(*CASES[case], "--skip-existing", "--no-metadata")
    assert code == 2
    check_error(err, operation="--skip-existing", expected="with a record")
    assert not (tmp_path / case).exists()
    assert run(*CASES[case], "--no-metadata")[0] == 0
    code, _, err = run(*CASES[case], "--skip-existing")
    assert code == 2
    check_error(err, got="without a record", remedy="choose")


@pytest.fixture
def stops(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A context in which a transfer is sent a signal at each of its steps."""

    @contextlib.contextmanager
    def stopping() -> Iterator[Any]:
        from convnd.transfer.style_transfer import StyleTransfer

        whole = StyleTransfer.run

        def stops(self: Any, *arguments: Any, **named: Any) -> Any:
            for progress in whole(self, *arguments, **named):
                if progress.step == 1:
                    signal.raise_signal(signal.SIGTERM)
                yield progress

        with monkeypatch.context() as patch:
            patch.setattr(StyleTransfer, "run", stops)
            yield

    return stopping


@pytest.mark.slow
def test_a_folder_that_was_stopped_goes_on(
    run: Run, tmp_path: Path, inputs: Path, stops: Any
) -> None:
    (tmp_path / "in").mkdir()
    (inputs / "photo.png").rename(tmp_path / "in" / "a.png")
    (inputs / "start.png").rename(tmp_path / "in" / "b.png")
    command = ["stylize", "in", "waves", "-o", "out", "--size", "20", *FAST, "--scales", "1",
               "--checkpoint-every", "1", "--skip-existing"]  # fmt: skip
    (tmp_path / "in" / "b.png").rename(tmp_path / "b.png")
    assert run(*command)[0] == 0
    (tmp_path / "b.png").rename(tmp_path / "in" / "b.png")
    with stops():
        code, out, _ = run(*command)
    assert code == 143
    assert "a_stylized.png  exists" in out
    assert (tmp_path / "out" / "b_stylized.png.checkpoint").exists()
    assert run(*command)[0] == 1  # what was stopped is no result
    code, out, err = run(*command, "--resume")
    assert code == 0, err
    assert "a_stylized.png  exists" in out
    assert "out/b_stylized.png  20x17, 2 steps" in out
    assert not (tmp_path / "out" / "b_stylized.png.checkpoint").exists()
    assert "convnd:stopped" not in convnd.io.read_provenance(tmp_path / "out" / "b_stylized.png")


@pytest.mark.slow
def test_pictures_and_reports_come_and_go_with_their_result(
    run: Run, tmp_path: Path, inputs: Path, stops: Any
) -> None:
    pictures = ["--report", "r.html", "--figures"]
    command = [*CASES["r.hea"], "--scales", "1", *pictures, "--checkpoint-every", "1",
               "--skip-existing", "--resume"]  # fmt: skip
    paths = [tmp_path / name for name in ("r.html", "r-ecg.png")]
    paths[0].write_text("mine")
    code, _, err = run(*command)
    assert code == 2
    check_error(err, operation="r.html")
    assert not (tmp_path / "r.hea").exists()  # found before any work
    paths[0].unlink()
    with stops():
        assert run(*command)[0] == 143
    before = [path.read_bytes() for path in paths]
    code, out, err = run(*command)
    assert code == 0, err
    assert out.splitlines()[1:] == ["r-ecg.png", "r.html"]
    assert all(path.read_bytes() != data for path, data in zip(paths, before, strict=True))
    code, out, err = run(*command)
    assert (code, out) == (0, "r.hea  exists, made with the same parameters\n")
    assert "not written" not in err
    paths[1].unlink()
    code, out, err = run(*command)
    assert code == 0
    assert err.endswith("r-ecg.png  is not written, because the result is not made again\n")


PATIENT = (b"Nobody", b"ID4711", b"19510203", b"Clinic7")


def _write_recording(path: Path, rng: np.random.Generator) -> None:
    """Four seconds of noise, with a patient in the header."""
    with pyedflib.EdfWriter(str(path), 1) as file:
        file.setPatientName("Nobody_At_All")
        file.setPatientCode("ID4711")
        file.setAdmincode("Clinic7")
        file.setSignalHeader(0, {"label": "I", "dimension": "mV", "sample_frequency": 100,
                                 "physical_min": -5, "physical_max": 5, "digital_min": -9999,
                                 "digital_max": 9999, "transducer": "",
                                 "prefilter": ""})  # fmt: skip
        file.writeSamples([rng.normal(size=400)])


def test_what_names_a_patient_is_in_no_file(
    run: Run, tmp_path: Path, rng: np.random.Generator
) -> None:
    WHOLE["series"](tmp_path / "series", rng)
    scan = convnd.io.read(tmp_path / "series")
    assert b"Nobody^At^All" in next((tmp_path / "series").iterdir()).read_bytes()
    for name in ("a.nii.gz", "a.npz", "a.nrrd"):
        convnd.io.write(tmp_path / name, scan, provenance={"convnd:content": "series"})
    voxels: Any = nib.load(tmp_path / "a.nii.gz")
    _write_recording(tmp_path / "a.edf", rng)
    quick = ("--no-figures", "--scales", "1")
    code, out, err = run("stylize", "a.edf", "-o", "b.csv", *FAST, *LAYERS, *quick)
    assert code == 0, err
    names = ("a.npz", "a.nrrd", "b.csv", "b.csv.json")
    written = (voxels.to_bytes(), *((tmp_path / name).read_bytes() for name in names))
    for text in PATIENT:
        assert not any(text in data for data in (*written, f"{out}{err}".encode()))


@pytest.mark.slow
def test_what_names_a_patient_is_in_no_record_or_report(
    run: Run, tmp_path: Path, rng: np.random.Generator
) -> None:
    WHOLE["series"](tmp_path / "series", rng)
    import pydicom

    for path in (tmp_path / "series").iterdir():
        one = pydicom.dcmread(path)
        one.Rows = one.Columns = 20
        one.PixelData = rng.integers(0, 3000, (20, 20), dtype=np.uint16).tobytes()
        one.PatientID, one.PatientBirthDate, one.InstitutionName = "ID4711", "19510203", "Clinic7"
        one.save_as(path)
    code, out, err = run("stylize-volume", "series", "-o", "v.nii.gz", "--style", "waves",
                         "--steps", "1", "--no-figures", "--report", "r.html")  # fmt: skip
    assert code == 0, err
    _write_recording(tmp_path / "a.edf", rng)
    code, lines, notes = run("stylize", "a.edf", "-o", "a.csv", *FAST, *LAYERS)
    assert code == 0, notes
    scan: Any = nib.load(tmp_path / "v.nii.gz")
    written = (scan.to_bytes(), (tmp_path / "r.html").read_bytes(),
               (tmp_path / "a.csv").read_bytes(), (tmp_path / "a.csv.json").read_bytes(),
               f"{out}{err}{lines}{notes}".encode())  # fmt: skip
    for text in PATIENT:
        assert not any(text in data for data in written)
