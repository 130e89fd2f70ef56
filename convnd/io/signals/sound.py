"""Sound other than WAV: FLAC, Ogg Vorbis and Opus, MP3 and AIFF, by libsndfile.

Values are relative to full scale, ``[-1, 1]``. FLAC, Ogg Vorbis and AIFF are written in the sample
format of their input; the rest is read only.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd.errors import InputFileError
from convnd.io.provenance import parse_provenance
from convnd.io.reading import import_optional, translate_errors
from convnd.io.registry import SIGNAL_METADATA, Format
from convnd.io.signals.limits import check_held, check_samples
from convnd.io.signals.request import Content, Expect, request_arrays
from convnd.io.signals.signal import Signal, check_no_gaps, check_rate, signal_grid, signal_of
from convnd.io.signals.wav import CHANNEL_NAMES

if TYPE_CHECKING:
    from convnd.grid import Grid

__all__ = ["FORMATS", "decode_provenance", "decode_sound", "read_sound"]

_FREE, _SAMPLES_PER_BYTE = 2**22, 128  # of speech in Opus; silence in FLAC takes thousands
_SUBTYPES = {"FLAC": "PCM_24", "OGG": "VORBIS", "AIFF": "PCM_24"}
_KINDS = {".flac": "FLAC", ".ogg": "OGG", ".oga": "OGG", ".aif": "AIFF", ".aiff": "AIFF"}
_TAGS = ("title", "artist", "album", "date", "copyright", "license")


def read_sound(path: Path, *, max_pixels: int | None = None) -> Grid:
    """Read a sound file.

    Args:
        path: an existing file.
        max_pixels: largest number of samples over all channels.

    Returns:
        Values ``(1, C, T)`` in ``[-1, 1]``; spacing in seconds.

    Raises:
        InputFileError: damaged, or too large.
        DependencyError: soundfile is missing.
    """
    arrays, fields = request_arrays(path, "sound", "a sound file", max_pixels)
    samples = arrays.get("samples")
    if samples is None:
        raise InputFileError(f"read {path}", expected="samples", got="none", remedy="check it")
    with translate_errors(path, "a sound file"):
        count = len(samples)
        names = CHANNEL_NAMES.get(count, tuple(str(k) for k in range(count)))
        extra = {"format": fields["format"], "subtype": fields["subtype"], "tags": fields["tags"]}
        signal = Signal(extra=extra, format="sound")
        return signal_grid(path, samples, float(fields["rate"]), names, signal)


def decode_sound(path: Path, max_samples: int, expect_samples: Expect) -> Content:
    """Decode a sound file, in a child process.

    Yields:
        ``samples``, ``(C, T)``; then rate, format, subtype and tags.
    """
    soundfile = import_optional("soundfile", f"read {path}", "sound")
    with (
        translate_errors(path, "a sound file"),
        path.open("rb") as raw,
        soundfile.SoundFile(raw) as file,
    ):
        count = file.frames * file.channels
        check_samples(path, count, max_samples)
        check_held(path, count, path.stat().st_size, free=_FREE, per_byte=_SAMPLES_PER_BYTE)
        expect_samples(count)
        yield "samples", file.read(dtype="float64", always_2d=True).T, {}
        fields = {
            "rate": file.samplerate,
            "format": file.format,
            "subtype": file.subtype,
            "tags": {tag: text for tag in _TAGS if (text := getattr(file, tag))},
        }
        yield "", None, fields


def decode_provenance(path: Path, _max_samples: int, _expect: Expect) -> Content:
    """Read the comment of a sound file, in a child process."""
    soundfile = import_optional("soundfile", f"read {path}", "sound")
    with soundfile.SoundFile(str(path)) as file:
        yield "", None, {"comment": file.comment or ""}


def _write_sound(path: Path, grid: Grid, *, provenance: Mapping[str, str], **_: object) -> None:
    soundfile = import_optional("soundfile", f"write {path.name}", "sound")
    signal = signal_of(grid)
    extra: Mapping[str, Any] = signal.extra if signal.format == "sound" else {}
    kind = _KINDS[path.suffix.lower()]
    same_format = extra.get("format") == kind and soundfile.check_format(kind, extra["subtype"])
    values = grid.values[0].detach().cpu().double().numpy().T  # (T, C)
    check_no_gaps(values, kind)
    rate = round(check_rate(grid, kind, whole=True))
    # In memory, because libsndfile does not tell of a disk that is full.
    encoded = io.BytesIO()
    with soundfile.SoundFile(
        encoded,
        "w",
        samplerate=rate,
        channels=values.shape[1],
        format=kind,
        subtype=extra["subtype"] if same_format else _SUBTYPES[kind],
    ) as file:
        for tag, text in extra.get("tags", {}).items():
            setattr(file, tag, text)
        if provenance:
            file.comment = json.dumps(dict(provenance))
        file.write(values.clip(-1, 1))
    path.write_bytes(encoded.getbuffer())


def _read_provenance(path: Path) -> Mapping[str, str]:
    _, fields = request_arrays(path, "sound provenance", "a sound file", None)
    return parse_provenance(str(fields["comment"]))


FORMATS = (
    *(
        Format(
            name=name,
            suffixes=suffixes,
            spatial_dims=1,
            read=read_sound,
            write=_write_sound,
            unsupported_metadata=SIGNAL_METADATA,
            read_provenance=_read_provenance,
        )
        for name, suffixes in (
            ("FLAC", (".flac",)),
            ("Ogg", (".ogg", ".oga")),
            ("AIFF", (".aif", ".aiff")),
        )
    ),
    Format(
        name="MP3 and Opus", suffixes=(".mp3", ".opus"), spatial_dims=1, read=read_sound, write=None
    ),
)
