"""Files that are damaged, lie, or are no files: refused in one line, in silence, within bounds.

Every case ends in a correct grid or in an `InputFileError`, which the command line turns into exit
code 3. Nothing is printed or logged, no file is written, memory stays bounded, and no library waits
for ever.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import struct
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from command_line import Run
from error_fields import check_error, raises
from malformed import LIES, PARTS, WAYS, WHOLE
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import CTImageStorage, RLELossless
from refusals import MEBIBYTES, STATUS, bounded, error_is_one_line, refusal

import convnd.io
from convnd.errors import InputFileError, OutputExistsError
from convnd.grid import Grid
from convnd.io import array, files
from convnd.io.images import formats
from convnd.io.signals import limits
from convnd.io.video import file
from convnd.io.volumes import dicom, itk, mgh, nifti

pytestmark = pytest.mark.child

SUFFIXES = list(convnd.io.suffixes())


# A decoder that tells, before each message, how much more memory it has held since its imports.
REPORTING = r"""
import importlib, re, sys
log = open(sys.argv[1], "w")
sys.path[:] = sys.argv[2:]
from convnd.io.worker import worker
answer, limit_memory, send = worker._answer, worker._limit_memory, worker._send
before = None
def held(kind):
    return int(re.search(kind + r":\s+(\d+)", open("/proc/self/status").read())[1])
def begin(*arguments):
    global before
    before = None
    return answer(*arguments)
def limit(size):
    global before
    if before is None:
        for name in ("cv2", "av"):
            if name != "av" or "convnd.io.video.decoder" in sys.modules:
                importlib.import_module(name)
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
        before = held("VmRSS")
    limit_memory(size)
def report(*arguments, **fields):
    print(held("VmHWM") - before, file=log, flush=True)
    send(*arguments, **fields)
worker._answer, worker._limit_memory, worker._send = begin, limit, report
worker.main()
"""


CHILDLESS = [
    pytest.param(name, marks=pytest.mark.slow)
    if Path(name).suffix in (".avi", ".mkv", ".mov", ".mp4", ".webm")
    else name
    for name in WHOLE
]
"""One file of each kind; those whose reading starts a child are slow."""

CASES = [
    pytest.param(name, marks=pytest.mark.slow)
    if name in ("a.avi", "a.mkv", "a.mov", "a.webm")
    else name
    for name in WHOLE
]
"""One file of each kind. Videos of one container are quick: each reading starts a child."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def _report(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """A pipe that decoders write into, and the handle to read it without waiting."""
    pipe = tmp_path_factory.mktemp("report") / "pipe"
    os.mkfifo(pipe)
    handle = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    yield pipe, handle
    os.close(handle)


@pytest.fixture(autouse=True)
def _decoders(_report: tuple[Path, int], monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Decoders, in processes of their own, have the same bound; KiB that they took."""
    if not STATUS.exists():
        yield []
        return
    pipe, handle = _report
    command = (sys.executable, "-I", "-c", REPORTING, str(pipe))
    monkeypatch.setattr("convnd.io.worker.client.COMMAND", command)
    taken: list[int] = []
    yield taken
    with contextlib.suppress(BlockingIOError):
        while text := os.read(handle, 2**16):
            taken += map(int, text.split())
    assert max(taken, default=0) < 1024 * MEBIBYTES


@pytest.fixture(scope="module", autouse=True)
def _loaded(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Libraries are loaded before memory is measured."""
    for name in ("a.hea", "a.edf", "a.dcm", "a.mp4", "a.nrrd", "a.avif", "series", "a.nii.gz"):
        path = tmp_path_factory.mktemp("first") / name
        WHOLE[name](path, np.random.default_rng(0))
        convnd.io.read(path)


# The headers of videos are changed in `test_properties`, which starts no child for each reading.
@pytest.mark.parametrize("name", CHILDLESS)
def test_damage_is_read_or_refused(
    folder: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, name: str
) -> None:
    path = folder / name
    WHOLE[name](path, np.random.default_rng(9))
    assert convnd.io.read(path).values.numel() > 0
    refused = 0
    for part in PARTS.get(name, (name,)):
        whole = (folder / part).read_bytes()
        for number, (way, change) in enumerate(WAYS.items()):
            (folder / part).write_bytes(change(whole, np.random.default_rng([number, len(whole)])))
            try:
                refused += refusal(path) is not None
            except BaseException as error:
                error.add_note(f"{name}: {way} in {part}")
                raise
        (folder / part).write_bytes(whole)
    assert refused
    assert capfd.readouterr() == ("", "")
    assert [record.getMessage() for record in caplog.records] == []


@pytest.mark.parametrize("name", LIES)
def test_headers_that_lie_are_refused(
    folder: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, name: str
) -> None:
    path = folder / name
    path.write_bytes(LIES[name]())
    assert refusal(path) is not None
    assert capfd.readouterr() == ("", "")
    assert [record.getMessage() for record in caplog.records] == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_no_file_is_refused(folder: Path, suffix: str) -> None:
    paths = {
        kind: folder / f"{kind}{suffix}" for kind in ("empty", "folder", "pipe", "loop", "gone")
    }
    paths["empty"].touch()
    paths["folder"].mkdir()
    os.mkfifo(paths["pipe"])
    paths["loop"].symlink_to(paths["loop"])
    paths["gone"].symlink_to(folder / "nowhere")
    paths |= {
        "missing": folder / f"missing{suffix}",
        "long": folder / ("x" * 300 + suffix),
        "null": folder / f"a\0b{suffix}",
        "below": paths["empty"] / f"a{suffix}",
    }
    if Path("/dev/zero").exists():
        paths["device"] = folder / f"device{suffix}"
        paths["device"].symlink_to("/dev/zero")
    for kind, path in paths.items():
        message = refusal(path)
        assert message is not None, kind


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_may_not_be_read_is_refused(
    folder: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / f"secret{suffix}"
    path.write_bytes(b"x" * 600)
    path.chmod(0)
    if os.geteuid() == 0:  # root may read it
        opened = Path.open

        def refuse(self: Path, *arguments: Any, **named: Any) -> Any:
            if self == path:
                raise PermissionError(13, "Permission denied")
            return opened(self, *arguments, **named)

        monkeypatch.setattr(Path, "open", refuse)
    assert "permission denied" in (refusal(path) or "")


@pytest.mark.parametrize("name", CASES)
def test_how_large_inputs_may_be_is_peoples_own_choice(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    WHOLE[name](folder / name, np.random.default_rng(9))
    monkeypatch.setenv("CONVND_MAX_PIXELS", "5")
    message = refusal(folder / name)
    assert message is not None
    assert re.search("at most 5 (pixels|samples), got .*--max-pixels N", message)
    monkeypatch.setenv("CONVND_MAX_PIXELS", "1000000")
    for module in (formats, nifti, mgh, dicom, itk, array, limits, file):
        for limit in ("MAX_PIXELS", "MAX_VOXELS", "MAX_VALUES", "MAX_SAMPLES", "MAX_FRAME"):
            if hasattr(module, limit):
                monkeypatch.setattr(module, limit, 5)
    assert refusal(folder / name) is None
    monkeypatch.setenv("CONVND_MAX_PIXELS", "")
    assert refusal(folder / name) is not None


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("a.hdr", "a.img"),
        ("analyze.hdr", "analyze.img"),
        ("a.hea", "a.dat"),
        ("a.hea", "a.atr"),
        ("a.mhd", "a.raw"),
        ("a.nhdr", "a.raw"),
    ],
)
def test_parts_that_are_links_to_other_folders_are_refused(
    folder: Path, name: str, part: str
) -> None:
    (folder / "inputs").mkdir()
    WHOLE[name](folder / "inputs" / name, np.random.default_rng(9))
    file = folder / "inputs" / part
    file.rename(folder / "inputs" / "x.raw")
    file.symlink_to("x.raw")
    assert refusal(folder / "inputs" / name) is None
    file.unlink()
    (folder / "inputs" / "x.raw").rename(folder / "x.raw")
    file.symlink_to(folder / "x.raw")
    message = refusal(folder / "inputs" / name)
    assert message is not None
    assert "a link to another one" in message or "beside it" in message


def test_links_out_of_a_series_are_refused(folder: Path) -> None:
    WHOLE["series"](folder / "series", np.random.default_rng(9))
    file = folder / "series" / "1.dcm"
    file.rename(folder / "series" / "one")
    file.symlink_to("one")
    message = refusal(folder / "series")
    assert message is None or "leads out" not in message
    file.unlink()
    (folder / "series" / "one").rename(folder / "one")
    file.symlink_to(folder / "one")
    assert "a link that leads out of it" in str(refusal(folder / "series"))


@pytest.mark.parametrize("wrong", ["x", "0", "-3", "1.5"])
def test_limits_that_are_none_are_usage_errors(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wrong: str
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    monkeypatch.setenv("CONVND_MAX_PIXELS", wrong)
    assert run("stylize", "a.png", "waves")[0] == 2
    monkeypatch.setenv("CONVND_MAX_PIXELS", "")
    code, _, err = run("--max-pixels", wrong, "stylize", "a.png", "waves")
    assert (code, "--max-pixels" in err) == (2, True)
    code, _, err = run("--max-pixels", 63, "stylize", "a.png", "waves")
    assert code == 3
    check_error(err, expected="at most 63 pixels", got="8 × 8 = 64")


@pytest.mark.parametrize("name", CHILDLESS)
def test_paths_that_vanish_are_refused(
    folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Right after they were looked at; a connection that is lost says so in other words."""
    path = folder / name
    WHOLE[name](path, np.random.default_rng(9))
    convnd.io.read(path)  # what is imported at the first reading is no fault of the file
    parts = {path, *(folder / part for part in PARTS.get(name, ()))} - {folder / "series"}
    # Of a series, between headers and voxels.
    place, looked = (
        ("convnd.io.volumes.dicom.check_positions", dicom.check_positions)  # type: ignore[attr-defined]
        if path.is_dir()
        else ("convnd.io.files.check_file", files.check_file)  # type: ignore[attr-defined]
    )

    def vanish(*arguments: Any) -> None:
        looked(*arguments)
        for part in parts:
            part.unlink()

    monkeypatch.setattr(place, vanish)
    with bounded(gone=parts), pytest.raises(InputFileError) as refused:
        convnd.io.read(path)
    assert error_is_one_line(str(refused.value))
    assert re.search("stays while it is read|existing file|file .* beside it", str(refused.value))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", CHILDLESS)
@pytest.mark.parametrize(
    "stem",
    [
        "ünïcødé 图 😀\n",
        *(
            pytest.param(stem, marks=pytest.mark.slow)
            for stem in ("a b'\"$(x)%s", "x" * 200, "-rf")
        ),
    ],
)
def test_names_of_every_kind_are_read_or_refused(folder: Path, name: str, stem: str) -> None:
    source = folder / "made" / name
    source.parent.mkdir()
    WHOLE[name](source, np.random.default_rng(9))
    for path in source.parent.iterdir():  # of a record, all of its files
        path.rename(folder / f"{stem}{''.join(path.suffixes)}")
    refusal(folder / f"{stem}{''.join(source.suffixes)}")


@pytest.mark.parametrize("note", ["## ", "## time resolution: x", "## end of definitions"])
def test_notes_that_look_like_definitions_do_not_hang(folder: Path, note: str) -> None:
    WHOLE["a.hea"](folder / "a.hea", np.random.default_rng(9))
    pair = bytes([0, 22 << 2, len(note), 63 << 2]) + note.encode() + bytes(len(note) % 2)
    (folder / "a.atr").write_bytes(pair + bytes(2))
    assert "'## '" in (refusal(folder / "a.hea") or "")


COMMANDS = {
    "vast.png": ["stylize"], "bomb.npz": ["stylize", "--dim", "2"], "escape.csv": ["stylize"],
    "records.edf": ["stylize"], "deflated.dcm": ["stylize"], "many.hea": ["stylize"],
    "vast.nii": ["stylize-volume"], "bomb.mha": ["stylize-volume"], "atoms.mp4": ["stylize-video"],
    "loop.tif": ["patches", "--layer", "relu1_1"], "vast.wav": ["evaluate", "vast.wav"],
    "far.tif": ["stylize", "--texture"],
}  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name.startswith("bomb") else name
        for name in COMMANDS
    ],
)
def test_commands_say_it_in_one_line_with_exit_code_3(run: Run, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(LIES[name]())
    code, out, err = run(*COMMANDS[name], name)
    said = [line for line in err.splitlines() if not line.startswith("no style given")]
    assert (code, out) == (3, "")
    assert len(said) == 1
    assert said[0].startswith("convnd: ")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_names_that_are_no_text_are_printed(run: Run, tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff\xe9.png")
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / name)
    code, out, _ = run("stylize", name, "waves", "--size", "16", "--steps", "1", "--backbone",
                       "compact")  # fmt: skip
    assert code == 0
    assert out.startswith("\\udcff\\udce9_stylized.png")
    assert (tmp_path / os.fsdecode(b"\xff\xe9_stylized.png")).exists()


@pytest.mark.parametrize("name", ["a.npz", "a.nii.gz"])
def test_provenance_of_any_length_takes_little_memory(folder: Path, name: str) -> None:
    if name == "a.npz":
        with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for entry, kind, size in (
                ("values", "<f4", 400),
                ("record", "<U40000000", 160_000_000),
            ):
                with archive.open(f"{entry}.npy", "w") as file:
                    shape = (1, 100) if entry == "values" else ()
                    np.lib.format.write_array_header_1_0(
                        file, {"descr": kind, "fortran_order": False, "shape": shape}
                    )
                    file.write(bytes(size))
    else:
        header = nib.Nifti1Header()
        header["dim"][:4], header["pixdim"][1:4] = [3, 3, 3, 3], 1
        header["magic"], header["vox_offset"] = b"n+1", 352 + 160_000_000
        start = bytes(header.binaryblock) + b"\1\0\0\0" + struct.pack("<ii", 160_000_000, 6)
        (folder / name).write_bytes(gzip.compress(start + bytes(160_000_000), 1))
    with bounded(), pytest.raises(InputFileError) as refused:
        convnd.io.read_provenance(folder / name)
    assert error_is_one_line(str(refused.value))


def test_a_pipe_in_place_of_provenance_is_not_waited_for(folder: Path) -> None:
    grid = Grid(values=torch.rand(1, 1, 9))
    convnd.io.write(folder / "a.csv", grid)
    os.mkfifo(folder / "a.csv.json")
    with bounded():
        assert convnd.io.read_provenance(folder / "a.csv") == {}
        with raises(OutputExistsError, operation="a.csv.json", got="another file"):
            convnd.io.check_output(folder / "a.csv", overwrite=True, provenance=True)


def test_a_long_header_of_a_table_takes_linear_time(folder: Path) -> None:
    cell = b" " * 300_000 + b"x" + b" " * 300_000 + b"("
    (folder / "a.csv").write_bytes(cell + b",b\n1,2\n3,4\n")
    assert refusal(folder / "a.csv") is None


def test_compressed_slices_make_no_room_for_pixels_they_lack(folder: Path) -> None:
    file = Dataset()
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = RLELossless
    file.file_meta.MediaStorageSOPClassUID = file.SOPClassUID = CTImageStorage
    file.file_meta.MediaStorageSOPInstanceUID = file.SOPInstanceUID = "1.2.3"  # type: ignore[assignment]
    file.SeriesInstanceUID, file.StudyInstanceUID = "1.2.4", "1.2.5"
    file.Rows = file.Columns = 30_000
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    file.BitsAllocated = file.BitsStored = 16
    file.HighBit, file.PixelRepresentation = 15, 0
    file.PixelSpacing, file.ImagePositionPatient = [0.6, 0.7], [0, 0, 0]
    file.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    run = struct.pack("<16I", 2, 64, 70, *[0] * 13) + b"\x81\0" * 20
    file.PixelData = encapsulate([run])
    file["PixelData"].is_undefined_length = True
    (folder / "series").mkdir()
    file.save_as(folder / "series" / "1.dcm", enforce_file_format=True)
    message = refusal(folder / "series")
    assert message is not None
    assert "bytes of pixels for the length of 1.dcm" in message
