"""Small files that ask for much memory or time: refused from their headers, in the same bounds."""

from __future__ import annotations

import gzip
import io
import os
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import soundfile
import torch
from convnd_tasks.runtime import plots
from error_fields import raises
from malformed import WHOLE
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, JPEG2000Lossless
from refusals import bounded, refusal

import convnd.io
from convnd.errors import InputFileError
from convnd.io.signals.signal import Signal, signal_grid
from convnd.optimize import is_checkpoint, load_checkpoint

pytestmark = pytest.mark.child


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _record(folder: Path, header: str, **segments: str) -> Path:
    """Write headers of a WFDB record, and one file of 20 bytes for their signals."""
    (folder / "a.hea").write_text(header)
    for name, text in segments.items():
        (folder / f"{name}.hea").write_text(text)
    (folder / "x.dat").write_bytes(bytes(20))
    return folder / "a.hea"


_TEN = "s 1 200 10\nx.dat 16 200 16 0 0 0 0 I\n"
RECORDS = {
    "a gap": ("a/2 1 200 900000000\ns 10\n~ 899999990\n", "for the length of its files"),
    "a layout and a gap": (
        "a/3 1 200 900000000\nlay 0\ns 10\n~ 899999990\n",
        "for the length of its files",
    ),
    "a segment many times": ("a/9000 1 200 90000000000\n" + "s 10000000\n" * 9000, "samples"),
    "many segments": ("a/20000 1 200 200000\n" + "s 10\n" * 20000, "at most 10,000 segments"),
    "many signals": ("a 9000 200 1\n" + "x.dat 16 200 16 0 0 0 0 I\n" * 9000, "at most 4,096"),
    "many samples a frame": ("a 1 200 100\nx.dat 16x9000000 200 16 0 0 0 0 I\n", "samples"),
    "a long header": (_TEN + "#a\n" * 500_000, "header of as many lines"),
}


@pytest.mark.parametrize("name", RECORDS)
def test_records_hold_what_their_headers_say(folder: Path, name: str) -> None:
    header, words = RECORDS[name]
    lay = "lay 1 200 0\n~ 0 200 16 0 0 0 0 I\n"
    assert words in (refusal(_record(folder, header, s=_TEN, lay=lay)) or "")


def test_a_record_with_a_gap_is_read(folder: Path) -> None:
    lay = "lay 1 200 0\n~ 0 200 16 0 0 0 0 I\n"
    path = _record(folder, "a/3 1 200 1000\nlay 0\ns 10\n~ 990\n", s=_TEN, lay=lay)
    assert refusal(path) is None


def test_flat_signals_in_flac_are_bounded(folder: Path) -> None:
    soundfile.write(folder / "x.dat", np.zeros(20_000_000, np.int16), 200, format="FLAC")
    (folder / "a.hea").write_text("a 1 200 20000000\nx.dat 516 200 16 0 0 0 0 I\n")
    assert "for the length of its files" in (refusal(folder / "a.hea") or "")


def test_many_annotations_are_refused(folder: Path) -> None:
    WHOLE["a.hea"](folder / "a.hea", np.random.default_rng(9))
    (folder / "a.atr").write_bytes(struct.pack("<H", 1 << 10 | 1) * 2**21 + bytes(2))
    assert "bytes of annotations" in (refusal(folder / "a.hea") or "")


def test_chunks_of_a_wav_are_counted(folder: Path) -> None:
    (folder / "a.wav").write_bytes(b"RIFF\xff\xff\xff\xffWAVE" + b"abcd\0\0\0\0" * 20_000)
    assert "at most 10,000 chunks" in (refusal(folder / "a.wav") or "")


def test_names_of_many_channels_take_linear_time() -> None:
    names = ["I"] * 30_000 + [""] * 30_000
    with bounded():
        grid = signal_grid(Path("a"), np.zeros((60_000, 1), np.float32), None, names, Signal())
    assert len(set(grid.channels)) == 60_000
    assert grid.channels[:3] == ("I", "I-2", "I-3")


def _npy(shape: str, dtype: str, size: int) -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(text)) + text + bytes(size)


def _archive(compression: int, **arrays: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as archive:
        for name, data in {"values": _npy("(1, 4)", "<f4", 16), **arrays}.items():
            archive.writestr(f"{name}.npy", data)
    return content.getvalue()


def _many_entries() -> bytes:
    """An archive whose table names one entry 60,000 times."""
    whole = _archive(zipfile.ZIP_STORED)
    start, end = whole.index(b"PK\1\2"), whole.index(b"PK\5\6")
    table = whole[start:end] * 60_000
    return whole[:start] + table + whole[end : end + 12] + struct.pack("<IIH", len(table), start, 0)


_TEN_MILLION = _npy("(1, 10000000)", "<f4", 40_000_000)
ARCHIVES: dict[str, Callable[[], bytes]] = {
    "bzip2": lambda: _archive(zipfile.ZIP_BZIP2, values=_TEN_MILLION),
    "lzma": lambda: _archive(zipfile.ZIP_LZMA, values=_TEN_MILLION),
    "spacing": lambda: _archive(
        zipfile.ZIP_DEFLATED, spacing=_npy("(8000000,)", "<f4", 32_000_000)
    ),
    "labels": lambda: _archive(zipfile.ZIP_DEFLATED, axes=_npy("(2000000,)", "<U1", 8_000_000)),
    "entries": _many_entries,
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_archives_of_arrays_are_bounded(folder: Path, name: str) -> None:
    (folder / "a.npz").write_bytes(ARCHIVES[name]())
    assert refusal(folder / "a.npz") is not None


def test_texts_of_a_recording_in_an_archive_are_bounded(folder: Path) -> None:
    rate, names = _npy("()", "<f8", 8), _npy("(1,)", "<U20000000", 80_000_000)
    arrays = {"values": _npy("(100,)", "<f4", 400), "fs": rate, "names": names}
    whole = _archive(zipfile.ZIP_DEFLATED, **arrays).replace(b"values.npy", b"signal.npy")
    (folder / "a.npz").write_bytes(whole)
    assert "bytes of text" in (refusal(folder / "a.npz") or "")


def test_members_of_gzip_take_linear_time(folder: Path) -> None:
    header = "NRRD0004\ntype: short\ndimension: 3\nsizes: 3 3 3\nencoding: gzip\nendian: little\n\n"
    data = b"".join(gzip.compress(bytes(18)) for _ in range(3))
    (folder / "a.nrrd").write_bytes(header.encode() + data)
    assert refusal(folder / "a.nrrd") is None
    (folder / "a.nrrd").write_bytes(header.encode() + gzip.compress(b"") * 100_000 + data)
    assert "in many parts" in (refusal(folder / "a.nrrd") or "")


@pytest.mark.parametrize("name", ["a.nii.gz", "a.mgz"])
def test_empty_members_of_gzip_are_counted(folder: Path, name: str) -> None:
    WHOLE[name](folder / name, np.random.default_rng(0))
    content = (folder / name).read_bytes()
    whole = convnd.io.read(folder / name).values
    parts = [content[:0], gzip.decompress(content)[:400], gzip.decompress(content)[400:]]
    (folder / name).write_bytes(b"".join(map(gzip.compress, parts)) + bytes(100_000))
    assert refusal(folder / name) is None
    torch.testing.assert_close(convnd.io.read(folder / name).values, whole, rtol=0, atol=0)
    (folder / name).write_bytes(gzip.compress(b"") * 500_000 + content)
    assert "gzip members" in (refusal(folder / name) or "")
    (folder / name).write_bytes(content[:-9])
    assert "end-of-stream" in (refusal(folder / name) or "")


def test_extensions_of_nifti_are_bounded(folder: Path) -> None:
    header = nib.Nifti1Header()
    header["dim"][:4], header["pixdim"][1:4] = [3, 3, 3, 3], 1
    header["magic"], header["vox_offset"] = b"n+1", 352 + 16 * 500_000
    extension = struct.pack("<ii", 16, 6) + bytes(8)
    data = bytes(header.binaryblock) + b"\1\0\0\0" + extension * 500_000 + bytes(108)
    (folder / "a.nii.gz").write_bytes(gzip.compress(data))
    assert refusal(folder / "a.nii.gz") is not None


def _slice(folder: Path, syntax: UID = ExplicitVRLittleEndian, pixels: bytes = bytes(60)) -> Path:
    """Write one slice of 6 by 5 pixels into a folder."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = CTImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = UID("1.2.3")
    data.SeriesInstanceUID, data.StudyInstanceUID = UID("1.2.4"), UID("1.2.5")
    data.Rows, data.Columns, data.SamplesPerPixel = 6, 5, 1
    data.PhotometricInterpretation = "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 0
    data.PixelSpacing, data.ImagePositionPatient = [0.6, 0.7], [0, 0, 0]
    data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    data.PixelData = pixels
    if syntax != ExplicitVRLittleEndian:
        data["PixelData"].is_undefined_length = True
    (folder / "series").mkdir()
    data.save_as(folder / "series" / "1.dcm", enforce_file_format=True)
    return folder / "series"


def _element(group: int, number: int, kind: bytes, length: int) -> bytes:
    return struct.pack("<HH2sHI", group, number, kind, 0, length)


def _short_elements(count: int) -> bytes:
    """Empty texts in elements of one group."""
    elements = np.zeros(
        count, [("group", "<u2"), ("number", "<u2"), ("kind", "S2"), ("size", "<u2")]
    )
    elements["group"], elements["number"], elements["kind"] = (
        0x2001,
        np.arange(count) % 2**16,
        b"LO",
    )
    return elements.tobytes()


_ITEM = struct.pack("<HHI", 0xFFFE, 0xE000, 0)
_NESTED = _ITEM[:4] + struct.pack("<I", 12 + 8 * 20_000)
_NESTED += _element(0x8, 0x1140, b"SQ", 8 * 20_000) + _ITEM * 20_000
_NUMBERS = _element(0x28, 0x34, b"UN", 1_000_000) + b"1\\" * 500_000
ELEMENTS: dict[str, tuple[bytes, str]] = {
    "items in items": (
        _element(0x40, 0x275, b"SQ", 0xFFFFFFFF)
        + _NESTED * 6
        + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0),
        "items",
    ),
    "items in items of a length": (
        _element(0x40, 0x275, b"SQ", 6 * len(_NESTED)) + _NESTED * 6,
        "items",
    ),
    "items": (_element(0x40, 0x275, b"SQ", 0xFFFFFFFF) + _ITEM * 300_000, "as many elements"),
    "items of a length": (
        _element(0x40, 0x275, b"SQ", 8 * 300_000) + _ITEM * 300_000,
        "59,377 items",
    ),
    "elements": (
        _short_elements(300_000),
        "as many elements",
    ),
    "numbers in an item": (
        _element(0x40, 0x275, b"SQ", len(_NUMBERS) + 8)
        + _ITEM[:4]
        + struct.pack("<I", len(_NUMBERS))
        + _NUMBERS,
        "bytes of text",
    ),
    "numbers": (_NUMBERS, "bytes of text"),
}


@pytest.mark.parametrize("name", ELEMENTS)
def test_elements_of_dicom_are_counted(folder: Path, name: str) -> None:
    elements, words = ELEMENTS[name]
    path = _slice(folder)
    content = (path / "1.dcm").read_bytes()
    place = content.index(b"\xe0\x7f\x10\0")  # in front of the pixels
    (path / "1.dcm").write_bytes(content[:place] + elements + content[place:])
    assert words in (refusal(path) or "")


def test_a_child_decodes_compressed_pixels_of_dicom(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = np.random.default_rng(0).integers(0, 4000, (6, 5), dtype=np.uint16)
    picture = io.BytesIO()
    Image.fromarray(codes).save(picture, "JPEG2000", irreversible=False, no_jp2=True)
    path = _slice(folder, JPEG2000Lossless, encapsulate([picture.getvalue()]))
    values = convnd.io.read(path).values
    np.testing.assert_array_equal(values[0, 0, :, :, 0].T.numpy(), codes)
    code = "import sys; sys.path[:] = sys.argv[1:]; from convnd.io.worker import worker; "
    code += "from convnd.io.volumes import dicom_decoder; "
    code += "dicom_decoder.read_dataset = lambda path: bytearray(2**30)\nworker.main()"
    monkeypatch.setattr("convnd.io.worker.client.COMMAND", (sys.executable, "-I", "-c", code))
    with raises(InputFileError, operation="1.dcm", got="one that asks for more than"):
        convnd.io.read(path)


def test_arrays_of_hdf5_that_nobody_wrote_are_refused(folder: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("ecg", shape=(500_000_000,), dtype="f4", chunks=(1000,))
        file["fs"] = 200.0
    assert "for the length of its files" in (refusal(folder / "a.h5") or "")


def test_compressed_elements_of_matlab_are_bounded(folder: Path) -> None:
    element = zlib.compress(bytes(40_000_000), 9)
    head = b"MATLAB 5.0".ljust(124) + b"\0\1IM"
    (folder / "a.mat").write_bytes(head + struct.pack("<II", 15, len(element)) + element)
    assert "in a file of its length" in (refusal(folder / "a.mat") or "")


def test_arrays_of_objects_of_matlab_are_counted(folder: Path) -> None:
    def element(kind: int, data: bytes) -> bytes:
        return struct.pack("<II", kind, len(data)) + data

    shape = element(5, struct.pack("<ii", 1, 10**9))
    cells = element(6, struct.pack("<II", 1, 0)) + shape + element(1, b"ecg".ljust(8, b"\0"))
    head = b"MATLAB 5.0".ljust(124) + b"\0\1IM"
    (folder / "a.mat").write_bytes(head + element(14, cells))
    assert "for the length of its files" in (refusal(folder / "a.mat") or "")


PARQUETS = {
    "rows": lambda pa: {"ecg": np.zeros(3_000_000, np.float32)},
    "texts": lambda pa: {"word": ["x" * 100_000] * 1200, "ecg": np.arange(1200.0)},
    "columns": lambda pa: {f"c{k}": [1.0, 2.0] for k in range(5000)},
}


@pytest.mark.parametrize("name", PARQUETS)
def test_columns_of_parquet_are_bounded(folder: Path, name: str) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.table(PARQUETS[name](pa)), folder / "a.parquet")  # type: ignore[no-untyped-call]
    refusal(folder / "a.parquet")  # in bounds; repeated words are read, or refused as such


@pytest.mark.parametrize(
    "text",
    [
        "1\n2\n",
        *(pytest.param(text, marks=pytest.mark.slow) for text in ("12\n34\n", "1,2\n3,4\n")),
    ],
)
def test_short_cells_of_tables_take_bounded_memory(folder: Path, text: str) -> None:
    (folder / "a.csv").write_text(text * (2**20 // len(text)))
    assert refusal(folder / "a.csv", mebibytes=48) is None


_SHEET = b'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'
SHEETS = {
    "cells": (
        b'<dimension ref="A1:XFD1048576"/><sheetData><row r="1"><c r="A1"><v>1</v></c></row>'
        b'<row r="1048576"><c r="A1048576"><v>1</v></c></row></sheetData></worksheet>',
        "samples for the length",
    ),
    "rows": (b"<sheetData>" + b"<row><c><v>1</v></c></row>" * 500_000, "bytes unpacked"),
    "depth": (b"<sheetData>" + b"<a>" * 2_000_000, "bytes unpacked"),
}


@pytest.mark.parametrize("name", SHEETS)
def test_workbooks_are_bounded(folder: Path, name: str) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    plain = io.BytesIO()
    openpyxl.Workbook().save(plain)
    xml, words = SHEETS[name]
    with (
        zipfile.ZipFile(plain) as source,
        zipfile.ZipFile(folder / "a.xlsx", "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for entry in source.namelist():
            is_sheet = entry == "xl/worksheets/sheet1.xml"
            archive.writestr(entry, _SHEET + xml if is_sheet else source.read(entry))
    assert words in (refusal(folder / "a.xlsx") or "")


def test_silence_in_flac_is_bounded(folder: Path) -> None:
    with soundfile.SoundFile(folder / "a.flac", "w", 44_100, 1) as file:
        for _ in range(10):
            file.write(np.zeros(10**6, np.int16))
    assert "for the length of its files" in (refusal(folder / "a.flac") or "")


def test_annotations_of_edf_are_counted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convnd.io.signals.edf._MOST_MARKS", 1000)
    edfio = pytest.importorskip("edfio")
    signal = edfio.EdfSignal(np.arange(10.0) % 2, 1.0, label="I")
    notes = [edfio.EdfAnnotation(0.0, None, "a" * 10_000)]
    edfio.Edf([signal], annotations=notes).write(folder / "a.edf")
    content = (folder / "a.edf").read_bytes()
    (folder / "a.edf").write_bytes(content.replace(b"aa", b"a\x14"))
    assert "annotations" in (refusal(folder / "a.edf") or "")


def test_tables_of_packets_are_counted(folder: Path) -> None:
    """40 million packets of sound in a table of 16 bytes."""
    path = folder / "a.mp4"
    WHOLE["a.mp4"](path, np.random.default_rng(0))
    content = bytearray(path.read_bytes())
    for name, first, values in (
        (b"stts", 12, (40_000_000,)),
        (b"stsz", 8, (1, 40_000_000)),
        (b"stsc", 16, (40_000_000,)),
    ):
        place = content.rindex(name) + first
        content[place : place + 4 * len(values)] = struct.pack(f">{len(values)}I", *values)
    path.write_bytes(content)
    assert "packets in the tables" in (refusal(path) or "")


def test_long_texts_in_figures_are_cut() -> None:
    with bounded():
        curve = plots.loss_curve({"a" * 100_000: [1.0, 2.0], "b": [2.0, 1.0]})
    assert curve.startswith(b"<?xml")


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "loop"])
def test_what_is_no_file_in_place_of_a_checkpoint_is_refused(folder: Path, kind: str) -> None:
    path = folder / "a.checkpoint"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind == "device" else path)
    with bounded():
        assert not is_checkpoint(path)
        with pytest.raises(InputFileError):
            load_checkpoint(path, "")
