"""Limits of recordings, which are checked before they are decoded."""

from __future__ import annotations

from pathlib import Path

from convnd.io.reading import LIMIT_HINT, check_limit, size_limit

__all__ = ["FREE_SAMPLES", "MAX_SAMPLES", "check_held", "check_samples", "sample_limit"]

FREE_SAMPLES = 2**24
"""Samples that any recording may have, whatever its length: a day of one flat signal."""


MAX_SAMPLES = 2**30  # over all channels: 4 GiB as float32


def sample_limit(max_samples: int | None) -> int:
    """Return the largest number of samples of a recording; None asks for the default."""
    return size_limit(max_samples, MAX_SAMPLES)


def check_samples(path: Path, count: int, max_samples: int | None) -> None:
    """Refuse a recording because of its size.

    Args:
        path: the file, for messages.
        count: number of samples over all channels.
        max_samples: the largest number; None for the default, see `convnd.io.reading.size_limit`.

    Raises:
        InputFileError: there are more samples.
    """
    check_limit(path, count, sample_limit(max_samples), "samples", f"split it, or {LIMIT_HINT}")


def check_held(
    path: Path, count: int, length: int, *, free: int = FREE_SAMPLES, per_byte: int = 16
) -> None:
    """Refuse more samples than a file of this length is likely to hold.

    Gaps, flat signals and repeated values take no room in many formats, so some are allowed.

    Args:
        path: the file, for messages.
        count: number of samples over all channels.
        length: length of the file, or of all files of the recording, in bytes.
        free: number of samples that any file may have.
        per_byte: number of further samples for each byte.

    Raises:
        InputFileError: there are more samples.
    """
    remedy = "the file is damaged, or save it without compression"
    what = "samples for the length of its files"
    check_limit(path, count, free + per_byte * length, what, remedy)
