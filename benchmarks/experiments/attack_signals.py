"""Forged recordings, for `benchmarks.experiments.attacks`."""

from __future__ import annotations

import io
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.experiments.attack_pictures import constant, content

__all__ = ["attacks"]

_HEA = "a 1 200 10\na.dat 16 200 16 0 0 0 0 I\n"
_RECORDS = {
    "format 0": ("16 200", "0 200"), "format 999": ("16 200", "999 200"),
    "format 8": ("16 200", "8 200"), "format 310": ("16 200", "310 200"),
    "format 508": ("16 200", "508 200"), "format 516": ("16 200", "516 200"),
    "gain 0": ("16 200", "16 0"), "gain nan": ("16 200", "16 nan"),
    "gain vast": ("16 200", "16 1e308"), "gain tiny": ("16 200", "16 1e-308"),
    "gain -1": ("16 200", "16 -1"), "zero": ("16 200", "16 200(99999999999999999999)/mV"),
    "offset": ("16 200", "16+99999999999 200"), "frames 0": ("16 200", "16x0 200"),
    "skew": ("16 200", "16:-9 200"), "up": ("a.dat", "../secret.raw"), "dot": ("a.dat", ".."),
    "rate 0": ("200 10", "0 10"), "rate nan": ("200 10", "nan 10"),
    "rate vast": ("200 10", "1e309 10"), "counter": ("200 10", "200/0(nan) 10"),
    "length -1": ("200 10", "200 -10"), "date": ("200 10", "200 10 99:99:99 99/99/9999"),
    "none": ("a 1", "a 0"), "itself": ("a 1 200 10", "a/2 1 200 20\na 10\na 10"),
    "units": ("16 200", "16 200/\u202e\x1b[2J"), "name": (" I\n", " \u202e\u2066I\x07\n"),
    "comment": (" I\n", " I\n#\x1b]0;a\x07 convnd:command: \"[\n"),
    "spaces": (" I\n", " " * 900_000 + "I\n"),
}  # fmt: skip
_EDF = {
    # position, length and text
    "signals vast": (252, 4, "9999"), "signals -1": (252, 4, "-1"), "signals word": (252, 4, "abc"),
    "duration 0": (244, 8, "0"), "duration nan": (244, 8, "nan"), "duration tiny": (244, 8, "1e-300"),
    "duration -1": (244, 8, "-1"), "duration inf": (244, 8, "1e999"), "records -1": (236, 8, "-1"),
    "records vast": (236, 8, "99999999"), "head": (184, 8, "99999999"), "head 0": (184, 8, "0"),
    "date": (168, 8, "99.99.99"), "time": (176, 8, "\x1b[2J"), "apart": (192, 5, "EDF+D"),
    "version": (0, 8, "9"), "patient": (8, 80, "\x1b]0;x\x07 nobody"),
    "label": (256, 16, "\x1b[31mI"), "samples 0": (256 + 3 * 216, 8, "0"),
    "samples vast": (256 + 3 * 216, 8, "99999999"), "minimum": (256 + 3 * 104, 8, "5"),
    "minimum nan": (256 + 3 * 104, 8, "nan"), "digits": (256 + 3 * 120, 8, "32767"),
    "digits vast": (256 + 3 * 120, 8, "-1e99"),
}  # fmt: skip
_TABLES = {
    "line": "1," * 200_000 + "1", "columns": ("1," * 50_000 + "1\n") * 3,
    "quote": 'a,b\n"' + "x" * 3_000_000, "quotes": 'a\n' + '""""' * 500_000,
    "vast": "a\n1e400\n-1e400\n1\n", "inf": "a\ninf\ninf\n", "nan": "a\nnan\nnan\n",
    "back": "time (s),a\n3,1\n2,1\n1,1\n", "still": "time (s),a\n1,1\n1,2\n1,3\n",
    "hex": "a\n0x1F\n0b1\n1_000\n", "wide digits": "a\n１\n２\n", "arabic": "a\n١\n٢\n٣\n",
    "formula": "=cmd|'/c calc'!A1,@b\n1,2\n3,4\n", "rate": "# fs: 1e999 Hz\na\n1\n2\n",
    "rate digits": "# sampling rate " + "9" * 100_000 + "\na\n1\n2\n",
    "spaces": "a" + " " * 500_000 + "(\n1\n2\n", "brackets": "(" * 300_000 + "\n1\n2\n",
    "remarks": "#\n" * 1_000_000, "blank": "\n" * 3_000_000 + "1\n2\n", "sep": "sep=\u2028\n1\n2\n",
    "blanks": "a b\n" + (" " * 1000 + "1 2\n") * 1000, "dates": "time,a\n" + "2020-13-45T99:99:99,1\n" * 9,
    "dates vast": "time,a\n" + "999999-01-01T00:00:00,1\n" * 9, "zones": "time,a\n2020-01-01T00:00:00+99:99,1\n" * 3,
    "clocks": "time,a\n99:99:99.999999999999999,1\n99:99:99.9,2\n", "units": "time (eons),a\n1,2\n3,4\n",
    "bidi": "\u202ea\u2066,\x1b[2J\n1,2\n3,4\n", "separators": "a\u2028b\n1\n2\n", "ends": "a\r1\r2\r",
    "commas": "a,b\n" + "," * 2_000_000, "words": "a\n" + "x" * 1000 + "\n1\n", "one": "1",
    "times digits": "time (s),a\n0." + "1" * 100_000 + ",1\n0.2,2\n", "points": "a\n" + "1.1.1\n" * 9,
}  # fmt: skip


def _record(old: str, new: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        assert old in _HEA
        (folder / "a.hea").write_text(_HEA.replace(old, new, 1))
        (folder / "a.dat").write_bytes(np.arange(10, dtype="<i2").tobytes())
        return folder / "a.hea"

    return write


def _annotated(data: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = _record("", "")(folder)
        (folder / "a.atr").write_bytes(data)
        return path

    return write


def _samples(kind: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = _record("", "")(folder)
        (folder / "a.dat").unlink()
        if kind == "pipe":
            os.mkfifo(folder / "a.dat")
        elif kind == "folder":
            (folder / "a.dat").mkdir()
        else:
            (folder / "a.dat").symlink_to("/dev/zero")
        return path

    return write


def _edf(position: int, length: int, text: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        from malformed import WHOLE

        WHOLE["a.edf"](folder / "a.edf", np.random.default_rng(0))
        data = bytearray((folder / "a.edf").read_bytes())
        data[position : position + length] = text.encode().ljust(length)[:length]
        (folder / "a.edf").write_bytes(data)
        return folder / "a.edf"

    return write


def _edf_notes(text: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = _edf(8, 4, "")(folder)
        data = path.read_bytes()
        place = data.index(b"+0.5")
        path.write_bytes(data[:place] + text + data[place + len(text) :])
        return path

    return write


def _wav(
    fields: tuple[int, ...] = (1, 1, 8000, 16_000, 2, 16),
    data: bytes = bytes(64),
    before: bytes = b"",
    size: int = 16,
) -> bytes:
    head = struct.pack("<HHIIHH", *fields)
    body = (
        b"WAVE"
        + before
        + b"fmt "
        + struct.pack("<I", size)
        + head
        + b"data"
        + struct.pack("<I", len(data))
        + data
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _sound(kind: str, subtype: str | None = None) -> bytes:
    import soundfile

    out = io.BytesIO()
    soundfile.write(
        out, np.random.default_rng(0).normal(size=900) / 9, 8000, format=kind, subtype=subtype
    )
    return out.getvalue()


def _flac(change: Callable[[bytearray], None], after: bytes = b"") -> bytes:
    data = bytearray(_sound("FLAC"))
    change(data)
    return bytes(data[:42]) + after + bytes(data[42:])


def _count(data: bytearray) -> None:
    data[21:26] = b"\x0f\xff\xff\xff\xff"


def _mat_element(kind: int, data: bytes, size: int | None = None) -> bytes:
    return (
        struct.pack("<II", kind, len(data) if size is None else size) + data + bytes(-len(data) % 8)
    )


def _mat(body: bytes, order: bytes = b"IM") -> bytes:
    return b"MATLAB 5.0".ljust(124) + b"\0\1" + order + body


def _matrix(kind: int, shape: tuple[int, ...], data: bytes, flags: int = 0) -> bytes:
    dims = struct.pack(f"<{len(shape)}i", *shape)
    parts = _mat_element(6, struct.pack("<II", kind | flags, 0)) + _mat_element(5, dims)
    return _mat_element(14, parts + _mat_element(1, b"ecg") + data)


def _deep_mat(depth: int) -> bytes:
    data = _matrix(6, (1, 20), _mat_element(9, bytes(160)))
    for _ in range(depth):
        data = _matrix(1, (1, 1), data)
    return _mat(data)


def _hdf5(build: Callable[[Any, Any], None]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        import h5py

        with h5py.File(folder / "a.h5", "w") as file:
            build(h5py, file)
        return folder / "a.h5"

    return write


def _groups(_h5py: Any, file: Any) -> None:
    group = file
    for _ in range(3000):
        group = group.create_group("g")
    group["ecg"] = np.arange(90.0)


def _cycle(_h5py: Any, file: Any) -> None:
    group = file.create_group("g")
    group["again"] = file["/"]
    file["ecg"] = np.arange(90.0)


def _links(h5py: Any, file: Any) -> None:
    file["ecg"] = h5py.ExternalLink("../secret.h5", "/ecg")
    file["soft"] = h5py.SoftLink("/nowhere")
    file["fs"] = 100.0


def _external(_h5py: Any, file: Any) -> None:
    file.create_dataset("ecg", (90,), "f4", external=[("../secret.raw", 0, 360)])


def _virtual(h5py: Any, file: Any) -> None:
    layout = h5py.VirtualLayout((90,), "f4")
    layout[:] = h5py.VirtualSource("../secret.h5", "ecg", (90,))
    file.create_virtual_dataset("ecg", layout)


def _chunks(_h5py: Any, file: Any) -> None:
    file.create_dataset("ecg", (90,), "f4", chunks=(10**8,), maxshape=(None,))


def _many(_h5py: Any, file: Any) -> None:
    for number in range(5000):
        file[str(number)] = np.arange(20.0)


def _attributes(_h5py: Any, file: Any) -> None:
    file["ecg"] = np.arange(90.0)
    for number in range(3000):
        file.attrs[f"{number}\u202e\x1b[2J"] = "x" * 100


def _types(h5py: Any, file: Any) -> None:
    file["ecg"] = np.arange(90.0)
    file.create_dataset("v", (20,), h5py.vlen_dtype(np.dtype("f4")))
    file.create_dataset("s", (9000,), h5py.string_dtype())
    file["c"] = np.zeros(20, [("a", "f4"), ("b", "i4")])
    file["r"] = file["ecg"].ref
    file["e"] = np.zeros(20, h5py.enum_dtype({"a": 1}))
    file["q"] = np.zeros(20, np.longdouble)


def _parquet(build: Callable[[Any], Any], **options: Any) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(build(pyarrow), folder / "a.parquet", **options)
        return folder / "a.parquet"

    return write


def _schema(pyarrow: Any) -> Any:
    table = pyarrow.table({"a": np.arange(20.0)})
    return table.replace_schema_metadata({"pandas": "[" * 100_000, "ARROW:schema": "////" * 9})


def _footer(change: Callable[[bytes], bytes]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = _parquet(lambda pa: pa.table({"a": np.arange(20.0)}))(folder)
        path.write_bytes(change(path.read_bytes()))
        return path

    return write


_BOOK = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'


def _excel(changes: dict[str, str], extra: dict[str, str] | None = None) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        import openpyxl

        book = openpyxl.Workbook()
        for number in range(20):
            book.active.append([number / 10, number % 3])
        plain = io.BytesIO()
        book.save(plain)
        with (
            zipfile.ZipFile(plain) as source,
            zipfile.ZipFile(folder / "a.xlsx", "w", zipfile.ZIP_DEFLATED) as archive,
        ):
            for name in source.namelist():
                archive.writestr(name, changes.get(name, source.read(name)))
            for name, text in (extra or {}).items():
                archive.writestr(name, text)
        return folder / "a.xlsx"

    return write


def _sheet(rows: str, start: str = "") -> dict[str, str]:
    text = (
        f'<?xml version="1.0"?>{start}<worksheet {_BOOK}><sheetData>{rows}</sheetData></worksheet>'
    )
    return {"xl/worksheets/sheet1.xml": text}


def attacks() -> dict[str, Callable[[Path], object]]:
    """The attacks by name."""
    laughs = "".join(f'<!ENTITY l{k + 1} "{f"&l{k};" * 10}">' for k in range(9))
    row = '<row r="1"><c r="A1"><v>1</v></c><c r="B1"><v>2</v></c></row>'
    table: dict[str, Callable[[Path], object]] = {}
    table |= {f"{name}.hea": _record(*change) for name, change in _RECORDS.items()}
    table |= {f"{name}.edf": _edf(*change) for name, change in _EDF.items()}
    for name, text in _TABLES.items():
        table[f"{name}.csv"] = constant("a.csv", text.encode())
    table |= {
        "utf-16.csv": content("a.csv", lambda: b"\xff\xfea\0\n\0\0"),
        "late nul.csv": content("a.csv", lambda: b"1\n" * 40_000 + bytes(3_000_000)),
        "aux.atr": _annotated(struct.pack("<HH", 63 << 10 | 1023, 1) + b"abc"),
        "skips.atr": _annotated(struct.pack("<Hi", 59 << 10, -(2**31)) * 50_000 + struct.pack("<HH", 1 << 10 | 1, 0)),
        "codes.atr": _annotated(struct.pack("<HH", 58 << 10 | 5, 0)),
        "noise.atr": _annotated(np.random.default_rng(0).bytes(9000)),
        "escapes.atr": _annotated(struct.pack("<HH", 22 << 10 | 1, 63 << 10 | 4) + b"\x1b[2J" + bytes(2)),
        "pipe.dat": _samples("pipe"), "folder.dat": _samples("folder"), "device.dat": _samples("device"),
        "onset.edf": _edf_notes(b"+1e400\x14a\x14\0"), "onset nan.edf": _edf_notes(b"+nan\x15nan\x14a\x14\0"),
        "open.edf": _edf_notes(b"+0.5\x14\x14\x14\x14\x14\x14\x14"),
        "escape.edf": _edf_notes(b"+0.5\x14\x1b[2J\x14\0"),
    }  # fmt: skip
    files: dict[str, Callable[[], bytes]] = {
        "channels 0.wav": lambda: _wav((1, 0, 8000, 16_000, 2, 16)),
        "channels.wav": lambda: _wav((1, 65535, 8000, 16_000, 2, 16)),
        "rate 0.wav": lambda: _wav((1, 1, 0, 0, 2, 16)),
        "rate.wav": lambda: _wav((1, 1, 2**32 - 1, 2**32 - 1, 2, 16)),
        "bits 0.wav": lambda: _wav((1, 1, 8000, 16_000, 2, 0)),
        "bits 1.wav": lambda: _wav((1, 1, 8000, 16_000, 2, 1)),
        "bits.wav": lambda: _wav((1, 1, 8000, 16_000, 2, 65535)),
        "align 0.wav": lambda: _wav((1, 1, 8000, 16_000, 0, 16)),
        "format.wav": lambda: _wav((2, 1, 8000, 16_000, 2, 4)),
        "extended.wav": lambda: _wav((0xFFFE, 1, 8000, 16_000, 2, 16)),
        "nan.wav": lambda: _wav((3, 1, 8000, 32_000, 4, 32), np.full(16, np.nan, "f4").tobytes()),
        "inf.wav": lambda: _wav((3, 1, 8000, 32_000, 4, 32), np.full(16, np.inf, "f4").tobytes()),
        "fmt.wav": lambda: _wav(size=2**31),
        "first.wav": lambda: _wav(before=b"data\4\0\0\0abcd"),
        "list.wav": lambda: _wav(before=b"LIST\xff\xff\xff\xff"),
        "rf64.wav": lambda: b"RF64\xff\xff\xff\xffWAVEds64" + struct.pack("<IQQQI", 28, 2**63, 2**63, 2**63, 2**31) + _wav()[12:],
        "empty.wav": lambda: _wav(data=b""),
        "count.flac": lambda: _flac(_count),
        "blocks.flac": lambda: _flac(lambda data: None, b"\1\0\0\0" * 1_000_000),
        "comments.flac": lambda: _flac(lambda data: None, b"\4\0\0\x08" + struct.pack("<II", 0, 2**32 - 1)),
        "picture.flac": lambda: _flac(lambda data: None, b"\6\xff\xff\xff"),
        "cut.ogg": lambda: _sound("OGG")[:200], "pages.ogg": lambda: _sound("OGG") + b"OggS" * 500_000,
        "streams.ogg": lambda: _sound("OGG")[:58] * 20_000,
        "rate.aiff": lambda: _sound("AIFF").replace(b"\x40\x0b\xfa", b"\x7f\xff\xfa", 1),
        "count.aiff": lambda: _sound("AIFF").replace(struct.pack(">I", 900), b"\xff\xff\xff\xff", 1),
        "id3.mp3": lambda: b"ID3\4\0\xff\x7f\x7f\x7f\x7f" + bytes(900),
        "sync.mp3": lambda: b"\xff\xfb\x90\0" * 200_000,
        "wav.flac": lambda: _wav(), "caf.ogg": lambda: b"caff\0\1\0\0desc" + bytes(40),
        "deep.mat": lambda: _deep_mat(300), "deeper.mat": lambda: _deep_mat(20_000),
        "cells.mat": lambda: _mat(_matrix(1, (1, 10**9), b"")),
        "size -1.mat": lambda: _mat(_matrix(6, (-1, 20), _mat_element(9, bytes(160)))),
        "vast.mat": lambda: _mat(_matrix(6, (2**31 - 1, 2**31 - 1), _mat_element(9, bytes(160)))),
        "axes.mat": lambda: _mat(_matrix(6, (1,) * 60, _mat_element(9, bytes(8)))),
        "sparse.mat": lambda: _mat(_matrix(5, (90, 90), _mat_element(5, b"\xff" * 40) + _mat_element(5, b"\xff" * 364) + _mat_element(9, bytes(80)))),
        "object.mat": lambda: _mat(_matrix(3, (1, 1), _mat_element(1, b"os.system"))),
        "opaque.mat": lambda: _mat(_matrix(17, (1, 1), bytes(64))),
        "function.mat": lambda: _mat(_matrix(16, (1, 1), bytes(64))),
        "char.mat": lambda: _mat(_matrix(4, (1, 20), _mat_element(16, b"\xff" * 20))),
        "long.mat": lambda: _mat(_mat_element(14, bytes(64), 2**31)),
        "order.mat": lambda: _mat(_matrix(6, (1, 20), _mat_element(9, bytes(160))), b"MI"),
        "elements.mat": lambda: _mat(b"\1\0\0\0\0\0\0\0" * 500_000),
        "old.mat": lambda: struct.pack("<5i", 0, 2**30, 2**30, 0, 4) + b"ecg\0",
        "old name.mat": lambda: struct.pack("<5i", 0, 2, 20, 0, 2**31 - 1) + bytes(320),
        "old type.mat": lambda: struct.pack("<5i", 9999, 2, 20, 1, 4) + b"ecg\0" + bytes(900),
        "superblock.h5": lambda: b"\x89HDF\r\n\x1a\n" + b"\xff" * 200,
        "magic.parquet": lambda: b"PAR1" + b"\xff" * 60 + struct.pack("<I", 60) + b"PARE",
    }  # fmt: skip
    table |= {name: content(name, data) for name, data in files.items()}
    builds = {
        "groups": _groups, "cycle": _cycle, "links": _links, "external": _external,
        "virtual": _virtual, "chunks": _chunks, "many": _many, "attributes": _attributes,
        "types": _types,
    }  # fmt: skip
    table |= {f"{name}.h5": _hdf5(build) for name, build in builds.items()}
    tables: dict[str, Callable[[Any], Any]] = {
        "lists": lambda pa: pa.table({"a": [[1.0] * 9] * 20}),
        "structs": lambda pa: pa.table({"a": [{"b": {"c": 1.0}}] * 20}),
        "maps": lambda pa: pa.table({"a": pa.array([[("k", 1.0)]] * 20, pa.map_(pa.string(), pa.float64()))}),
        "nulls": lambda pa: pa.table({"a": pa.nulls(20)}), "none": lambda pa: pa.table({}),
        "rows 0": lambda pa: pa.table({"a": np.zeros(0)}),
        "nan": lambda pa: pa.table({"a": np.full(20, np.nan)}),
        "inf": lambda pa: pa.table({"a": np.full(20, np.inf)}),
        "bools": lambda pa: pa.table({"a": [True, False] * 10}),
        "times": lambda pa: pa.table({"t": pa.array([2**63 - 1] * 20, pa.timestamp("ns")), "a": np.arange(20.0)}),
        "durations": lambda pa: pa.table({"t": pa.array([2**62] * 20, pa.duration("s")), "a": np.arange(20.0)}),
        "names": lambda pa: pa.table([np.arange(20.0)] * 3, names=["a", "a", "\u202e\x1b[2J\n"]),
        "bytes": lambda pa: pa.table({"a": [b"\xff\0" * 99] * 20, "b": np.arange(20.0)}),
        "rows": lambda pa: pa.table({"a": np.zeros(30_000_000, np.int8)}),
        "schema": _schema,
    }  # fmt: skip
    table |= {f"{name}.parquet": _parquet(build) for name, build in tables.items()}
    table |= {
        "brotli.parquet": _parquet(lambda pa: pa.table({"a": np.zeros(5_000_000)}), compression="brotli", use_dictionary=False),
        "zstd.parquet": _parquet(lambda pa: pa.table({"a": np.zeros(5_000_000)}), compression="zstd", use_dictionary=False),
        "footer.parquet": _footer(lambda data: data[:-8] + b"\xff\xff\xff\x7fPAR1"),
        "footer -1.parquet": _footer(lambda data: data[:-8] + b"\xff\xff\xff\xffPAR1"),
        "footer zeros.parquet": _footer(lambda data: data[:-80] + bytes(72) + data[-8:]),
        "entity.xlsx": _excel(_sheet(row * 3 + "<row><c t='str'><v>&x;</v></c></row>", '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>')),
        "laughs.xlsx": _excel(_sheet(row + "<row><c t='str'><v>&l9;</v></c></row>", f'<!DOCTYPE a [<!ENTITY l0 "ha">{laughs}]>')),
        "square.xlsx": _excel(_sheet(row + "<row><c t='str'><v>" + "&x;" * 60_000 + "</v></c></row>", '<!DOCTYPE a [<!ENTITY x "' + "a" * 60_000 + '">]>')),
        "place.xlsx": _excel(_sheet('<row r="99999999999"><c r="A99999999999"><v>1</v></c></row>')),
        "place word.xlsx": _excel(_sheet('<row r="x"><c r="!!"><v>1</v></c></row>')),
        "strings.xlsx": _excel(_sheet('<row r="1"><c r="A1" t="s"><v>99999</v></c></row>')),
        "strings -1.xlsx": _excel(_sheet('<row r="1"><c r="A1" t="s"><v>-1</v></c></row>')),
        "numbers.xlsx": _excel(_sheet('<row r="1"><c r="A1"><v>1e999</v></c></row><row r="2"><c r="A2"><v>nan</v></c></row>' * 9)),
        "dates.xlsx": _excel(_sheet('<row r="1"><c r="A1" t="d"><v>9999-99-99</v></c></row>')),
        "bools.xlsx": _excel(_sheet('<row r="1"><c r="A1" t="b"><v>x</v></c></row>')),
        "style.xlsx": _excel(_sheet('<row r="1"><c r="A1" s="99999"><v>1</v></c></row>')),
        "formula.xlsx": _excel(_sheet('<row r="1"><c r="A1"><f>' + "(" * 100_000 + "</f><v>1</v></c></row>")),
        "depth.xlsx": _excel(_sheet("<a>" * 100_000)),
        "bytes.xlsx": _excel({"xl/worksheets/sheet1.xml": "\x00\x01 no xml"}),
        "book.xlsx": _excel({"xl/workbook.xml": "<workbook/>"}),
        "relations.xlsx": _excel({"xl/_rels/workbook.xml.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet" Target="/../../secret.txt"/></Relationships>'}),
        "up.xlsx": _excel({}, {"../../pwned.txt": "x"}),
        "twice.xlsx": _excel({}, {"xl/media/a": "a" * 1000, "xl/media/b": "b"}),
        "types.xlsx": _excel({"[Content_Types].xml": "<Types/>"}),
        "styles.xlsx": _excel({"xl/styles.xml": f"<styleSheet {_BOOK}><fonts count='4294967295'>" + "<font/>" * 60_000 + "</fonts></styleSheet>"}),
    }  # fmt: skip
    return table
