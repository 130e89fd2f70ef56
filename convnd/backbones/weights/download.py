"""A file from an address, with its sha256; a transfer that broke off is gone on with."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from convnd.backbones.weights.store import (
    Progress,
    check_hash,
    check_space,
    disk_errors,
    silent,
)
from convnd.errors import ConvndError, InputFileError, UsageError
from convnd.io.atomic import error_text

__all__ = ["download"]

_TIMEOUT = 30.0  # seconds without a byte
_TRIES = 4
_PAUSE = 1.0  # seconds before the second try; twice as many before the third, and so on
_BLOCK = 1 << 18
_SLOWEST = 1024  # bytes a second, over `_TIMEOUT` seconds; less is a server that hangs

_PASSING = (408, 425, 429)
"""HTTP codes below 500 that another try may overcome."""


class _BrokenError(Exception):
    """The transfer broke off; what has arrived is good."""


def download(url: str, path: Path, sha256: str, *, progress: Progress = silent) -> None:
    """Fetch a file and verify it.

    What has arrived when the connection breaks, or a signal comes, stays beside ``path`` as
    ``NAME.part``, and the next call goes on there. Nothing else stays behind. Two processes must
    not ask for the same ``path``; see `convnd.backbones.weights.store.claim`.

    Args:
        url: address, http or https; proxies as the environment says.
        path: target; exists afterwards only if the hash is right.
        sha256: hexadecimal, all of it or its first digits.
        progress: is told how far it is.

    Raises:
        UsageError: no address of that kind.
        InputFileError: the address cannot be read, or the hash differs.
        OutputFileError: the disk is full, or does not take it.
    """
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise UsageError(
            "download", expected="an address http(s)://HOST/…", got=repr(url), remedy="correct it"
        )
    part = path.with_name(path.name + ".part")
    while True:
        resumed = _receive(url, part, progress)
        try:
            check_hash(part, sha256)
        except InputFileError:
            part.unlink(missing_ok=True)
            if not resumed:
                raise
            # The beginning may be of another version than the end: once more, from the start.
            continue
        with disk_errors(path.parent):
            part.replace(path)
        return


def _receive(url: str, part: Path, progress: Progress) -> bool:
    """Fill ``part``; True if any of it comes from an earlier run."""
    resumed = _size(part) > 0
    for turn in range(1, _TRIES + 1):
        try:
            _transfer(url, part, progress)
        except _BrokenError as error:
            if turn == _TRIES:
                raise _unreadable(url, f"{error}, {_TRIES} times") from error
            time.sleep(_PAUSE * turn)
        except ConvndError:  # a refusal, or a full disk, which is not left full
            part.unlink(missing_ok=True)
            raise
        else:
            break
    return resumed


def _transfer(url: str, part: Path, progress: Progress) -> None:
    have = _size(part)
    # Compressed on the way, it would have another length than it says.
    headers = {"User-Agent": "convnd", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        response = urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=_TIMEOUT
        )
    except urllib.error.HTTPError as error:
        error.close()
        got = f"HTTP {error.code} ({error.reason})"
        if have and error.code == 416:  # there is no more, so what is there was not its beginning
            part.unlink(missing_ok=True)
            raise _BrokenError(got) from error
        if error.code >= 500 or error.code in _PASSING:
            raise _BrokenError(got) from error
        raise _unreadable(url, got) from error
    except (OSError, http.client.HTTPException) as error:
        cause = getattr(error, "reason", error)
        got = error_text(cause) if isinstance(cause, BaseException) else str(cause)
        raise _BrokenError(got) from error
    except ValueError as error:  # an address that only looks like one
        raise _unreadable(url, error_text(error)) from error
    with response:
        if response.status == 206:
            if not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                part.unlink(missing_ok=True)
                raise _BrokenError("another part than the one asked for")
        else:
            have = 0  # the server sends all of it
        length = response.headers.get("Content-Length", "")
        total = have + int(length) if length.isdecimal() else None
        check_space(part.parent, 0 if total is None else total - have)
        _store(response, part, have, total, progress)


def _store(
    response: http.client.HTTPResponse,
    part: Path,
    have: int,
    total: int | None,
    progress: Progress,
) -> None:
    mark, then = have, time.monotonic()
    with disk_errors(part.parent), part.open("ab" if have else "wb") as target:
        while True:
            try:
                block = response.read1(_BLOCK)
            except (OSError, http.client.HTTPException) as error:
                raise _BrokenError(error_text(error)) from error
            if not block:
                break
            target.write(block)
            have += len(block)
            progress("downloading", have, total)
            now = time.monotonic()
            if now - then >= _TIMEOUT:
                if have - mark < _SLOWEST * (now - then):
                    raise _BrokenError(f"{have - mark} bytes in {now - then:.0f} s")
                mark, then = have, now
    if total is not None and have < total:
        raise _BrokenError(f"{have} of {total} bytes")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _unreadable(url: str, got: str) -> InputFileError:
    return InputFileError(
        "download",
        expected=f"weights at {url}",
        got=got,
        remedy=(
            "check address and connection and try again, or use --backbone "
            "vgg19 or compact, which need none"
        ),
    )
