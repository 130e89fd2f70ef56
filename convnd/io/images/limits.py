"""Limits of pictures, which are checked before they are decoded."""

from __future__ import annotations

from pathlib import Path

from convnd.io.reading import check_limit

__all__ = ["PACKED", "TIFF_PACKED", "check_held", "check_scans"]


# Bytes that one byte of a file can decode to. Deflate packs at most 1032 into one; LZW, whose codes
# grow to 12 bits, about 1300. A block of 64 pixels takes at least a bit in a JPEG; runs have at
# most 255 pixels in BMP and 128 in TIFF.
PACKED = {"PNG": 1100, "JPEG": 1100, "MPO": 1100, "GIF": 1500, "BMP": 130}
TIFF_PACKED = {1: 1, 5: 1500, 7: 1100, 8: 1100, 32773: 130, 32946: 1100}  # by kind of compression

# WebP, AVIF, and CCITT, LZMA, Zstandard and WebP in TIFF have no limit, but photographs take more
# than a fiftieth of a bit for a pixel.
_PACKED_FREELY = 400

_FREE = 2**26  # pixels that any file in such a format may have: plain areas take next to nothing

# Bytes for a pixel while it is decoded, of 8 bits and of more: buffers of the decoder, the picture,
# and copies in other orders and modes.
_BYTES_PER_PIXEL, _BYTES_PER_DEEP_PIXEL = 48, 160

# Each scan of a progressive JPEG touches all pixels; encoders write about ten.
_SCANS, _SCANNED_PIXELS = 20, 2**32

_BLOCK = 2**20


def check_scans(path: Path, pixels: int) -> None:
    """Refuse a JPEG with so many scans that decoding it would take minutes."""
    scans, last = 0, b""
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            # Within a scan, a zero follows each byte 0xFF.
            scans += (last + block).count(b"\xff\xda")
            last = block[-1:]
    limit = max(_SCANS, _SCANNED_PIXELS // pixels)
    check_limit(path, scans, limit, "scans for a JPEG of this size", "save it again")


def check_held(path: Path, pixels: int, depth: int, ratio: int | None) -> int:
    """Refuse more pixels than a file of this length can hold, before anything is decoded.

    Args:
        path: the file.
        pixels: number of pixels that its header declares.
        depth: bits of one channel of a pixel.
        ratio: bytes that a byte can decode to; None if the format has no limit.

    Returns:
        The number of bytes that decoding may take.
    """
    length = path.stat().st_size
    if ratio is None:
        size, limit = pixels * max(1, depth // 8), max(_FREE, _PACKED_FREELY * length)
    else:
        size, limit = pixels * depth // 8, ratio * length
    what = "bytes of pixels in a file of its length"
    check_limit(path, size, limit, what, "the file is cut short or damaged")
    return pixels * (_BYTES_PER_PIXEL if depth <= 8 else _BYTES_PER_DEEP_PIXEL)
