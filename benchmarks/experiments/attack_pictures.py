"""Forged pictures, for `benchmarks.experiments.attacks`."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

__all__ = ["attacks", "constant", "content"]


def content(name: str, data: Callable[[], bytes]) -> Callable[[Path], Path]:
    """An attack with one file, whose bytes ``data`` makes."""

    def write(folder: Path) -> Path:
        (folder / name).write_bytes(data())
        return folder / name

    return write


def constant(name: str, data: bytes) -> Callable[[Path], Path]:
    """An attack with one file of these bytes."""
    return content(name, lambda: data)


def _saved(kind: str, size: tuple[int, int] = (16, 16), **options: object) -> bytes:
    out = io.BytesIO()
    codes = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(codes).save(out, kind, **options)
    return out.getvalue()


def _jpeg(*segments: bytes) -> bytes:
    whole = _saved("JPEG")
    return whole[:2] + b"".join(segments) + whole[2:]


def _segment(marker: int, data: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(data) + 2) + data


def _ifd(entries: list[tuple[int, int, int, int]], following: int = 0) -> bytes:
    body = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    return struct.pack("<H", len(entries)) + body + struct.pack("<I", following)


def _exif(entries: list[tuple[int, int, int, int]], following: int = 0) -> bytes:
    return b"Exif\0\0II*\0\x08\0\0\0" + _ifd(entries, following)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(*chunks: bytes, head: tuple[int, ...] | None = None) -> bytes:
    whole = _saved("PNG")
    start = whole[:33]
    if head is not None:
        start = whole[:8] + _chunk(b"IHDR", struct.pack(">IIBBBBB", *head))
    return start + b"".join(chunks) + whole[33:]


def _tiff(entries: dict[int, tuple[int, int, int]], data: bytes = b"", loop: int = 0) -> bytes:
    table = {
        256: (4, 1, 16), 257: (4, 1, 16), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1),
        273: (4, 1, 8), 277: (3, 1, 1), 278: (4, 1, 16), 279: (4, 1, 256),
    }  # fmt: skip
    table |= entries
    rows = [(tag, *entry) for tag, entry in table.items()]
    place = 8 + 256 + len(data)
    return b"II*\0" + struct.pack("<I", place) + bytes(256) + data + _ifd(rows, loop)


def _bmp(head: bytes, body: bytes = bytes(1024)) -> bytes:
    return b"BM" + struct.pack("<IHHI", 54 + len(body), 0, 0, 54) + head + body


def _bmp_head(width: int, height: int, bits: int, kind: int = 0, colors: int = 0) -> bytes:
    return struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, kind, 0, 0, 0, colors, 0)


def _box(kind: bytes, data: bytes, size: int | None = None) -> bytes:
    return struct.pack(">I", len(data) + 8 if size is None else size) + kind + data


def _deep_boxes(kind: bytes, brand: bytes) -> bytes:
    data = b""
    for _ in range(4000):
        data = _box(kind, data)
    return _box(b"ftyp", brand + bytes(4) + b"mif1") + data


def _swap(data: bytes, old: bytes, new: bytes) -> bytes:
    assert old in data
    return data.replace(old, new, 1)


def _gif(*blocks: bytes, screen: tuple[int, int] = (4, 4)) -> bytes:
    return b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80, 0, 0) + bytes(6) + b"".join(blocks)


def _gif_image(
    width: int, height: int, x: int = 0, bits: int = 2, data: bytes = b"\2\4\1\0"
) -> bytes:
    head = b"," + struct.pack("<HHHHB", x, 0, width, height, 0) + bytes([bits])
    return head + data + b"\0;"


def attacks() -> dict[str, Callable[[Path], object]]:
    """The attacks by name."""
    files: dict[str, Callable[[], bytes]] = {
        "fill.jpg": lambda: _jpeg(b"\xff" * 30_000_000),
        "fill runs.jpg": lambda: _jpeg((b"\xff" * 60_000 + b"\xfe\0\2") * 300),
        "segments.jpg": lambda: _jpeg(_segment(0xFE, b"") * 3_000_000),
        "apps.jpg": lambda: _jpeg(_segment(0xED, b"Photoshop 3.0\x008BIM" + bytes(60)) * 100_000),
        "adobe.jpg": lambda: _jpeg(_segment(0xEE, b"Adobe" + b"\xff" * 7)),
        "icc parts.jpg": lambda: _jpeg(*[_segment(0xE2, b"ICC_PROFILE\0\1\xff" + bytes(65_000))] * 255),
        "icc zero.jpg": lambda: _jpeg(_segment(0xE2, b"ICC_PROFILE\0\0\0")),
        "exif loop.jpg": lambda: _jpeg(_segment(0xE1, _exif([(0x8769, 4, 1, 8)], 8))),
        "exif gps loop.jpg": lambda: _jpeg(_segment(0xE1, _exif([(0x8825, 4, 1, 8)]))),
        "exif far.jpg": lambda: _jpeg(_segment(0xE1, _exif([(271, 2, 2**31, 2**31)]))),
        "exif rational.jpg": lambda: _jpeg(_segment(0xE1, _exif([(282, 5, 1, 0)]))),
        "exif turn.jpg": lambda: _jpeg(_segment(0xE1, _exif([(274, 3, 1, 65535)]))),
        "exif empty.jpg": lambda: _jpeg(_segment(0xE1, b"Exif\0\0")),
        "mpf.jpg": lambda: _jpeg(_segment(0xE2, b"MPF\0II*\0\x08\0\0\0" + _ifd([(0xB001, 4, 1, 2**31), (0xB002, 7, 2**31, 8)]))),
        "xmp.jpg": lambda: _jpeg(_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><a>&b;</a>")),
        "arithmetic.jpg": lambda: _swap(_saved("JPEG"), b"\xff\xc0", b"\xff\xc9"),
        "lossless.jpg": lambda: _swap(_saved("JPEG"), b"\xff\xc0", b"\xff\xc3"),
        "twelve.jpg": lambda: _swap(_saved("JPEG"), b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"),
        "tall.jpg": lambda: _swap(_saved("JPEG"), b"\x08\0\x10\0\x10", b"\x08\xff\xff\xff\xff"),
        "no height.jpg": lambda: _swap(_saved("JPEG"), b"\x08\0\x10\0\x10", b"\x08\0\0\0\x10"),
        "scans.jpg": lambda: _saved("JPEG", (256, 256), progressive=True)[:-2] + b"\xff\xda\0\x08\1\1\0\1\x3f\0" * 400_000,
        "restarts.jpg": lambda: _saved("JPEG", (256, 256))[:-2] + b"\xff\xd0" * 5_000_000,
        "chunks.png": lambda: _png(_chunk(b"abCd", b"") * 1_500_000),
        "data chunks.png": lambda: _png(_chunk(b"IDAT", b"") * 1_500_000),
        "profile.png": lambda: _png(_chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(60_000_000), 9))),
        "exif.png": lambda: _png(_chunk(b"eXIf", _exif([(0x8769, 4, 1, 8)], 8)[6:])),
        "frames.png": lambda: _png(_chunk(b"acTL", struct.pack(">II", 2**31, 0))),
        "gamma.png": lambda: _png(_chunk(b"gAMA", bytes(4))),
        "white.png": lambda: _png(_chunk(b"cHRM", bytes(32))),
        "white far.png": lambda: _png(_chunk(b"cHRM", b"\xff" * 32)),
        "cicp.png": lambda: _png(_chunk(b"cICP", b"\xff\xff\xff\xff")),
        "density.png": lambda: _png(_chunk(b"pHYs", b"\xff\xff\xff\xff\0\0\0\0\1")),
        "palette.png": lambda: _png(_chunk(b"PLTE", bytes(3 * 300))),
        "transparent.png": lambda: _png(_chunk(b"tRNS", bytes(70_000))),
        "no palette.png": lambda: _png(head=(16, 16, 8, 3, 0, 0, 0)),
        "interlaced.png": lambda: _png(head=(16, 16, 16, 6, 0, 0, 1)),
        "negative.png": lambda: _png(head=(2**31 + 1, 16, 8, 2, 0, 0, 0)),
        "thin.png": lambda: _png(head=(2**31 - 1, 1, 1, 0, 0, 0, 0)),
        "depth.png": lambda: _png(head=(16, 16, 3, 2, 0, 0, 0)),
        "method.png": lambda: _png(head=(16, 16, 8, 2, 1, 1, 9)),
        "texts.png": lambda: _png(_chunk(b"tEXt", b"convnd:command\0[") * 200_000),
        "bidi text.png": lambda: _png(_chunk(b"iTXt", "a\0\0\0\0\0\u202egpj\x1b[31m".encode())),
        "comments.gif": lambda: _gif(b"!\xfe\1a\0" * 500_000, _gif_image(4, 4)),
        "long comment.gif": lambda: _gif(b"!\xfe" + b"\xffa" * 1 + bytes([65] * 254) + b"\0", _gif_image(4, 4)),
        "no colors.gif": lambda: b"GIF89a" + struct.pack("<HHBBB", 4, 4, 0, 0, 0) + _gif_image(4, 4),
        "codes.gif": lambda: _gif(_gif_image(4, 4, bits=13)),
        "codes 0.gif": lambda: _gif(_gif_image(4, 4, bits=0)),
        "outside.gif": lambda: _gif(_gif_image(4, 4, x=65535)),
        "vast.gif": lambda: _gif(_gif_image(65535, 65535), screen=(65535, 65535)),
        "zero.gif": lambda: _gif(_gif_image(0, 0), screen=(0, 0)),
        "endless.gif": lambda: _gif(b"," + struct.pack("<HHHHB", 0, 0, 4, 4, 0) + b"\2" + b"\1\4" * 3_000_000),
        "up.bmp": lambda: _bmp(_bmp_head(4, -4, 24)),
        "most up.bmp": lambda: _bmp(_bmp_head(4, -(2**31), 24)),
        "narrow.bmp": lambda: _bmp(_bmp_head(-4, 4, 24)),
        "bits.bmp": lambda: _bmp(_bmp_head(4, 4, 7)),
        "colors.bmp": lambda: _bmp(_bmp_head(4, 4, 8, colors=2**31)),
        "runs.bmp": lambda: _bmp(_bmp_head(4, 4, 8, 1), b"\0\2\xff\xff" * 200),
        "long runs.bmp": lambda: _bmp(_bmp_head(4000, 4000, 8, 1), b"\0\0" * 100_000),
        "png.bmp": lambda: _bmp(_bmp_head(4, 4, 0, 5), _saved("PNG")),
        "head.bmp": lambda: _bmp(struct.pack("<I", 2**31)),
        "loop.tif": lambda: _tiff({}, loop=264),
        "pages.tif": lambda: _tiff({}) + b"".join(_ifd([], 0) for _ in range(9)),
        "count.tif": lambda: _tiff({273: (4, 2**31, 8), 279: (4, 2**31, 8)}),
        "strips.tif": lambda: _tiff({273: (4, 60_000, 8), 279: (4, 60_000, 8), 278: (4, 1, 1)}),
        "samples.tif": lambda: _tiff({277: (3, 1, 65535)}),
        "planes.tif": lambda: _tiff({277: (3, 1, 3), 284: (3, 1, 2)}),
        "predictor.tif": lambda: _tiff({317: (3, 1, 3)}),
        "tiles.tif": lambda: _tiff({322: (4, 1, 2**31 - 16), 323: (4, 1, 2**31 - 16), 324: (4, 1, 8), 325: (4, 1, 256)}),
        "no tiles.tif": lambda: _tiff({322: (4, 1, 0), 323: (4, 1, 0), 324: (4, 1, 8)}),
        "sub.tif": lambda: _tiff({330: (4, 1, 264), 34665: (4, 1, 264)}),
        "icc.tif": lambda: _tiff({34675: (7, 2**31, 8)}),
        "turn.tif": lambda: _tiff({274: (3, 1, 77)}),
        "no rows.tif": lambda: _tiff({278: (4, 1, 0)}),
        "nan.tif": lambda: _tiff({258: (3, 1, 32), 339: (3, 1, 3), 273: (4, 1, 264), 279: (4, 1, 1024)}, np.full(256, np.nan, "f4").tobytes()),
        "inf.tif": lambda: _tiff({258: (3, 1, 32), 339: (3, 1, 3), 273: (4, 1, 264), 279: (4, 1, 1024)}, np.full(256, np.inf, "f4").tobytes()),
        "double.tif": lambda: _tiff({258: (3, 1, 64), 339: (3, 1, 3), 273: (4, 1, 264), 279: (4, 1, 2048)}, np.full(256, 1e300, "f8").tobytes()),
        "complex.tif": lambda: _tiff({258: (3, 1, 64), 339: (3, 1, 6), 273: (4, 1, 264), 279: (4, 1, 2048)}, bytes(2048)),
        "big.tif": lambda: b"II+\0\x08\0\0\0" + struct.pack("<Q", 2**63),
        "big loop.tif": lambda: b"II+\0\x08\0\0\0" + struct.pack("<QQQ", 16, 0, 16),
        "deflate.tif": lambda: _tiff({256: (4, 1, 4000), 257: (4, 1, 4000), 259: (3, 1, 8), 273: (4, 1, 264), 279: (4, 1, 60_000), 278: (4, 1, 4000)}, zlib.compress(bytes(60_000_000), 9)),
        "old jpeg.tif": lambda: _tiff({259: (3, 1, 6), 513: (4, 1, 8), 514: (4, 1, 2**31)}),
        "palette.tif": lambda: _tiff({262: (3, 1, 3), 320: (3, 3, 8)}),
        "riff.webp": lambda: b"RIFF\xff\xff\xff\xff" + _saved("WEBP")[8:],
        "canvas.webp": lambda: b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + b"\xff\xff\xff" * 2,
        "zero.webp": lambda: b"RIFF\4\0\0\0WEBP",
        "chunks.webp": lambda: b"RIFF" + struct.pack("<I", 8_000_030) + b"WEBPVP8X" + struct.pack("<I", 10) + bytes(10) + b"abcd\0\0\0\0" * 1_000_000 + _saved("WEBP")[12:],
        "exif.webp": lambda: _saved("WEBP", exif=_exif([(0x8769, 4, 1, 8)], 8)),
        "icc.webp": lambda: _saved("WEBP", icc_profile=b"\xff" * 200),
        "boxes.avif": lambda: _deep_boxes(b"meta", b"avif"),
        "brands.avif": lambda: _box(b"ftyp", b"avif" + bytes(4) + b"avif" * 1_000_000),
        "endless.avif": lambda: _box(b"ftyp", b"avif" + bytes(4) + b"mif1") + _box(b"meta", bytes(90), 0),
        "long.avif": lambda: _box(b"ftyp", b"avif" + bytes(4) + b"mif1") + struct.pack(">I4sQ", 1, b"mdat", 2**63) + bytes(90),
        "size.avif": lambda: _swap(_saved("AVIF"), struct.pack(">II", 16, 16), struct.pack(">II", 65_000, 65_000)),
        "small.avif": lambda: _swap(_saved("AVIF"), struct.pack(">II", 16, 16), struct.pack(">II", 1, 1)),
        "none.avif": lambda: _swap(_saved("AVIF"), struct.pack(">II", 16, 16), bytes(8)),
        "places.avif": lambda: _swap(_saved("AVIF"), b"iloc", b"ilob"),
        "properties.avif": lambda: _swap(_saved("AVIF"), b"ipma", b"ipmb"),
        "boxes.heic": lambda: _deep_boxes(b"meta", b"heic"),
        "short.heic": lambda: _box(b"ftyp", b"heic"),
        "ftyp.heic": lambda: _box(b"ftyp", b"heic" + bytes(4) + b"mif1heic") + _box(b"meta", bytes(4) + _box(b"hdlr", bytes(24))),
        "codestream.jp2": lambda: _saved("JPEG2000"),
        "jp2.png": lambda: _saved("JPEG2000"),
        "svg.png": lambda: b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        "pcx.png": lambda: b"\x0a\5\1\x08" + bytes(200),
        "fli.png": lambda: struct.pack("<IHHHH", 200, 0xAF12, 2, 60_000, 60_000) + bytes(200),
    }  # fmt: skip
    return {name: content(name, data) for name, data in files.items()}
