"""Whole files of every format that is read, made by the libraries that own them, and damage.

`WHOLE` makes small ones, `WAYS` damages bytes by a seeded chance, `LIES` are headers that promise
what is not there. Nothing here imports the readers under test.
"""

from __future__ import annotations

import gzip
import io
import struct
import wave
import zipfile
import zlib
from collections.abc import Callable
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import nibabel as nib
import numpy as np
import pydicom
import pyedflib
import SimpleITK as sitk  # noqa: N813
import tifffile
from dicom_files import enhanced
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

Random = np.random.Generator
Maker = Callable[[Path, Random], None]


def _codes(rng: Random) -> Any:
    return rng.integers(0, 256, (16, 12, 3), dtype=np.uint8)


def _picture(**options: Any) -> Maker:
    def make(path: Path, rng: Random) -> None:
        exif = Image.Exif()
        exif[274] = 6
        extra = {"exif": exif} if path.suffix in {".jpg", ".webp"} else {}
        Image.fromarray(_codes(rng)).save(path, **options, **extra)  # type: ignore[arg-type]

    return make


def _palette(path: Path, rng: Random) -> None:
    Image.fromarray(_codes(rng)).quantize(16).save(path, transparency=3)


def _deep_png(path: Path, rng: Random) -> None:
    cv2.imwrite(str(path), _codes(rng).astype(np.uint16) * 257)


def _deep_tiff(path: Path, rng: Random) -> None:
    tifffile.imwrite(path, _codes(rng).astype(np.uint16) * 257, photometric="rgb")


def _float_tiff(path: Path, rng: Random) -> None:
    tifffile.imwrite(path, (_codes(rng) / 255).astype(np.float32), photometric="rgb")


def _npy(path: Path, rng: Random) -> None:
    np.save(path, _codes(rng))


def _npz(path: Path, rng: Random) -> None:
    save = np.savez_compressed if "packed" in path.name else np.savez
    save(path, values=_codes(rng), spacing=[1.0, 2.0], axes=["y", "x"])


def _heif(path: Path, rng: Random) -> None:
    import pillow_heif

    pillow_heif.from_pillow(Image.fromarray(_codes(rng))).save(path)


def _nifti(path: Path, rng: Random) -> None:
    kind: Any = nib.Nifti2Image if "two" in path.name else nib.Nifti1Image
    kind(_codes(rng), np.eye(4)).to_filename(path)


def _itk(path: Path, rng: Random) -> None:
    voxels = (rng.normal(size=(5, 4, 3)) * 500).astype(np.int16)
    packed = "packed" in path.name
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(path), useCompression=packed)


def _table(path: Path, rng: Random) -> None:
    mark = {".tsv": "\t", ".txt": " "}.get(path.suffix, ",")
    rows = [mark.join(("time_s", "I", "II") if mark == " " else ("time (s)", "I (mV)", "II (mV)"))]
    rows += [mark.join((f"{k / 100:.2f}", *(f"{v:.3f}" for v in rng.normal(size=2))))
             for k in range(40)]  # fmt: skip
    path.write_text("\n".join(rows) + "\n")


def _record(path: Path, rng: Random) -> None:
    import wfdb  # which warns

    wfdb.wrsamp(
        path.stem, fs=200, units=["mV"] * 2, sig_name=["I", "II"],
        p_signal=rng.normal(size=(90, 2)), fmt=["16"] * 2,
        base_datetime=datetime(2020, 2, 3, 4, 5, 6), comments=["age 61"],
        write_dir=str(path.parent),
    )  # fmt: skip
    wfdb.wrann(path.stem, "atr", np.array([10, 35]), symbol=["N", "V"], fs=200,
               write_dir=str(path.parent))  # fmt: skip


def _edf(path: Path, rng: Random) -> None:
    kind = pyedflib.FILETYPE_BDFPLUS if path.suffix == ".bdf" else pyedflib.FILETYPE_EDFPLUS
    header = {"dimension": "mV", "sample_frequency": 200, "physical_min": -5.0,
              "physical_max": 5.0, "digital_min": -32768, "digital_max": 32767,
              "transducer": "", "prefilter": ""}  # fmt: skip
    with pyedflib.EdfWriter(str(path), 2, kind) as file:
        file.setSignalHeaders([{**header, "label": label} for label in ("I", "II")])  # type: ignore[dict-item]
        file.writeSamples(list(rng.normal(size=(2, 400))))
        file.writeAnnotation(0.5, -1, "beat")


def _wav(path: Path, rng: Random) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(3 if "24" in path.name else 2)
        file.setframerate(8000)
        file.writeframes(rng.bytes(600))


def _sound(path: Path, rng: Random) -> None:
    import soundfile

    soundfile.write(path, rng.normal(size=(900, 2)) / 5, 8000)


def _mat(path: Path, rng: Random) -> None:
    import scipy.io

    scipy.io.savemat(path, {"ecg": rng.normal(size=(2, 90)), "fs": 250.0}, do_compression=True)


def _hdf5(path: Path, rng: Random) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file.create_dataset("ecg", data=rng.normal(size=(2, 90)), compression="gzip")
        file.attrs["fs"] = 250.0


def _parquet(path: Path, rng: Random) -> None:
    import pyarrow
    import pyarrow.parquet

    columns = {"time (ms)": 4 * np.arange(90), "I (mV)": rng.normal(size=90)}
    pyarrow.parquet.write_table(pyarrow.table(columns), path)


def _excel(path: Path, rng: Random) -> None:
    import openpyxl

    book = openpyxl.Workbook()
    book.active.append(["time (ms)", "I (mV)"])
    for k, value in enumerate(rng.normal(size=40)):
        book.active.append([4 * k, float(value)])
    book.save(path)


def _waveform(path: Path, rng: Random) -> None:
    data = pydicom.dcmread(get_testdata_file("waveform_ecg.dcm"))  # type: ignore[arg-type]
    while len(data.WaveformSequence) > 1:
        del data.WaveformSequence[-1]
    group = data.WaveformSequence[0]
    group.NumberOfWaveformSamples = 50
    group.WaveformData = group.WaveformData[: 50 * int(group.NumberOfWaveformChannels) * 2]
    if "packed" in path.name:
        data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data.save_as(path)


def _series(path: Path, rng: Random) -> None:
    path.mkdir()
    for number in range(3):
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = f"1.2.3.{number}"  # type: ignore[assignment]
        dataset.SeriesInstanceUID, dataset.StudyInstanceUID = "1.2.4", "1.2.5"
        dataset.PatientName, dataset.Modality = "Nobody^At^All", "CT"
        dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = 6, 5, 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit, dataset.PixelRepresentation = 15, 0
        dataset.PixelSpacing = [0.6, 0.7]
        dataset.ImagePositionPatient = [-10.0, 20.0, 5.0 * number]
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dataset.RescaleSlope, dataset.RescaleIntercept = "1", "-1024"
        dataset.PixelData = rng.integers(0, 3000, (6, 5), dtype=np.uint16).tobytes()
        dataset.save_as(path / f"{number}.dcm", enforce_file_format=True)


def _mgh(path: Path, rng: Random) -> None:
    image: Any = nib.MGHImage(_codes(rng), np.eye(4))
    nib.save(image, path)


def _pair(path: Path, rng: Random) -> None:
    kind: Any = nib.AnalyzeImage if "analyze" in path.name else nib.Nifti1Pair
    nib.save(
        kind(_codes(rng).astype(np.int16), np.eye(4)),
        path.with_name(path.name.replace(".hdr", ".img")),
    )
    path.with_suffix(".mat").unlink(missing_ok=True)


def _frames(path: Path, rng: Random) -> None:
    del rng
    enhanced(path, [0, 5, 10])


def _clip(codec: str) -> Maker:
    def make(path: Path, rng: Random) -> None:
        with av.open(str(path), "w") as out:
            stream: Any = out.add_stream(codec, rate=Fraction(25))
            stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
            for _ in range(4):
                pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            out.mux(stream.encode(None))

    return make


WHOLE: dict[str, Maker] = {
    "a.png": _picture(), "palette.png": _palette, "deep.png": _deep_png, "a.jpg": _picture(),
    "progressive.jpg": _picture(progressive=True), "a.webp": _picture(),
    "lossless.webp": _picture(lossless=True), "a.bmp": _picture(), "a.gif": _picture(),
    "a.avif": _picture(), "a.heic": _heif, "a.tif": _picture(),
    "lzw.tif": _picture(compression="tiff_lzw"),
    "jpeg.tif": _picture(compression="jpeg"), "deep.tif": _deep_tiff, "float.tif": _float_tiff,
    "a.npy": _npy, "a.npz": _npz, "packed.npz": _npz, "a.nii": _nifti, "two.nii": _nifti,
    "a.nii.gz": _nifti, "a.nrrd": _itk, "packed.nrrd": _itk, "a.mha": _itk, "packed.mha": _itk,
    "a.csv": _table, "a.tsv": _table, "a.hea": _record, "a.edf": _edf, "a.bdf": _edf,
    "a.txt": _table, "a.flac": _sound, "a.ogg": _sound, "a.mp3": _sound, "a.aiff": _sound,
    "a.mat": _mat,
    "a.h5": _hdf5, "a.parquet": _parquet, "a.xlsx": _excel,
    "a.wav": _wav, "24.wav": _wav, "a.dcm": _waveform, "packed.dcm": _waveform,
    "series": _series, "a.mgz": _mgh, "a.mgh": _mgh, "a.hdr": _pair, "a.hdr.gz": _pair,
    "analyze.hdr": _pair,
    "a.mhd": _itk, "packed.mhd": _itk, "a.nhdr": _itk, "frames.dcm": _frames,
    "a.mp4": _clip("libx264"), "a.mkv": _clip("libx264"),
    "a.webm": _clip("libvpx-vp9"), "a.avi": _clip("mpeg4"), "a.mov": _clip("mpeg4"),
}  # fmt: skip
"""By the name to be read; ``series`` is a folder."""

PARTS = {"a.hea": ("a.hea", "a.dat", "a.atr"), "series": ("series/1.dcm",),
         "a.hdr": ("a.hdr", "a.img"), "a.hdr.gz": ("a.hdr.gz", "a.img.gz"),
         "analyze.hdr": ("analyze.hdr", "analyze.img"),
         "a.mhd": ("a.mhd", "a.raw"), "packed.mhd": ("packed.mhd", "packed.zraw"),
         "a.nhdr": ("a.nhdr", "a.raw")}  # fmt: skip
"""The files that damage goes to, where it is not the one that is read."""


def _place(data: bytes, rng: Random) -> int:
    # The first bytes, where headers are, get half of the damage.
    return int(rng.integers(min(len(data), 300) if rng.random() < 0.5 else len(data)))


def _cut(data: bytes, rng: Random) -> bytes:
    return data[: max(1, _place(data, rng))]


def _last_byte(data: bytes, rng: Random) -> bytes:
    return data[:-1]


def _flip(data: bytes, rng: Random) -> bytes:
    offset = _place(data, rng)
    return data[:offset] + bytes([data[offset] ^ 1 << int(rng.integers(8))]) + data[offset + 1 :]


def _flips(data: bytes, rng: Random) -> bytes:
    for _ in range(8):
        data = _flip(data, rng)
    return data


def _zeros(data: bytes, rng: Random) -> bytes:
    offset = _place(data, rng)
    return data[:offset] + bytes(4) + data[offset + 4 :]


def _ones(data: bytes, rng: Random) -> bytes:
    offset = _place(data, rng)
    return data[:offset] + b"\xff" * 4 + data[offset + 4 :]


def _digits(data: bytes, rng: Random) -> bytes:
    """Numbers in text made large, negative or none."""
    offsets = [offset for offset, byte in enumerate(data[:2000]) if 48 <= byte <= 57] or [0]
    offset = offsets[int(rng.integers(len(offsets)))]
    word = (b"9", b"-", b"e", b".", b"\n")[int(rng.integers(5))]
    return data[:offset] + word + data[offset + 1 :]


def _insert(data: bytes, rng: Random) -> bytes:
    offset = _place(data, rng)
    return data[:offset] + rng.bytes(int(rng.integers(1, 20))) + data[offset:]


def _noise(data: bytes, rng: Random) -> bytes:
    return data[:16] + rng.bytes(len(data))


WAYS = {
    "cut": _cut, "cut again": _cut, "last byte": _last_byte, "flip": _flip, "flip again": _flip,
    "flips": _flips, "zeros": _zeros, "ones": _ones, "ones again": _ones, "digits": _digits,
    "digits again": _digits, "insert": _insert, "noise": _noise,
}  # fmt: skip
"""What chance does to bytes."""


def _png(width: int, height: int, body: bytes = b"") -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def _fill(compress: Callable[[bytes, int], bytes], start: bytes = b"") -> bytes:
    """Compress zeros of more memory than a reading may take; level 1 is the quickest."""
    return compress(start + bytes(150_000_000), 1)


def _text_bomb() -> bytes:
    whole = _png(1, 1, zlib.compress(bytes(4)))
    data = b"Comment\0\0" + _fill(zlib.compress)
    chunk = struct.pack(">I", len(data)) + b"zTXt" + data
    return whole[:33] + chunk + struct.pack(">I", zlib.crc32(chunk[4:])) + whole[33:]


def _npy_header(shape: str, version: bytes = b"\x01\x00", dtype: str = "'<f4'") -> bytes:
    text = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    size = struct.pack("<H" if version == b"\x01\x00" else "<I", len(text))
    return b"\x93NUMPY" + version + size + text


def _zipped(name: str, data: bytes, **more: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr(name, data)
        for other, content in more.items():
            archive.writestr(f"{other}.npy", content)
    return buffer.getvalue()


def _nifti_header(*extents: int) -> bytes:
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    header["dim"][: len(extents) + 1] = [len(extents), *extents]
    header["pixdim"][1:4] = 1
    header["magic"], header["vox_offset"] = b"n+1", 352
    return bytes(header.binaryblock) + bytes(4)


def _riff(rate: int, channels: int, size: int) -> bytes:
    form = struct.pack("<HHIIHH", 1, channels, rate, 0, channels * 2, 16)
    return (b"RIFF\xff\xff\xff\xffWAVEfmt " + struct.pack("<I", 16) + form + b"data"
            + struct.pack("<I", size) + bytes(40))  # fmt: skip


def _edf_header(records: str, samples: str, duration: str = "1", channels: str = "1") -> bytes:
    def field(text: str, width: int) -> bytes:
        return text.ljust(width).encode()[:width]

    start = field("0", 8) + field("X", 160) + b"01.01.2001.01.01" + field("512", 8) + field("", 44)
    start += field(records, 8) + field(duration, 8) + field(channels, 4)
    texts = (("I", 16), ("", 80), ("mV", 8), ("-5", 8), ("5", 8), ("-32768", 8), ("32767", 8),
             ("", 80), (samples, 8), ("", 32))  # fmt: skip
    return start + b"".join(field(*entry) for entry in texts) + bytes(400)


def _deflated_dicom() -> bytes:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, "1.2.3"  # type: ignore[assignment]
    dataset = Dataset()
    dataset.file_meta = meta
    dataset.PatientComments = "x"
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    start = buffer.getvalue()
    packed = zlib.compressobj(9, wbits=-15)
    plain = start[: start.rindex(DeflatedExplicitVRLittleEndian.encode()) + 22]
    return plain + packed.compress(bytes(40_000_000)) + packed.flush()


def _lying_dicom() -> bytes:
    """Deflated, with a length of the file meta information that points behind the bomb."""
    whole = bytearray(_deflated_dicom())
    place = whole.index(b"\x02\0\0\0UL\x04\0") + 8
    whole[place : place + 4] = struct.pack("<I", len(whole) - 144)
    return bytes(whole)


def _tiff(width: int, height: int, compression: int, data: bytes) -> bytes:
    start = 8 + 2 + 12 * 9 + 4
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 1), (259, 3, 1, compression),
            (262, 3, 1, 1), (273, 4, 1, start), (277, 3, 1, 1), (278, 4, 1, height),
            (279, 4, 1, len(data))]  # fmt: skip
    packed = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + packed + bytes(4) + data


def _many_scans(width: int, height: int, scans: int) -> bytes:
    """A progressive JPEG, black, of as many scans of nothing."""

    def segment(marker: int, data: bytes) -> bytes:
        return b"\xff" + bytes([marker]) + struct.pack(">H", len(data) + 2) + data

    blocks = (width // 8) * (height // 8)
    out = b"\xff\xd8" + segment(0xDB, b"\0" + bytes([1] * 64))
    out += segment(0xC2, b"\x08" + struct.pack(">HH", height, width) + b"\x01\x01\x11\x00")
    out += segment(0xC4, b"\x00" + bytes([1] + [0] * 15) + b"\0")
    out += segment(0xC4, b"\x10" + bytes([0, 1] + [0] * 14) + b"\xe0")
    out += segment(0xDA, b"\x01\x01\x00\x00\x00\x00") + bytes((blocks + 7) // 8)
    bits = ("00" + "1" * 14) * -(-blocks // (2**15 - 1))
    bits += "1" * (-len(bits) % 8)
    run = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    return out + (segment(0xDA, b"\x01\x01\x00\x01\x3f\x00") + run) * scans + b"\xff\xd9"


_NRRD = "NRRD0004\ntype: short\ndimension: 3\nsizes: {}\nencoding: {}\nendian: little\n"
_MHA = ("ObjectType = Image\nNDims = 3\nBinaryData = True\nCompressedData = {}\nDimSize = {}\n"
        "ElementSpacing = 1 1 1\nElementType = MET_SHORT\nElementDataFile = {}\n")  # fmt: skip

LIES: dict[str, Callable[[], bytes]] = {
    "vast.png": lambda: _png(2**31 - 1, 2**31 - 1),
    "wide.png": lambda: _png(13_000, 13_000, zlib.compress(bytes(100))),
    "none.png": lambda: _png(0, 5),
    "text-bomb.png": _text_bomb,
    "script.png": lambda: b"#!/bin/sh\ntouch broken\n",
    "postscript.png": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nquit\n",
    "vast.bmp": lambda: b"BM" + struct.pack("<IIIIiiHHIIIIII", 99, 0, 54, 40, 13_000, 13_000, 1, 24,
                                            0, 0, 1, 1, 0, 0),
    "vast.gif": lambda: b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0)
    + b"," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x02\x01\x00\x00;",
    "loop.tif": lambda: b"II*\0\x08\0\0\0\x00\x00\x08\0\0\0",
    "pages.tif": lambda: b"II*\0\x08\0\0\0\xff\xff" + bytes(50),
    "far.tif": lambda: b"II*\0\xff\xff\xff\x7f",
    "vast.npy": lambda: _npy_header("(99999999999, 99999999)") + bytes(9),
    "promised.npy": lambda: _npy_header("(1, 1000000000)") + bytes(9),
    "negative.npy": lambda: _npy_header("(-1, 4)") + bytes(9),
    "header.npy": lambda: b"\x93NUMPY\x02\x00\xff\xff\xff\xff{",
    "nested.npy": lambda: _npy_header("(" * 4000, b"\x02\x00"),
    "call.npy": lambda: _npy_header("(__import__('os').system('touch broken'),)"),
    "object.npy": lambda: _npy_header("(1,)", dtype="'|O'") + b"cos\nsystem\n(S'touch broken'\ntR.",
    "record.npy": lambda: _npy_header("(1,)", dtype="[('a', '<f4'), ('b', '<O')]") + bytes(9),
    "promised.npz": lambda: _zipped("values.npy", _npy_header("(1, 1000000000)") + bytes(9)),
    "bomb.npz": lambda: _zipped("values.npy", _npy_header("(1, 30000000)") + bytes(150_000_000)),
    "names.npz": lambda: _zipped("a\nb\x1b[31m.npy", b"x"),
    "up.npz": lambda: _zipped("../../values.npy", b"x"),
    "vast.nii": lambda: _nifti_header(32767, 32767, 32767) + bytes(99),
    "negative.nii": lambda: _nifti_header(-4, 5, 6) + bytes(99),
    "bomb.nii.gz": lambda: _fill(gzip.compress, _nifti_header(3, 3, 3)),
    "promised.nii.gz": lambda: gzip.compress(_nifti_header(1000, 1000, 1000)),
    "vast.nrrd": lambda: _NRRD.format("99999 99999 99999", "raw").encode() + b"\n" + bytes(9),
    "elsewhere.nrrd": lambda: (_NRRD + "data file: /etc/passwd\n").format("2 2 2", "raw").encode(),
    "bomb.nrrd": lambda: _NRRD.format("3 3 3", "gzip").encode() + b"\n"
    + _fill(gzip.compress),
    "endless.nrrd": lambda: b"NRRD0004\n" + b"x" * 2_000_000,
    "vast.mha": lambda: _MHA.format("False", "99999 99999 99999", "LOCAL").encode(),
    "negative.mha": lambda: _MHA.format("False", "-3 3 3", "LOCAL").encode() + bytes(99),
    "elsewhere.mha": lambda: _MHA.format("False", "2 2 2", "/etc/passwd").encode(),
    "bomb.mha": lambda: _MHA.format("True", "3 3 3", "LOCAL").encode()
    + _fill(zlib.compress),
    "deep.csv": lambda: b"a,b\n" + b"[" * 100_000 + b",1\n",
    "binary.csv": lambda: bytes(range(256)) * 20,
    "escape.csv": lambda: b"a,b\n\x1b[2J\x1b]0;x\x07,1\n1,2\n",
    "bare.mha": lambda: _MHA.format("False", "3 4 5", "LOCAL").replace(" = 3", "", 1).encode()
    + bytes(120),
    "garbage.csv": lambda: np.random.default_rng(1).bytes(8_000_000),
    "quote.csv": lambda: b'a,b\n"1,2\n3,4\n',
    "wide.csv": lambda: b"1," * 200_000 + b"1\n2\n",
    "line.csv": lambda: b'"' + b"1" * 200_000 + b'",2\n3,4\n',
    "vast.hea": lambda: b"vast 1 100 99999999999\nvast.dat 16 200 16 0 0 0 0 I\n",
    "up.hea": lambda: b"up 1 100 100\n../../../../etc/passwd 16 200 16 0 0 0 0 I\n",
    "address.hea": lambda: b"address 1 100 100\nhttp://127.0.0.1:9/x.dat 16 200 16 0 0 0 0 I\n",
    "itself.hea": lambda: b"itself/2 1 100 200\nitself 100\nitself 100\n",
    "many.hea": lambda: b"many 99999999 100 10\n",
    "records.edf": lambda: _edf_header("99999999", "99999999"),
    "records.bdf": lambda: b"\xffBIOSEMI" + _edf_header("99999999", "99999999")[8:],
    "channels.edf": lambda: _edf_header("1", "1", channels="9999"),
    "negative.edf": lambda: _edf_header("-5", "-5", "-1"),
    "nan.edf": lambda: _edf_header("1", "100", "nan"),
    "size.edf": lambda: _edf_header("1", "100")[:184] + b"99999999" + bytes(400),
    "vast.wav": lambda: _riff(8000, 2, 2**32 - 8),
    "silent.wav": lambda: _riff(0, 2, 40),
    "channels.wav": lambda: _riff(8000, 0, 40),
    "short.wav": lambda: b"RIFF\x04\0\0\0WAVEfmt \x02\0\0\0\x01\0data\x02\0\0\0\0\0",
    "deflated.dcm": _deflated_dicom,
    "lying.dcm": _lying_dicom,
    "skew.hea": lambda: b"skew 1 100 64\nskew.hea 16:2000000000 200 16 0 0 0 0 I\n",
    "frame.hea": lambda: b"frame 1 100 64\nframe.hea 16x99999999 200 16 0 0 0 0 I\n",
    "labels.npz": lambda: _zipped("values.npy", _npy_header("(1, 100)") + bytes(400),
                                  channels=_npy_header("(1,)", dtype="'<U40000000'")
                                  + bytes(160_000_000)),
    "fax.tif": lambda: _tiff(13_000, 13_000, 3, bytes(3000)),
    "scans.jpg": lambda: _many_scans(4096, 4096, 1000),
    "other.mp4": lambda: b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
    "playlist.mkv": lambda: b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n"
    b"#EXT-X-ENDLIST\n",
    "concat.avi": lambda: b"ffconcat version 1.0\nfile /etc/passwd\n",
    "atoms.mp4": lambda: b"\0\0\0\x18ftypisom\0\0\0\0isommp41" + b"\0\0\0\x08moov" * 5000,
    "size.mp4": lambda: b"\0\0\0\x18ftypisom\0\0\0\0isommp41\xff\xff\xff\xffmoov" + bytes(40),
}  # fmt: skip
"""Files by name whose content is a trap."""
