"""Forged scans and arrays, for `benchmarks.experiments.attacks`."""

from __future__ import annotations

import gzip
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.experiments.attack_pictures import constant, content

__all__ = ["attacks"]

_NIFTI: dict[str, dict[str, Any]] = {
    "axes 0": {"dim": [0, 3, 3, 3, 1, 1, 1, 1]},
    "axes 8": {"dim": [8, 3, 3, 3, 1, 1, 1, 1]},
    "axes -1": {"dim": [-1, 3, 3, 3, 1, 1, 1, 1]},
    "size -3": {"dim": [3, -3, 3, 3, 1, 1, 1, 1]},
    "vast": {"dim": [7, *[32767] * 7]},
    "spacing nan": {"pixdim": [1, np.nan, 1, 1, 1, 1, 1, 1]},
    "spacing inf": {"pixdim": [1, np.inf, 1, 1, 1, 1, 1, 1]},
    "spacing 0": {"pixdim": [1, 0, 1, 1, 1, 1, 1, 1]},
    "spacing -1": {"pixdim": [1, -1, -1, -1, 1, 1, 1, 1]},
    "spacing tiny": {"pixdim": [1, 1e-38, 1, 1, 1, 1, 1, 1]},
    "slope nan": {"scl_slope": np.nan},
    "slope inf": {"scl_slope": np.inf},
    "slope vast": {"scl_slope": 3e38, "scl_inter": 3e38},
    "offset nan": {"vox_offset": np.nan},
    "offset negative": {"vox_offset": -352},
    "offset fraction": {"vox_offset": 352.5},
    "offset vast": {"vox_offset": 3e38},
    "type 0": {"datatype": 0},
    "type complex": {"datatype": 32, "bitpix": 64},
    "type colours": {"datatype": 128, "bitpix": 24},
    "type quad": {"datatype": 1536, "bitpix": 128},
    "form nan": {"sform_code": 1, "srow_x": [np.nan] * 4},
    "form singular": {"sform_code": 1, "srow_x": [0] * 4, "srow_y": [0] * 4, "srow_z": [0] * 4},
    "form vast": {"sform_code": 1, "srow_x": [3e38] * 4},
    "form code": {"sform_code": -9, "qform_code": 99, "quatern_b": 9.0},
    "units": {"xyzt_units": 255},
    "window": {"cal_max": np.nan, "cal_min": np.inf},
    "bidi": {"descrip": "\u202egpj\x1b[2J\n".encode(), "intent_name": b"\xff" * 16},
}

_NRRD = {
    "sizes -4": ("sizes: 4 4 4", "sizes: 4 -4 4"),
    "sizes digits": ("sizes: 4 4 4", "sizes: 4 4 " + "9" * 5000),
    "sizes none": ("sizes: 4 4 4\n", ""),
    "sizes overflow": ("sizes: 4 4 4", "sizes: 4294967296 4294967296 4"),
    "axes": ("dimension: 3", "dimension: 17"),
    "axes -1": ("dimension: 3", "dimension: -1"),
    "block": ("type: uint8", "type: block"),
    "type": ("type: uint8", "type: " + "u" * 100_000),
    "list": ("encoding: raw", "encoding: raw\ndata file: LIST\n../secret.raw"),
    "pattern": ("encoding: raw", "encoding: raw\ndata file: %09999999d.raw 1 1000000000 1"),
    "device": ("encoding: raw", "encoding: raw\ndata file: /dev/zero"),
    "up": ("encoding: raw", "encoding: raw\ndatafile: ../secret.raw"),
    "pipe": ("encoding: raw", "encoding: raw\ndata file: ../waits"),
    "upper": ("encoding: raw", "encoding: raw\nDATA FILE: ../secret.raw"),
    "twice": ("encoding: raw", "encoding: raw\nencoding: hex"),
    "skip": ("encoding: raw", "encoding: raw\nline skip: 1000000000"),
    "bytes": ("encoding: raw", "encoding: raw\nbyte skip: 1000000000000000000"),
    "bytes -2": ("encoding: raw", "encoding: raw\nbyte skip: -2"),
    "bzip2": ("encoding: raw", "encoding: bzip2"),
    "hex": ("encoding: raw", "encoding: hex"),
    "nan": ("encoding: raw", "encoding: raw\nspacings: nan inf 0"),
    "directions": ("encoding: raw", "encoding: raw\nspace: lps\nspace directions: (nan,0,0) none (0,0,inf)"),
    "brackets": ("encoding: raw", "encoding: raw\nspace: lps\nspace directions: " + "(" * 500_000),
    "origin": ("encoding: raw", "encoding: raw\nspace origin: (1e999,0,0)"),
    "keys": ("encoding: raw", "encoding: raw\n" + "a:=b\n" * 500_000 + "c:=d"),
    "line": ("encoding: raw", "encoding: raw\ncontent: " + " " * 5_000_000 + "x"),
    "bidi": ("encoding: raw", "encoding: raw\ncontent: \u202e\u2028\x85"),
    "kinds": ("encoding: raw", "encoding: raw\nkinds: vector vector vector"),
    "labels": ("encoding: raw", 'encoding: raw\nlabels: "a" "b\\" "c'),
}  # fmt: skip

_META = {
    "sizes -4": ("DimSize = 4 4 4", "DimSize = 4 -4 4"),
    "sizes nan": ("DimSize = 4 4 4", "DimSize = nan 4 4"),
    "sizes overflow": ("DimSize = 4 4 4", "DimSize = 4294967296 4294967296 4294967296"),
    "spacing 0": ("ElementSpacing = 1 1 1", "ElementSpacing = 0 1 1"),
    "spacing nan": ("ElementSpacing = 1 1 1", "ElementSpacing = nan inf -1"),
    "axes 0": ("NDims = 3", "NDims = 0"),
    "axes vast": ("NDims = 3", "NDims = 1000000000"),
    "axes -3": ("NDims = 3", "NDims = -3"),
    "list": ("ElementDataFile = LOCAL", "ElementDataFile = LIST\n../secret.raw"),
    "list 2D": ("ElementDataFile = LOCAL", "ElementDataFile = LIST 2D\n/dev/zero"),
    "pattern": ("ElementDataFile = LOCAL", "ElementDataFile = ../sec%et.raw 1 9 1"),
    "up": ("ElementDataFile = LOCAL", "ElementDataFile = ../secret.raw"),
    "pipe": ("ElementDataFile = LOCAL", "ElementDataFile = ../waits"),
    "local": ("ElementDataFile = LOCAL", "ElementDataFile = local\nElementDataFile = ../secret.raw"),
    "skip -1": ("BinaryData = True", "BinaryData = True\nHeaderSize = -1"),
    "skip vast": ("BinaryData = True", "BinaryData = True\nHeaderSize = 1000000000000000000"),
    "channels 0": ("BinaryData = True", "BinaryData = True\nElementNumberOfChannels = 0"),
    "channels vast": ("BinaryData = True", "BinaryData = True\nElementNumberOfChannels = 1000000000"),
    "text": ("BinaryData = True", "BinaryData = False"),
    "packed": ("BinaryData = True", "BinaryData = True\nCompressedData = True\nCompressedDataSize = 1000000000000000000"),
    "type": ("MET_UCHAR", "MET_STRING"),
    "matrix": ("BinaryData = True", "BinaryData = True\nTransformMatrix = 0 0 0 0 0 0 0 0 0"),
    "matrix nan": ("BinaryData = True", "BinaryData = True\nTransformMatrix = nan 0 0 0 inf 0 0 0 1"),
    "offset": ("BinaryData = True", "BinaryData = True\nOffset = 1e999 0 0"),
    "comment": ("BinaryData = True", "BinaryData = True\nComment = " + "=" * 3_000_000),
    "keys": ("BinaryData = True", "BinaryData = True\n" + "a = b\n" * 500_000),
}  # fmt: skip


def _nifti(changes: dict[str, Any]) -> bytes:
    import nibabel as nib

    header: Any = nib.Nifti1Header()
    header["dim"][:4], header["pixdim"][1:4] = [3, 3, 3, 3], 1
    header["magic"], header["vox_offset"] = b"n+1", 352
    header["datatype"], header["bitpix"] = 4, 16
    for name, value in changes.items():
        header[name] = value
    return bytes(header.binaryblock) + bytes(4) + np.arange(27, dtype="<i2").tobytes() + bytes(400)


def _extension(*sizes: int) -> bytes:
    data = bytearray(_nifti({"vox_offset": 352 + 64}))
    data[348] = 1
    return bytes(data[:352]) + struct.pack(f"<{len(sizes)}i", *sizes).ljust(64, b"\0") + bytes(60)


def _gzip_flags(flags: int, extra: bytes) -> bytes:
    whole = gzip.compress(_nifti({}), mtime=0)
    return whole[:3] + bytes([flags]) + whole[4:10] + extra + whole[10:]


def _mgh(*numbers: int, ras: float = 1.0) -> bytes:
    head = struct.pack(">7i", *numbers) + struct.pack(">h", 1) + struct.pack(">15f", *[ras] * 15)
    return head.ljust(284, b"\0") + bytes(400)


def _pair(kind: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        data = bytearray(_nifti({"magic": b"ni1", "vox_offset": 0})[:352])
        (folder / "a.hdr").write_bytes(data)
        voxels = folder / "a.img"
        if kind == "link":
            voxels.symlink_to(folder.parent / "secret.raw")
        elif kind == "pipe":
            os.mkfifo(voxels)
        elif kind == "folder":
            voxels.mkdir()
        elif kind == "device":
            voxels.symlink_to("/dev/zero")
        elif kind == "short":
            voxels.write_bytes(bytes(5))
        return folder / "a.hdr"

    return write


def _npy(text: str, size: int = 64, version: bytes = b"\1\0") -> bytes:
    raw = text.encode()
    count = struct.pack("<H" if version == b"\1\0" else "<I", len(raw))
    return b"\x93NUMPY" + version + count + raw + bytes(size)


def _array(shape: str, dtype: str = "'<f4'", size: int = 64) -> bytes:
    return _npy(f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}\n", size)


def _npz(**entries: bytes) -> bytes:
    import io

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {"values": _array("(1, 4, 4)"), **entries}.items():
            archive.writestr(f"{name.replace('UP', '../')}.npy", data)
    return out.getvalue()


def _dicom(change: Callable[[Any], None], raw: Callable[[bytes], bytes] = lambda data: data) -> Any:
    def write(folder: Path) -> Path:
        import pydicom
        from malformed import WHOLE

        WHOLE["series"](folder / "series", np.random.default_rng(0))
        file = folder / "series" / "1.dcm"
        data = pydicom.dcmread(file)
        change(data)
        pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
        data.save_as(file, enforce_file_format=True)
        file.write_bytes(raw(file.read_bytes()))
        return folder / "series"

    return write


def _set(**fields: Any) -> Callable[[Any], None]:
    def change(data: Any) -> None:
        for name, value in fields.items():
            setattr(data, name, value)

    return change


def _nested(depth: int) -> bytes:
    start = struct.pack("<HH2sHI", 0x40, 0x275, b"SQ", 0, 0xFFFFFFFF)
    start += struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    return start * depth


def _insert(data: bytes, elements: bytes) -> bytes:
    place = data.index(b"\xe0\x7f\x10\0")
    return data[:place] + elements + data[place:]


def _packed(syntax: str, frame: bytes, rows: int = 6) -> Callable[[Any], None]:
    def change(data: Any) -> None:
        from pydicom.encaps import encapsulate
        from pydicom.uid import UID

        data.file_meta.TransferSyntaxUID = UID(syntax)
        data.Rows = rows
        data.PixelData = encapsulate([frame])
        data["PixelData"].is_undefined_length = True

    return change


def _frames(change: Callable[[Any], None]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        import pydicom
        from malformed import WHOLE

        WHOLE["frames.dcm"](folder / "frames.dcm", np.random.default_rng(0))
        data = pydicom.dcmread(folder / "frames.dcm")
        pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
        change(data)
        data.save_as(folder / "frames.dcm", enforce_file_format=True)
        return folder / "frames.dcm"

    return write


def _remove_frames(data: Any) -> None:
    del data.PerFrameFunctionalGroupsSequence[1:]


def _empty_frames(data: Any) -> None:
    for item in data.PerFrameFunctionalGroupsSequence:
        for name in list(item.dir()):
            delattr(item, name)


def _linked(folder: Path) -> Path:
    from malformed import WHOLE

    WHOLE["series"](folder / "series", np.random.default_rng(0))
    (folder / "series" / "again").symlink_to(folder / "series")
    (folder / "series" / "x\x1b]0;a\x07.dcm").symlink_to("nowhere")
    return folder / "series"


def _piped(folder: Path) -> Path:
    from malformed import WHOLE

    WHOLE["series"](folder / "series", np.random.default_rng(0))
    os.mkfifo(folder / "series" / "9.dcm")
    return folder / "series"


def attacks() -> dict[str, Callable[[Path], object]]:
    """The attacks by name."""
    nrrd = "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 4 4 4\nencoding: raw\n\n"
    meta = (
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nDimSize = 4 4 4\n"
        "ElementSpacing = 1 1 1\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
    )
    table: dict[str, Callable[[Path], object]] = {}
    for name, changes in _NIFTI.items():
        table[f"{name}.nii"] = constant("a.nii", _nifti(changes))
    for name, (old, new) in _NRRD.items():
        assert old in nrrd
        data = nrrd.replace(old, new).encode() + bytes(64)
        table[f"{name}.nrrd"] = constant("a.nrrd", data)
    for name, (old, new) in _META.items():
        assert old in meta
        data = meta.replace(old, new).encode() + bytes(64)
        table[f"{name}.mha"] = constant("a.mha", data)
    files: dict[str, Callable[[], bytes]] = {
        "extension 0.nii": lambda: _extension(0, 0),
        "extension -16.nii": lambda: _extension(-16, 6),
        "extension vast.nii": lambda: _extension(2**31 - 16, 6),
        "extension dicom.nii": lambda: _extension(32, 2, *[0x41414141] * 6),
        "nan.nii": lambda: _nifti({"datatype": 16, "bitpix": 32})[:352] + np.full(27, np.nan, "f4").tobytes(),
        "inf.nii": lambda: _nifti({"datatype": 16, "bitpix": 32})[:352] + np.full(27, np.inf, "f4").tobytes(),
        "name.nii.gz": lambda: _gzip_flags(8, b"a" * 3_000_000),
        "extra.nii.gz": lambda: _gzip_flags(4, b"\xff\xff"),
        "flags.nii.gz": lambda: _gzip_flags(255, b"../../x\0"),
        "junk.nii.gz": lambda: gzip.compress(_nifti({})) + b"junk",
        "crc.nii.gz": lambda: gzip.compress(_nifti({}))[:-8] + bytes(8),
        "members.nii.gz": lambda: gzip.compress(b"") * 900_000 + gzip.compress(_nifti({})),
        "zeros.nii.gz": lambda: gzip.compress(_nifti({})) + bytes(20_000_000),
        "order.nii": lambda: b"\0\0\1\x5c" + _nifti({})[4:],
        "version.mgh": lambda: _mgh(2, 3, 3, 3, 1, 0, 0),
        "size -3.mgh": lambda: _mgh(1, -3, 3, 3, 1, 0, 0),
        "vast.mgh": lambda: _mgh(1, 2**31 - 1, 2**31 - 1, 2**31 - 1, 1, 0, 0),
        "frames.mgh": lambda: _mgh(1, 3, 3, 3, -1, 0, 0),
        "frames vast.mgh": lambda: _mgh(1, 3, 3, 3, 2**31 - 1, 0, 0),
        "type.mgh": lambda: _mgh(1, 3, 3, 3, 1, 7, 0),
        "nan.mgh": lambda: _mgh(1, 3, 3, 3, 1, 0, 0, ras=np.nan),
        "zero.mgh": lambda: _mgh(1, 3, 3, 3, 1, 0, 0, ras=0),
        "object.npy": lambda: _array("(4,)", "'|O'"),
        "records.npy": lambda: _array("(4,)", "[('a', '<f4'), ('b', '|O')]"),
        "times.npy": lambda: _array("(4,)", "'<M8[s]'"),
        "void.npy": lambda: _array("(4,)", "'|V100000000'"),
        "shape -4.npy": lambda: _array("(-4, 4)"),
        "shape vast.npy": lambda: _array("(9223372036854775807, 2)"),
        "shape 0.npy": lambda: _array("(0, 4)"),
        "shape axes.npy": lambda: _array("(" + "1, " * 60 + ")"),
        "shape floats.npy": lambda: _array("(4.0, 4)"),
        "code.npy": lambda: _array("__import__('os').system('touch pwned')"),
        "deep.npy": lambda: _array("(" * 20_000),
        "deep minus.npy": lambda: _array("-" * 30_000 + "1"),
        "digits.npy": lambda: _array("(" + "9" * 20_000 + ",)"),
        "head.npy": lambda: b"\x93NUMPY\2\0\xff\xff\xff\xff",
        "version.npy": lambda: _npy("{}", version=b"\x09\0"),
        "nan.npy": lambda: _array("(1, 4, 4)") [:-64] + np.full(16, np.nan, "f4").tobytes(),
        "half inf.npy": lambda: _array("(1, 4, 4)", "'<f2'") [:-64] + np.full(32, np.inf, "f2").tobytes(),
        "text.npy": lambda: _array("(4,)", "'<U4'"),
        "up.npz": lambda: _npz(UPvalues=_array("(4,)")),
        "spacing nan.npz": lambda: _npz(spacing=_array("(2,)", "'<f8'", 0) + np.array([np.nan, 0]).tobytes()),
        "spacing -1.npz": lambda: _npz(spacing=_array("(2,)", "'<f8'", 0) + np.array([-1.0, np.inf]).tobytes()),
        "axes.npz": lambda: _npz(axes=_array("(2,)", "'<U2'", 0) + "\u202ea\x1b[".encode("utf-32-le")),
        "deep record.npz": lambda: _npz(record=_array("()", "'<U100000'", 0) + ("[" * 100_000).encode("utf-32-le")),
        "object.npz": lambda: _npz(spacing=_array("(2,)", "'|O'")),
        "junk.npz": lambda: b"PK\3\4" + bytes(300),
        "end.npz": lambda: _npz()[:-22] + b"PK\5\6" + b"\xff" * 18,
    }  # fmt: skip
    table |= {name: content(name, data) for name, data in files.items()}
    for kind in ("link", "pipe", "folder", "device", "short", "none"):
        table[f"{kind}.hdr"] = _pair(kind)
    series: dict[str, Callable[[Any], None]] = {
        "rows 0": _set(Rows=0), "rows vast": _set(Rows=65535, Columns=65535),
        "bits 0": _set(BitsAllocated=0), "bits 3": _set(BitsAllocated=3),
        "bits 65535": _set(BitsAllocated=65528), "stored": _set(BitsStored=99),
        "high": _set(HighBit=255), "samples": _set(SamplesPerPixel=65535),
        "frames -1": _set(NumberOfFrames="-1"), "frames vast": _set(NumberOfFrames="999999999"),
        "spacing 0": _set(PixelSpacing=[0, 0]), "spacing -1": _set(PixelSpacing=[-1, 1]),
        "spacing one": _set(PixelSpacing=[1]), "spacing vast": _set(PixelSpacing=["1e99", "1e-99"]),
        "turned": _set(ImageOrientationPatient=[0] * 6), "skewed": _set(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]),
        "far": _set(ImagePositionPatient=["1e300", 0, 0]), "place one": _set(ImagePositionPatient=[1]),
        "slope": _set(RescaleSlope="1e300"), "slope 0": _set(RescaleSlope="0"),
        "color": _set(PhotometricInterpretation="RGB"), "sign": _set(PixelRepresentation=7),
        "text": _set(SpecificCharacterSet="ISO 2022 IR 999\\\\"),
        "name": _set(PatientName="\u202e\x1b[2J", SpecificCharacterSet="ISO_IR 192"),
        "other size": _set(Rows=3, Columns=10),
        "no pixels": lambda data: delattr(data, "PixelData"),
        "jpeg 2000": _packed("1.2.840.10008.1.2.4.90", b"\xff\x4f\xff\x51\0\x2f\0\0" + struct.pack(">8I", 60_000, 60_000, 0, 0, 60_000, 60_000, 0, 0) + b"\0\1\x0f\1\1" + bytes(200)),
        "jpeg-ls": _packed("1.2.840.10008.1.2.4.80", b"\xff\xd8\xff\xf7\0\x0b\x10\xff\xff\xff\xff\1\1\x11\0" + bytes(200)),
        "jpeg": _packed("1.2.840.10008.1.2.4.50", b"\xff\xd8" + b"\xff" * 1_000_000),
        "rle": _packed("1.2.840.10008.1.2.5", struct.pack("<16I", 15, *[2**31] * 15)),
        "syntax": _packed("1.2.3.4.5", b"\0" * 60),
        "video": _packed("1.2.840.10008.1.2.4.102", b"\0\0\0\x18ftypmp42" + bytes(60)),
    }  # fmt: skip
    table |= {f"{name} series": _dicom(change) for name, change in series.items()}

    def same(_data: Any) -> None:
        return None

    raw: dict[str, Callable[[bytes], bytes]] = {
        "nested": lambda data: _insert(data, _nested(20_000)),
        "nested 900": lambda data: _insert(data, _nested(900)),
        "cut sequence": lambda data: _insert(
            data, struct.pack("<HH2sHI", 0x40, 0x275, b"SQ", 0, 2**31)
        ),
        "group": lambda data: data[:140] + b"\xff\xff\xff\x7f" + data[144:],
        "private": lambda data: _insert(
            data, b"".join(struct.pack("<HH2sH", 0x3001, k, b"LO", 0) for k in range(60_000))
        ),
        "pixels": lambda data: data.replace(
            b"\xe0\x7f\x10\0OW\0\0" + struct.pack("<I", 60), b"\xe0\x7f\x10\0OW\0\0\xff\xff\xff\xff"
        ),
        "twice": lambda data: data + data[132:],
        "type": lambda data: data.replace(b"US\2\0", b"XX\2\0"),
    }
    table |= {f"{name} raw series": _dicom(same, change) for name, change in raw.items()}
    enhanced: dict[str, Callable[[Any], None]] = {
        "fewer": _remove_frames, "empty": _empty_frames,
        "more": _set(NumberOfFrames="30000"), "zero": _set(NumberOfFrames="0"),
        "index": _set(DimensionIndexSequence=[]), "shared": _set(SharedFunctionalGroupsSequence=[]),
        "size": _set(Rows=40_000, Columns=40_000),
    }  # fmt: skip
    table |= {f"{name} enhanced": _frames(change) for name, change in enhanced.items()}
    table |= {"links series": _linked, "pipe series": _piped}
    return table
