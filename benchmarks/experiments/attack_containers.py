"""Forged files of container formats, for `benchmarks.experiments.attacks`.

Animations, HEIC, archives, profiles, enhanced DICOM, MATLAB 7.3 and videos.
"""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.experiments.attack_pictures import (
    _chunk,
    _exif,
    _ifd,
    _jpeg,
    _png,
    _saved,
    _segment,
    _swap,
    content,
)
from benchmarks.experiments.attack_signals import _excel, _hdf5, _parquet, _sheet
from benchmarks.experiments.attack_volumes import _dicom, _frames, _set

__all__ = ["attacks"]


class Frames:
    """Reads all frames of a video, whose decoder may be silent for a minute."""

    seconds = 60

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self) -> int:
        """Return their number."""
        from convnd.io import open_video

        return sum(1 for _ in open_video(self._path).frames())


def video(name: str, data: Callable[[], bytes]) -> Callable[[Path], Frames]:
    """A video of which all frames are read."""

    def write(folder: Path) -> Frames:
        (folder / name).write_bytes(data())
        return Frames(folder / name)

    return write


def _whole(name: str) -> bytes:
    import tempfile

    from malformed import WHOLE

    with tempfile.TemporaryDirectory() as folder:
        WHOLE[name](Path(folder, name), np.random.default_rng(0))
        return Path(folder, name).read_bytes()


def _box(name: str, kind: bytes, place: int, data: bytes) -> bytes:
    """A valid video with other bytes in a box; ``place`` counts from the end of the box's name."""
    whole = _whole(name)
    start = whole.index(kind) + 4 + place
    return whole[:start] + data + whole[start + len(data) :]


def _atom(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data) + 8) + kind + data


def _grown(kind: bytes, extra: bytes) -> bytes:
    """An MP4 whose ``moov``, at the end of the file, has one more box inside the box ``kind``."""
    whole = _whole("a.mp4")
    data = bytearray(whole)
    place = whole.index(kind) - 4
    for parent in {b"moov", b"trak", kind} if kind != b"udta" else {b"moov", kind}:
        at = whole.index(parent) - 4
        (size,) = struct.unpack_from(">I", data, at)
        struct.pack_into(">I", data, at, size + len(extra))
    (size,) = struct.unpack_from(">I", whole, place)
    end = place + size
    moov = whole.index(b"moov") - 4
    if moov < whole.index(b"mdat"):
        raise AssertionError("the samples would move")
    return bytes(data[:end]) + extra + bytes(data[end:])


def _edits(*entries: tuple[int, int, int]) -> bytes:
    body = b"".join(struct.pack(">Iii", *entry) for entry in entries)
    return _atom(b"edts", _atom(b"elst", struct.pack(">II", 0, len(entries)) + body))


def _apng(frames: int, *chunks: bytes, size: int = 16) -> bytes:
    head = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(size * (3 * size + 1)))
    return b"".join((
        b"\x89PNG\r\n\x1a\n", _chunk(b"IHDR", head), _chunk(b"acTL", struct.pack(">II", frames, 0)),
        _control(0, size, size), _chunk(b"IDAT", body), *chunks, _chunk(b"IEND", b""),
    ))  # fmt: skip


def _control(number: int, width: int, height: int, x: int = 0, delay: tuple[int, int] = (1, 10),
             ways: bytes = b"\0\0") -> bytes:  # fmt: skip
    return _chunk(b"fcTL", struct.pack(">IIIIIHH", number, width, height, x, 0, *delay) + ways)


def _data(number: int, size: int = 16) -> bytes:
    pixels = zlib.compress(bytes(size * (3 * size + 1)))
    return _chunk(b"fdAT", struct.pack(">I", number) + pixels)


def _webp(frames: int, canvas: int = 16, delay: int = 10, place: int = 0) -> bytes:
    still = _saved("WEBP")[12:]
    numbers = (place, 0, 15, 15, delay)
    head = b"".join(struct.pack("<I", number)[:3] for number in numbers) + b"\0"
    frame = b"ANMF" + struct.pack("<I", len(head + still)) + head + still
    size = struct.pack("<I", canvas - 1)[:3]
    body = b"VP8X" + struct.pack("<I", 10) + b"\2\0\0\0" + size * 2
    body += b"ANIM" + struct.pack("<I", 6) + bytes(6) + frame * frames
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def _heic(change: Callable[[bytes], bytes] = lambda data: data, **options: Any) -> bytes:
    import pillow_heif
    from PIL import Image

    out = io.BytesIO()
    codes = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    pillow_heif.from_pillow(Image.fromarray(codes)).save(out, **options)
    return change(out.getvalue())


def _profile(tags: list[tuple[bytes, int, int]], data: bytes, kind: bytes = b"mntr",
             space: bytes = b"RGB ") -> bytes:  # fmt: skip
    table = struct.pack(">I", len(tags)) + b"".join(struct.pack(">4sII", *tag) for tag in tags)
    body = bytes(12) + kind + space + b"XYZ " + bytes(12) + b"acsp" + bytes(88) + table + data
    return struct.pack(">I", len(body) + 4) + b"\0\0\0\0\4\0\0\0"[4:] + body[4:]


def _colored(profile: bytes) -> bytes:
    return _png(_chunk(b"iCCP", b"a\0\0" + zlib.compress(profile)))


def _chain(count: int) -> bytes:
    """A TIFF with ``count`` directories, one after the other."""
    whole = _saved("TIFF")
    at = len(whole)
    chain = b"".join(_ifd([(256, 4, 1, 1)], at + 18 * (k + 1)) for k in range(count))
    (first,) = struct.unpack_from("<I", whole, 4)
    (entries,) = struct.unpack_from("<H", whole, first)
    link = first + 2 + 12 * entries
    return whole[:link] + struct.pack("<I", at) + whole[link + 4 :] + chain


def _same_tiles() -> bytes:
    """A huge TIFF whose tiles all point to the same bytes."""
    tiles = 60 * 60
    rows = [(256, 4, 1, 15_360), (257, 4, 1, 15_360), (258, 3, 1, 8), (259, 3, 1, 8),
            (262, 3, 1, 1), (277, 3, 1, 1), (322, 4, 1, 256), (323, 4, 1, 256),
            (324, 4, tiles, 400), (325, 4, tiles, 400 + 4 * tiles)]  # fmt: skip
    packed = zlib.compress(bytes(2**16), 9)
    at = 400 + 8 * tiles
    body = struct.pack(f"<{tiles}I", *[at] * tiles) + struct.pack(
        f"<{tiles}I", *[len(packed)] * tiles
    )
    return b"II*\0\x08\0\0\0" + _ifd(rows).ljust(392, b"\0") + body + packed


def _zip64(name: str, whole: bytes) -> bytes:
    """An archive whose first entry says in its ZIP64 field that it holds 8 EiB."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(name, whole)
    data = bytearray(out.getvalue())
    place = data.index(b"PK\1\2")
    extra = struct.pack("<HHQQ", 1, 16, 2**63 - 1, len(whole))
    data[place + 24 : place + 28] = b"\xff" * 4
    data[place + 20 : place + 24] = b"\xff" * 4
    at = place + 46 + len(name)
    struct.pack_into("<H", data, place + 30, len(extra))
    end = data.index(b"PK\5\6")
    (size,) = struct.unpack_from("<I", data, end + 12)
    struct.pack_into("<I", data, end + 12, size + len(extra))
    return bytes(data[:at]) + extra + bytes(data[at:])


def _overlapping(count: int) -> bytes:
    """An npz whose entries share one body of packed zeros, as Fifield's (2019) do."""
    body = zlib.compress(b"\x93NUMPY" + bytes(40_000_000), 9)[2:-4]
    head = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 0, 0, len(body), 40_000_006, 5, 0)
    data = b"PK\3\4" + head + b"a.npy" + body
    entries = b""
    for k in range(count):
        name = f"{k}.npy".encode()
        fields = struct.pack("<HHHHHHIIIHHHHHII", 20, 20, 0, 8, 0, 0, 0, len(body), 40_000_006,
                             len(name), 0, 0, 0, 0, 0, 0)  # fmt: skip
        entries += b"PK\1\2" + fields + name
    end = struct.pack("<HHHHIIH", 0, 0, count, count, len(entries), len(data), 0)
    return data + entries + b"PK\5\6" + end


def _matlab(build: Callable[[Any, Any], None]) -> Callable[[Path], Path]:
    """MATLAB 7.3: HDF5 after a header of 512 bytes."""

    def write(folder: Path) -> Path:
        import h5py

        with h5py.File(folder / "a.mat", "w", userblock_size=512) as file:
            build(h5py, file)
        data = (folder / "a.mat").read_bytes()
        head = b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM"
        (folder / "a.mat").write_bytes(head + data[len(head) :])
        return folder / "a.mat"

    return write


def _empty_matlab(_h5py: Any, file: Any) -> None:
    file["ecg"] = np.array([2**62, 2**62], np.uint64)
    file["ecg"].attrs["MATLAB_empty"] = 1
    file["ecg"].attrs["MATLAB_class"] = b"double"


def _cell_matlab(h5py: Any, file: Any) -> None:
    cell = file.create_dataset("cell", (2000,), h5py.ref_dtype)
    cell[:] = [cell.ref] * 2000
    cell.attrs["MATLAB_class"] = b"cell"


def _packed_matlab(_h5py: Any, file: Any) -> None:
    file.create_dataset("ecg", (1, 30_000_000), "f8", chunks=(1, 1_000_000), compression="gzip",
                        compression_opts=9, data=np.zeros((1, 30_000_000)))  # fmt: skip


def _unwritten_matlab(_h5py: Any, file: Any) -> None:
    file.create_dataset("ecg", (1, 2**40), "f8", chunks=(1, 1000), fillvalue=1.0)


def _class_matlab(_h5py: Any, file: Any) -> None:
    file["ecg"] = np.arange(90.0)
    file["ecg"].attrs["MATLAB_class"] = b"\xff\x1b[2J" * 9000
    file["fs"] = np.array([[np.nan]])


def _deep_item(depth: int) -> Callable[[Any], None]:
    def change(data: Any) -> None:
        from pydicom.dataset import Dataset

        item = Dataset()
        for _ in range(depth):
            outer = Dataset()
            outer.ReferencedImageSequence = [item]
            item = outer
        data.PerFrameFunctionalGroupsSequence[0].ReferencedImageSequence = [item]

    return change


def _plane(**fields: Any) -> Callable[[Any], None]:
    """Forged plane or pixel measures in every frame."""

    def change(data: Any) -> None:
        for group in (*data.PerFrameFunctionalGroupsSequence, *data.SharedFunctionalGroupsSequence):
            for name in ("PlanePositionSequence", "PlaneOrientationSequence",
                         "PixelMeasuresSequence", "PixelValueTransformationSequence"):  # fmt: skip
                for item in getattr(group, name, ()):
                    for key, value in fields.items():
                        if key in item:
                            setattr(item, key, value)

    return change


def attacks() -> dict[str, Callable[[Path], object]]:
    """The attacks by name."""
    curve = struct.pack(">4sII", b"curv", 0, 2**31)
    table = struct.pack(">4sIBBB", b"mft1", 0, 3, 3, 255) + bytes(60)
    curves = [(b"rTRC", 200, 12), (b"gTRC", 200, 12), (b"bTRC", 200, 12)]
    files: dict[str, Callable[[], bytes]] = {
        "tables icc.png": lambda: _colored(_profile([(b"A2B0", 144, len(table))], table)),
        "curve icc.png": lambda: _colored(_profile(curves, bytes(24) + curve)),
        "tags icc.png": lambda: _colored(_profile([(b"A2B0", 132, 2**31)] * 90_000, b"")),
        "far icc.png": lambda: _colored(_profile([(b"rXYZ", 2**32 - 4, 2**32 - 1)] * 3, b"")),
        "link icc.png": lambda: _colored(_profile([], bytes(90), b"link", b"CMYK")),
        "named icc.png": lambda: _colored(_profile([(b"ncl2", 144, 90)], bytes(90), b"nmcl")),
        "gray icc.jpg": lambda: _jpeg(_segment(0xE2, b"ICC_PROFILE\0\1\1" + _profile([(b"kTRC", 144, 12)], curve, b"mntr", b"GRAY"))),
        "cmyk icc.jpg": lambda: _jpeg(_segment(0xE2, b"ICC_PROFILE\0\1\1" + _profile([(b"A2B0", 144, 60)], table, b"prtr", b"CMYK"))),
        "turn text.jpg": lambda: _jpeg(_segment(0xE1, _exif([(274, 2, 4, 0x36000000)]))),
        "turn twice.jpg": lambda: _jpeg(_segment(0xE1, _exif([(274, 3, 1, 6), (274, 3, 1, 3)]))),
        "turn many.jpg": lambda: _jpeg(_segment(0xE1, _exif([(274, 3, 2**31, 8)]))),
        "turn minus.jpg": lambda: _jpeg(_segment(0xE1, _exif([(274, 8, 1, 0xFFFF)]))),
        "turn other.webp": lambda: _saved("WEBP", exif=_exif([(274, 3, 1, 6)])[6:]),
        "packed texts.png": lambda: _png(_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(900_000), 9)) * 2000),
        "packed unicode.png": lambda: _png(_chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress("\U0001f600".encode() * 400_000, 9)) * 60),
        "palettes.png": lambda: _png(_chunk(b"sPLT", b"a\0\x08" + bytes(600_000)) * 60),
        "behind.png": lambda: _png() + bytes(30_000_000),
        "vector packed.png": lambda: gzip.compress(b"<svg xmlns='http://www.w3.org/2000/svg'>" + bytes(9_000_000)),
        "laughs.jpg": lambda: b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b 'bbbb'>]><svg>&b;</svg>",
        "paper.jpg": lambda: b"%PDF-1.7\n1 0 obj<</Length 99999999999>>stream\n",
        "layers.tif": lambda: b"8BPS\0\1" + bytes(6) + b"\0\3\xff\xff\xff\xff\xff\xff\xff\xff\0\x08\0\3",
        "portable.bmp": lambda: b"P6\n999999999 999999999\n255\n" + bytes(90),
        "icon.png": lambda: b"\0\0\1\0\xff\xff" + b"\0" * 90,
        "surface.png": lambda: b"DDS " + b"\x7c\0\0\0" + b"\xff" * 200,
        "next.png": lambda: b"\xff\x0a" + b"\xff" * 200, "light.tif": lambda: b"v/1\1" + b"\xff" * 200,
        "loop two.tif": lambda: _chain(2)[:-4] + struct.pack("<I", 8),
        "chain.tif": lambda: _chain(60_000), "same tiles.tif": _same_tiles,
        "count big.tif": lambda: b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 2**64 - 1) + bytes(90),
        "profile.bmp": lambda: b"BM" + struct.pack("<IHHI", 300, 0, 0, 138) + struct.pack("<IiiHHIIiiII", 124, 4, 4, 1, 24, 0, 0, 0, 0, 0, 0) + b"\xff" * 84 + bytes(90),
        "loops.gif": lambda: _saved("GIF").replace(b"\x3b", b"!\xff\x0bNETSCAPE2.0\3\1\0\0\0" * 200_000 + b"\x3b"),
        "size.heic": lambda: _heic(lambda data: _swap(data, struct.pack(">II", 64, 64), struct.pack(">II", 60_000, 60_000))),
        "none.heic": lambda: _heic(lambda data: _swap(data, struct.pack(">II", 64, 64), bytes(8))),
        "places.heic": lambda: _heic(lambda data: _swap(data, b"iloc", b"free")),
        "codec.heic": lambda: _heic(lambda data: data.replace(b"hvcC", b"hvcX")),
        "exif.heic": lambda: _heic(exif=_exif([(0x8769, 4, 1, 8), (274, 3, 1, 6)], 8)),
        "cut.heic": lambda: _heic(lambda data: data[: len(data) // 2]),
        "mirror.heic": lambda: _heic(lambda data: data.replace(b"colrnclx", b"irot\xff\xff\xff\xff")),
        "sequence.avif": lambda: _swap(_saved("AVIF"), b"ftypavif", b"ftypavis"),
        "turned.avif": lambda: _swap(_saved("AVIF"), b"pixi", b"irot"),
        "zip64.npz": lambda: _zip64("values.npy", b"\x93NUMPY\1\0"), "zip64.xlsx": lambda: _zip64("xl/workbook.xml", b"<a/>"),
        "overlapping.npz": lambda: _overlapping(2000), "names.npz": lambda: _overlapping(60_000),
        "lies.mgz": lambda: gzip.compress(struct.pack(">7ihf", 1, 9000, 9000, 9000, 1, 0, 0, 0, 1.0))[:-4] + b"\xff" * 4,
        "tags.mgz": lambda: gzip.compress(_whole("a.mgh") + struct.pack(">iq", 3, 2**62)),
        "texts.mgz": lambda: gzip.compress(_whole("a.mgh") + struct.pack(">iq", 3, 8) * 2_000_000),
        "more.mgz": lambda: gzip.compress(_whole("a.mgh") + bytes(200_000_000)),
        "nifti2.nii": lambda: struct.pack("<i8sHh8q", 540, b"n+2\0\r\n\x1a\n", 16, 32, 3, 2**40, 2**40, 2**40, 1, 1, 1, 1) + bytes(700),
        "nifti2 -1.nii": lambda: struct.pack("<i8sHh8q", 540, b"n+2\0\r\n\x1a\n", 16, 32, 3, -1, -1, 2, 1, 1, 1, 1) + bytes(700),
        "nifti2 axes.nii": lambda: struct.pack("<i8sHh8q", 540, b"n+2\0\r\n\x1a\n", 16, 32, 2**62, 3, 3, 3, 1, 1, 1, 1) + bytes(700),
    }  # fmt: skip
    table_of_attacks: dict[str, Callable[[Path], object]] = {
        name: content(name.split(" ")[-1] if " " in name else name, data)
        for name, data in files.items()
    }
    videos: dict[str, Callable[[], bytes]] = {
        "count animated.png": lambda: _apng(2**31 - 1, _control(1, 16, 16), _data(2)),
        "outside animated.png": lambda: _apng(2, _control(1, 16, 16, 2**31 - 9), _data(2)),
        "larger animated.png": lambda: _apng(2, _control(1, 60_000, 60_000), _data(2)),
        "order animated.png": lambda: _apng(3, _control(9, 16, 16), _data(3), _control(1, 16, 16), _data(2)),
        "delay animated.png": lambda: _apng(2, _control(1, 16, 16, delay=(65535, 0)), _data(2)),
        "ways animated.png": lambda: _apng(2, _control(1, 16, 16, ways=b"\xff\xff"), _data(2)),
        "empty animated.png": lambda: _apng(2, _control(1, 0, 0), _data(2, 0)),
        "many animated.png": lambda: _apng(20_000, *[_control(2 * k + 1, 16, 16) + _data(2 * k + 2) for k in range(20_000)]),
        "canvas animated.webp": lambda: _webp(20, canvas=2**24), "place animated.webp": lambda: _webp(3, place=2**23),
        "delay animated.webp": lambda: _webp(3, delay=2**24 - 1), "still animated.webp": lambda: _webp(3, delay=0),
        "many animated.webp": lambda: _webp(20_000), "wide animated.webp": lambda: _webp(300, canvas=400),
        "none animated.webp": lambda: _webp(0),
        "edit loop.mp4": lambda: _grown(b"trak", _edits((1000, 0, 65536)) + _edits((1000, 0, 65536))),
        "edits.mp4": lambda: _grown(b"trak", _edits(*[(1, 0, 65536)] * 100_000)),
        "edit -1.mp4": lambda: _grown(b"trak", _edits((2**31, -(2**31), -65536))),
        "edit far.mp4": lambda: _grown(b"trak", _edits((1000, 2**31 - 1, 65536))),
        "times.mp4": lambda: _box("a.mp4", b"stts", 4, struct.pack(">III", 1, 2**32 - 1, 0)),
        "times far.mp4": lambda: _box("a.mp4", b"stts", 4, struct.pack(">III", 1, 8, 2**31 - 1)),
        "scale 0.mp4": lambda: _box("a.mp4", b"mdhd", 12, bytes(4)),
        "scale.mp4": lambda: _box("a.mp4", b"mdhd", 12, b"\xff" * 4),
        "matrix 0.mp4": lambda: _box("a.mp4", b"tkhd", 40, bytes(36)),
        "matrix.mp4": lambda: _box("a.mp4", b"tkhd", 40, b"\x7f\xff\xff\xff" * 9),
        "size.mp4": lambda: _box("a.mp4", b"avc1", 24, b"\xff\xff\xff\xff"),
        "chunks.mp4": lambda: _box("a.mp4", b"stsc", 4, struct.pack(">IIII", 1, 1, 2**32 - 1, 1)),
        "samples.mp4": lambda: _box("a.mp4", b"stsz", 4, struct.pack(">II", 2**31 - 1, 2**32 - 1)),
        "address.mp4": lambda: _box("a.mp4", b"dref", 8, struct.pack(">I4sI", 12, b"url ", 0)),
        "texts.mp4": lambda: _grown(b"trak", _atom(b"udta", _atom(b"\xa9nam", struct.pack(">HH", 60_000, 0) + "\u202e\x1b[2J".encode() * 7500))),
        "unknown.mkv": lambda: _swap(_whole("a.mkv"), b"\x18\x53\x80\x67", b"\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff"),
        "deep.mkv": lambda: _whole("a.mkv")[:60] + b"\x1f\x43\xb6\x75\x01\xff\xff\xff\xff\xff\xff\xff" * 60_000,
        "ebml.mkv": lambda: b"\x1a\x45\xdf\xa3\x01\xff\xff\xff\xff\xff\xff\xfe" + bytes(900),
        "index.avi": lambda: _whole("a.avi") + b"idx1\xff\xff\xff\x7f" + bytes(900_000),
        "rate 0.avi": lambda: _box("a.avi", b"strh", 20 + 4, bytes(8)),
        "lists.avi": lambda: b"RIFF\xff\xff\xff\x7fAVI " + b"LIST\xff\xff\xff\x7fhdrl" * 100_000,
        "concatenated.mkv": lambda: b"ffconcat version 1.0\nfile ../secret.txt\n", "playlist.mov": lambda: b"#EXTM3U\n#EXTINF:9,\nfile:///etc/passwd\n",
    }  # fmt: skip
    table_of_attacks |= {name: video(name.split(" ")[-1], data) for name, data in videos.items()}
    enhanced: dict[str, Callable[[Any], None]] = {
        "deep": _deep_item(40),
        "place nan": _plane(ImagePositionPatient=["1e400", "0", "0"]),
        "same place": _plane(ImagePositionPatient=[0, 0, 0]),
        "turn 0": _plane(ImageOrientationPatient=[0] * 6), "spacing 0": _plane(PixelSpacing=[0, 0]),
        "slope": _plane(RescaleSlope="1e300", RescaleIntercept="-1e300"),
        "floats": lambda data: setattr(data, "FloatPixelData", bytes(60)),
        "palette": _set(PhotometricInterpretation="PALETTE COLOR"),
        "bit": _set(BitsAllocated=1, BitsStored=1, HighBit=0),
        "overlay": lambda data: data.add_new(0x60003000, "OW", bytes(600)),
        "text": lambda data: data.add_new(0x00204000, "LT", "\u202e\x1b[2J" * 9000),
    }  # fmt: skip
    table_of_attacks |= {
        f"{name} enhanced file": _frames(change) for name, change in enhanced.items()
    }
    names = _set(SeriesInstanceUID="../../secret", SeriesDescription="a/../../b\x1b[2J\n\u202e")
    builds = {
        "empty": _empty_matlab, "cell": _cell_matlab, "packed": _packed_matlab,
        "unwritten": _unwritten_matlab, "class": _class_matlab,
    }  # fmt: skip
    table_of_attacks |= {f"{name} 7.3.mat": _matlab(build) for name, build in builds.items()}
    table_of_attacks |= {
        "names series up": _dicom(names),
        "cycle 7.3.h5": _hdf5(lambda h5py, file: file.__setitem__("g", h5py.SoftLink("/g"))),
        "decimals.parquet": _parquet(lambda pa: pa.table({"a": pa.array([10**37] * 20, pa.decimal128(38, 0))})),
        "codes.parquet": _parquet(lambda pa: pa.table({"a": pa.DictionaryArray.from_arrays(pa.array([0] * 4_000_000, pa.int32()), pa.array(["9" * 2_000_000]))})),
        "halves.parquet": _parquet(lambda pa: pa.table({"a": pa.array(np.full(20, np.inf, "f2"))})),
        "numbers.parquet": _parquet(lambda pa: pa.table({"a": ["1e999", "-1e999", "nan", "9" * 5000] * 9})),
        "range.xlsx": _excel(_sheet('<row r="1048576" spans="1:16384"><c r="XFD1048576"><v>1</v></c></row>')),
        "digits.xlsx": _excel(_sheet('<row r="1"><c r="A1"><v>' + "9" * 400_000 + "</v></c></row>")),
        "formats.xlsx": _excel({"xl/styles.xml": "<styleSheet>" + "<numFmts><numFmt/></numFmts>" * 90_000 + "</styleSheet>"}),
        "up.xlsx": _excel({}, {"../../pwned.xml": "<a/>", "/tmp/pwned": "<a/>"}),
        "sheets.xlsx": _excel({}, {f"xl/worksheets/sheet{k}.xml": "<worksheet/>" for k in range(2, 9000)}),
    }  # fmt: skip
    return table_of_attacks
