"""Downloads of weight files: verified by sha256, and continued after an interruption."""

from __future__ import annotations

import contextlib
import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from convnd.backbones.weights.cache import (
    Progress,
    check_online,
    check_space,
    no_progress,
    translate_disk_errors,
)
from convnd.backbones.weights.integrity import check_hash
from convnd.errors import ConvndError, InputFileError, UsageError
from convnd.io.atomic import error_text, temporary_folder

__all__ = ["TORCHVISION", "WebFile", "download_file"]

TORCHVISION = "https://download.pytorch.org/models"

_TIMEOUT = 30.0  # seconds without a byte
_TRIES = 4
_PAUSE = 1.0  # seconds before the second try; twice as many before the third, and so on
_BLOCK = 1 << 18
_MIN_SPEED = 1024  # bytes a second over `_TIMEOUT` seconds; a slower server counts as hanging
_RETRY_CODES = (408, 425, 429)  # HTTP codes below 500 that another try may overcome


@dataclass(frozen=True, kw_only=True)
class WebFile:
    """A file at an address.

    Args:
        url: address of the file.
        sha256: sha256 of the file, hexadecimal.
        size: bytes of the file; 0 if unknown.
    """

    url: str
    sha256: str
    size: int = 0

    def __str__(self) -> str:
        return self.address

    @property
    def address(self) -> str:
        """The address; ``CONVND_WEIGHTS_URL`` replaces torchvision's server by a mirror."""
        mirror = os.environ.get("CONVND_WEIGHTS_URL")
        return self.url if mirror is None else self.url.replace(TORCHVISION, mirror)

    @contextlib.contextmanager
    def open(
        self, name: str, folder: Path | None, progress: Progress, *, remedy: str = ""
    ) -> Iterator[Path]:
        """Download the file and verify it; the context deletes it at its end.

        Args:
            name: name of the weights, for messages.
            folder: folder where an interrupted download stays, to be continued; None keeps none.
            progress: callback for progress.
            remedy: command that downloads the file, for messages; empty is ``convnd weights get``.

        Raises:
            InputFileError: the network is switched off, the address cannot be read, or the sha256
                differs.
            OutputFileError: the disk is full or read-only.
        """
        check_online(name, remedy or f"convnd weights get {name}")
        # The name holds the hash, so that a download of another version is not continued.
        file = f"{name}-{self.sha256[:8]}{Path(self.url).suffix}"
        with contextlib.ExitStack() as stack:
            target = folder if folder is not None else stack.enter_context(temporary_folder())
            path = target / file
            download_file(self.address, path, self.sha256, progress=progress)
            stack.callback(path.unlink, missing_ok=True)
            yield path


class _InterruptedError(Exception):
    """The connection broke; the bytes that arrived are valid."""


def download_file(url: str, path: Path, sha256: str, *, progress: Progress = no_progress) -> None:
    """Download a file and verify it.

    If the connection breaks, or a signal arrives, the bytes received so far stay next to ``path``
    as ``NAME.part``, and the next call continues there. Nothing else stays behind. Two processes
    must not download to the same ``path``; see `lock_weights`.

    Args:
        url: address, http or https; environment variables set proxies.
        path: the file to write; it exists afterwards only if its sha256 is right.
        sha256: hexadecimal, complete or only its first digits.
        progress: callback for progress.

    Raises:
        UsageError: not an http or https address.
        InputFileError: the address cannot be read, or the hash differs.
        OutputFileError: the disk is full or read-only.
    """
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise UsageError(
            "download",
            expected="an address http(s)://HOST/…",
            got=repr(url),
            remedy="copy it from the browser, or give a file",
        )
    part = path.with_name(path.name + ".part")
    while True:
        is_resumed = _receive(url, part, progress)
        try:
            check_hash(part, sha256)
        except InputFileError:
            part.unlink(missing_ok=True)
            if not is_resumed:
                raise
            # The old part may belong to another version of the file: start again.
            continue
        with translate_disk_errors(path.parent):
            part.replace(path)
        return


def _receive(url: str, part: Path, progress: Progress) -> bool:
    """Complete a partial file, and return whether some of it comes from an earlier run."""
    is_resumed = _size(part) > 0
    for attempt in range(1, _TRIES + 1):
        try:
            _transfer(url, part, progress)
        except _InterruptedError as error:
            if attempt == _TRIES:
                raise _unreadable_error(url, f"{error}, {_TRIES} times") from error
            time.sleep(_PAUSE * attempt)
        except ConvndError:  # the server refused, or the disk is full
            part.unlink(missing_ok=True)
            raise
        else:
            break
    return is_resumed


def _transfer(url: str, part: Path, progress: Progress) -> None:
    """Request the rest of a file once, and append it to ``part``."""
    offset = _size(part)
    # The offset counts bytes of the file, which a compressed transfer would not.
    headers = {"User-Agent": "convnd", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    try:
        response = urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=_TIMEOUT
        )
    except urllib.error.HTTPError as error:
        error.close()
        got = f"HTTP {error.code} ({error.reason})"
        if offset and error.code == 416:  # the part is longer than the file
            part.unlink(missing_ok=True)
            raise _InterruptedError(got) from error
        if error.code >= 500 or error.code in _RETRY_CODES:
            raise _InterruptedError(got) from error
        raise _unreadable_error(url, got) from error
    except (OSError, http.client.HTTPException) as error:
        cause = getattr(error, "reason", error)
        got = error_text(cause) if isinstance(cause, BaseException) else str(cause)
        raise _InterruptedError(got) from error
    except ValueError as error:  # a malformed address
        raise _unreadable_error(url, error_text(error)) from error
    with response:
        if response.status == 206:
            if not response.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
                part.unlink(missing_ok=True)
                raise _InterruptedError("another part than requested")
        else:
            offset = 0  # the server sends the whole file
        length = response.headers.get("Content-Length", "")
        total = offset + int(length) if length.isdecimal() else None
        check_space(part.parent, 0 if total is None else total - offset)
        _write(response, part, offset, total, progress)


def _write(
    response: http.client.HTTPResponse,
    part: Path,
    offset: int,
    total: int | None,
    progress: Progress,
) -> None:
    """Append a response to a file; a server that is too slow interrupts it."""
    checkpoint, checked_at = offset, time.monotonic()
    with translate_disk_errors(part.parent), part.open("ab" if offset else "wb") as target:
        while True:
            try:
                block = response.read1(_BLOCK)
            except (OSError, http.client.HTTPException) as error:
                raise _InterruptedError(error_text(error)) from error
            if not block:
                break
            target.write(block)
            offset += len(block)
            progress("downloading", offset, total)
            now = time.monotonic()
            if now - checked_at >= _TIMEOUT:
                if offset - checkpoint < _MIN_SPEED * (now - checked_at):
                    seconds = now - checked_at
                    raise _InterruptedError(f"{offset - checkpoint} bytes in {seconds:.0f} s")
                checkpoint, checked_at = offset, now
    if total is not None and offset < total:
        raise _InterruptedError(f"{offset} of {total} bytes")


def _size(path: Path) -> int:
    """Bytes of a file; 0 if it does not exist."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _unreadable_error(url: str, got: str) -> InputFileError:
    return InputFileError(
        "download",
        expected=f"weights at {url}",
        got=got,
        remedy=(
            "check address and connection and try again, or use --backbone "
            "vgg19 or compact, which need none"
        ),
    )
