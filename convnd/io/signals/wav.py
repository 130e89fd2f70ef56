"""Audio: ``.wav``, PCM of 8 to 32 bits and floating point, any number of channels.

Values are relative to full scale, ``[-1, 1]``; PCM clips results outside. A result has the sample
format of its input.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd.errors import InputFileError
from convnd.io.provenance import parse_provenance
from convnd.io.reading import translate_errors
from convnd.io.registry import SIGNAL_METADATA, Format
from convnd.io.signals.limits import check_samples
from convnd.io.signals.signal import Signal, check_no_gaps, check_rate, signal_grid, signal_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convnd.grid import Grid

__all__ = ["CHANNEL_NAMES", "FORMATS", "read_wav"]

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_MOST_CHUNKS = 10_000
CHANNEL_NAMES = {1: ("mono",), 2: ("left", "right")}


def read_wav(path: Path, *, max_pixels: int | None = None) -> Grid:
    """Read a WAV file.

    Args:
        path: an existing file.
        max_pixels: largest number of samples over all channels.

    Returns:
        Values ``(1, C, T)`` in ``[-1, 1]``; spacing in seconds.

    Raises:
        InputFileError: damaged, cut short, compressed, or too large.
    """
    with translate_errors(path, "a WAV file"):
        chunks = _chunks(path)
        if b"fmt " not in chunks or b"data" not in chunks:
            raise InputFileError(
                f"read {path}",
                expected="a format and samples",
                got="neither or one",
                remedy="save it again",
            )
        kind, channels, rate, _, block, bits = struct.unpack("<HHIIHH", chunks[b"fmt "][:16])
        if kind == _EXTENSIBLE:
            (kind,) = struct.unpack("<H", chunks[b"fmt "][24:26])
        if (kind, bits) not in {*((_PCM, b) for b in (8, 16, 24, 32)), (_FLOAT, 32), (_FLOAT, 64)}:
            raise InputFileError(
                f"read {path}",
                expected="PCM of 8 to 32 bits or floats",
                got=f"format {kind} of {bits} bits",
                remedy="convert it",
            )
        data = chunks[b"data"]
        if channels < 1 or block != channels * bits // 8 or len(data) % block:
            raise InputFileError(
                f"read {path}",
                expected=f"whole blocks of {channels} channels",
                got=f"{len(data)} bytes",
                remedy="the file is damaged",
            )
        check_samples(path, len(data) // (bits // 8), max_pixels)
        samples = _decode(data, kind, bits).reshape(-1, channels).T
        names = CHANNEL_NAMES.get(channels, tuple(str(index) for index in range(channels)))
        signal = Signal(extra={"kind": kind, "bits": bits}, format="WAV")
        return signal_grid(path, samples, float(rate), names, signal)


def _chunks(path: Path, names: Collection[bytes] = (b"fmt ", b"data")) -> dict[bytes, bytes]:
    """Read the chunks of these names; of several with one name, the last."""
    chunks: dict[bytes, bytes] = {}
    length, position = path.stat().st_size, 12
    with path.open("rb") as file:
        start = file.read(12)
        if start[:4] != b"RIFF" or start[8:] != b"WAVE":
            raise InputFileError(
                f"read {path}",
                expected="a RIFF WAVE file",
                got="other content",
                remedy="check the file",
            )
        for _ in range(_MOST_CHUNKS):
            if position + 8 > length:
                return chunks
            file.seek(position)
            name, size = struct.unpack("<4sI", file.read(8))
            if position + 8 + size > length:
                raise InputFileError(
                    f"read {path}",
                    expected=f"{size} bytes in a chunk",
                    got=length - position - 8,
                    remedy="the file is cut short",
                )
            if name in names:
                chunks[name] = file.read(size)
            position += 8 + size + size % 2
    raise InputFileError(
        f"read {path}",
        expected=f"at most {_MOST_CHUNKS:,} chunks",
        got="more",
        remedy="the file is damaged",
    )


def _decode(data: bytes, kind: int, bits: int) -> NDArray[Any]:
    import numpy as np

    if kind == _FLOAT:
        return np.frombuffer(data, f"<f{bits // 8}")
    if bits == 8:
        return (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / 128
    if bits == 24:
        triples = np.frombuffer(data, np.uint8).reshape(-1, 3)
        wide = np.zeros((len(triples), 4), np.uint8)
        wide[:, 1:] = triples  # in the upper bytes, so that the sign is right
        return wide.view("<i4")[:, 0] / 2.0**31
    return np.frombuffer(data, f"<i{bits // 8}") / 2.0 ** (bits - 1)


def _write_wav(path: Path, grid: Grid, *, provenance: Mapping[str, str], **_: object) -> None:

    signal = signal_of(grid)
    extra = signal.extra if signal.format == "WAV" else {}
    kind, bits = int(extra.get("kind", _FLOAT)), int(extra.get("bits", 32))
    values = grid.values[0].detach().cpu().double().numpy().T  # (T, C)
    check_no_gaps(values, "WAV")
    data = _encode(values, kind, bits)
    channels, width = values.shape[1], bits // 8
    rate = round(check_rate(grid, "WAV", whole=True))
    header = struct.pack(
        "<HHIIHH", kind, channels, rate, rate * channels * width, channels * width, bits
    )
    comment = json.dumps(dict(provenance)).encode("ascii") if provenance else b""
    chunks = [(b"fmt ", header)]
    if kind == _FLOAT:
        chunks.append((b"fact", struct.pack("<I", len(values))))
    if comment:
        comment += b"\0"
        padded = comment + b"\0" * (len(comment) % 2)
        chunks.append((b"LIST", b"INFOICMT" + struct.pack("<I", len(comment)) + padded))
    chunks.append((b"data", data))
    body = b"WAVE" + b"".join(
        name + struct.pack("<I", len(part)) + part + b"\0" * (len(part) % 2)
        for name, part in chunks
    )
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)


def _encode(values: NDArray[Any], kind: int, bits: int) -> bytes:
    import numpy as np

    if kind == _FLOAT:
        return values.astype(f"<f{bits // 8}").tobytes()
    top = 2.0 ** (bits - 1)
    codes = np.clip(np.rint(values * top), -top, top - 1).astype(np.int64)
    if bits == 8:
        return (codes + 128).astype(np.uint8).tobytes()
    if bits == 24:
        return (codes << 8).astype("<i4").reshape(-1, 1).view(np.uint8)[:, 1:].tobytes()
    return codes.astype(f"<i{bits // 8}").tobytes()


def _read_provenance(path: Path) -> dict[str, str]:
    info = _chunks(path, (b"LIST",)).get(b"LIST", b"")
    if info[:8] != b"INFOICMT":
        return {}
    return parse_provenance(info[12 : 12 + struct.unpack("<I", info[8:12])[0]].rstrip(b"\0"))


FORMATS = (
    Format(
        name="WAV",
        suffixes=(".wav",),
        spatial_dims=1,
        read=read_wav,
        write=_write_wav,
        unsupported_metadata=SIGNAL_METADATA,
        read_provenance=_read_provenance,
    ),
)
