"""A folder of finished frames, which lies beside the output of a video until that is written.

Frames are PNG of 16 bits, with one line of JSON for each. Later frames build on these rounded
values, so that a resumed run gives the same result as one without interruption.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import weakref
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd import __version__, io
from convnd.errors import (
    ConvndError,
    InputFileError,
    OutputExistsError,
    OutputFileError,
    UsageError,
)
from convnd.grid import Grid
from convnd.io.atomic import atomic_path, error_text, temporary_folder
from convnd.io.reading import check_file
from convnd_tasks.runtime.checkpoints import Checkpointer, RecordedOptions, options_fingerprint

if TYPE_CHECKING:
    from torch import Tensor

    from convnd.optimize import ProcessGroup
    from convnd.transfer.progress import Progress

__all__ = ["CONTENT", "FINAL", "FIRST_PASS", "SECOND_PASS", "SHARED", "FrameCache", "quantize"]

CONTENT = SHARED = 0
"""Pass index of frames that a later pass or block reads: those of the content, or those that two
blocks share, before they are blended."""
FIRST_PASS, SECOND_PASS = 1, 2
FINAL = 3
"""Pass index of frames to which colours, strength and mask have been applied."""

_NAMES = ("content", "frame", "second", "final")
_WHITE = 65535
_LOG_START = b'{"fingerprint": "'
_MAX_LOG_BYTES = 2**28
_MAX_NUMBER = 2**62

# Keys of the entry of a finished frame besides its pass and number.
_COUNTS = ("steps", "rejected_steps")
_NUMBERS = ("codec", "flow", "features")
_OPTIONAL_NUMBERS = ("loss", "e_warp", "input_e_warp", "later_e_warp")
_REQUIRED = (
    *("pts", "duration", "name", "cut", "parts", "loss", "e_warp", "input_e_warp"),
    *_COUNTS,
    *_NUMBERS,
)


def quantize(values: Tensor) -> Tensor:
    """Round values as the cache stores them: clamped to ``[0, 1]``, 16 bits, on the CPU."""
    return values.detach().cpu().clamp(0, 1).mul(_WHITE).round_().div_(_WHITE)


class FrameCache(Checkpointer):
    """Stores the finished frames of one video in a folder beside its output.

    It takes the place of a checkpoint: the state to resume from is the cache itself.

    Args:
        output: path of the result; the folder has the same name with ``.frames`` appended. None is
            a temporary folder, which is removed with the cache.
        group: the processes that share the job; None is this one alone.

    Attributes:
        records: record of every stored frame, by pass index and number of the frame.
        size: height and width that stored frames must have; None accepts any.
    """

    def __init__(self, output: Path | None, group: ProcessGroup | None = None) -> None:
        self._temporary = output is None
        if output is None:
            stack = contextlib.ExitStack()
            output = stack.enter_context(temporary_folder()) / "video"
            weakref.finalize(self, stack.close)
        super().__init__(output, 0, group)
        self.path = output.with_name(f"{output.name}.frames")
        self.records: dict[tuple[int, int], dict[str, Any]] = {}
        self.size: tuple[int, ...] | None = None

    def exists(self) -> bool:
        """Whether the folder holds finished frames of an earlier run."""
        return self.finished_frames > 0

    def check(self, *, resume: bool, overwrite: bool) -> None:
        """Check, before any work, that no finished frames would be lost.

        Args:
            resume: whether to continue from finished frames.
            overwrite: whether finished frames may be removed.

        Raises:
            OutputExistsError: there are finished frames and neither argument is true, or the folder
                holds files that this program did not write.
        """
        if os.path.lexists(self.path) and not self._is_ours():
            raise OutputExistsError(
                str(self.path),
                expected="no such folder or one of an earlier run",
                got="another",
                remedy="choose another output",
            )
        if self.exists() and not (resume or overwrite):
            raise OutputExistsError(
                str(self.path),
                expected="no frames of an earlier run",
                got="some",
                remedy="continue from them (--resume), or start over (--overwrite)",
            )

    def open(
        self, options: RecordedOptions, inputs: Iterable[object], *, resume: bool
    ) -> Mapping[str, Any]:
        """Make the folder, or load its records.

        Args:
            options: options of the job.
            inputs: everything else that the frames depend on.
            resume: whether to continue from finished frames, if there are any.

        Returns:
            A state whose entry ``"cache"`` is this cache.

        Raises:
            UsageError: the finished frames were made from other inputs or options.
            InputFileError: the list of frames is damaged.
            OutputFileError: the folder cannot be made.
        """
        from convnd.optimize import fingerprint

        expected = fingerprint([__version__, options_fingerprint(options), *inputs])
        try:
            if resume and self._log.exists():
                self._load(expected)
            else:
                if self._log.exists() and self._is_ours():
                    shutil.rmtree(self.path)
                self.path.mkdir(exist_ok=True)
                header = json.dumps({"fingerprint": expected})
                self._log.write_text(f"{header}\n", encoding="utf-8")
        except OSError as error:
            if isinstance(error, ConvndError):
                raise
            raise OutputFileError(
                str(self.path),
                expected="a folder for finished frames",
                got=f"'{error_text(error)}'",
                remedy="choose another output",
            ) from error
        self._fingerprint = expected
        return {"cache": self}

    def after_step(self, progress: Progress) -> None:
        """Do nothing: `save` writes each frame when it is finished."""

    def save(self, pass_index: int, number: int, values: Tensor, record: Mapping[str, Any]) -> None:
        """Save a frame.

        Args:
            pass_index: `FIRST_PASS`, `SECOND_PASS`, `FINAL`, or `CONTENT`.
            number: number of the frame, from 0.
            values: the frame ``(1, 3, H, W)``, rounded by `quantize`.
            record: entries about the frame, of types that JSON has.

        Raises:
            OutputFileError: the disk is full, or the folder does not exist any more.
        """
        grid = Grid(values=values, channels=("R", "G", "B"), header={"depth": 16})
        io.write(self._picture(pass_index, number), grid, overwrite=True)
        # JSON has no NaN, which is the loss of one pass of a network, for example.
        entry = {"pass": pass_index, "number": number} | {
            key: None if isinstance(value, float) and math.isnan(value) else value
            for key, value in record.items()
        }
        try:
            with self._log.open("a", encoding="utf-8") as log:
                log.write(json.dumps(entry) + "\n")
        except OSError as error:
            raise OutputFileError(
                str(self._log),
                expected="a disk with space for a line",
                got=f"'{error_text(error)}'",
                remedy="free some space and continue with --resume",
            ) from error
        self.records[pass_index, number] = entry

    def load(self, pass_index: int, number: int) -> Tensor:
        """Read a frame ``(1, 3, H, W)`` from the cache.

        Args:
            pass_index: as in `save`.
            number: number of the frame, from 0.

        Raises:
            InputFileError: the frame is missing or damaged.
        """
        path = self._picture(pass_index, number)
        values = io.read(path).values
        size = tuple(values.shape[2:]) if self.size is None else self.size
        if values.shape != (1, 3, *size):
            raise InputFileError(
                "resume",
                expected=f"kept frames of {size[1]}x{size[0]} pixels and three channels",
                got=f"{path} of another shape",
                remedy="start over (--overwrite)",
            )
        return values

    def count(self, pass_index: int) -> int:
        """Count the frames of a pass."""
        return sum(index == pass_index for index, _ in self.records)

    def close(self) -> None:
        """Remove the folder, since the work is done; a temporary one stays as long as the cache."""
        if not self._temporary:
            shutil.rmtree(self.path, ignore_errors=True)

    def kept_message(self, error: BaseException) -> str:
        """Make the message about finished frames, or remove the folder if there are none."""
        if self._temporary or not self._fingerprint:  # not opened: the frames are of another job
            return ""
        if not self.exists():
            self.close()
            return ""
        message = f"{self.finished_frames} finished frames are kept in {self.path}"
        # The same input would fail at the same frame again.
        hint = "" if isinstance(error, InputFileError) else "; the same command with --resume"
        return message + (f"{hint} continues from them" if hint else "")

    @property
    def finished_frames(self) -> int:
        """Number of finished frames of the first pass in the folder."""
        return len(list(self.path.glob(f"{_NAMES[FIRST_PASS]}-*.png")))

    @property
    def _log(self) -> Path:
        return self.path / "frames.jsonl"

    def _is_ours(self) -> bool:
        """Whether the folder is empty, or its list of frames begins like those of this program."""
        try:
            if self.path.is_symlink() or not self.path.is_dir():
                return False
            if not any(self.path.iterdir()):
                return True
            check_file(self._log)
            with self._log.open("rb") as file:
                return file.read(len(_LOG_START)) == _LOG_START
        except OSError:
            return False

    def _picture(self, pass_index: int, number: int) -> Path:
        return self.path / f"{_NAMES[pass_index]}-{number:06d}.png"

    def _load(self, expected: str) -> None:
        """Load the records of finished frames, which must have the expected fingerprint."""
        check_file(self._log)
        with self._log.open("rb") as file:
            header, *lines = file.read(_MAX_LOG_BYTES).splitlines() or [b""]
        try:
            fingerprint = json.loads(header)["fingerprint"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputFileError(
                "resume",
                expected=f"the frames of an earlier run in {self.path}",
                got="a damaged list of them",
                remedy="start over (--overwrite)",
            ) from error
        if fingerprint != expected:
            raise UsageError(
                "resume",
                expected="frames of these inputs and options",
                got=f"those of others in {self.path.name}",
                remedy="give the same ones, or start over (--overwrite)",
            )
        self.records = {}
        with contextlib.suppress(ValueError, RecursionError):  # the last line may be incomplete
            for line in lines:
                entry = json.loads(line)
                if not (_is_entry(entry) and self._picture(*_key(entry)).is_file()):
                    break
                self.records[_key(entry)] = entry
        entries = [{"fingerprint": expected}, *self.records.values()]
        with atomic_path(self._log, overwrite=True) as log:
            log.write_text("".join(json.dumps(x) + "\n" for x in entries), encoding="utf-8")


def _key(entry: Mapping[str, Any]) -> tuple[int, int]:
    return entry["pass"], entry["number"]


def _is_entry(entry: Any) -> bool:
    """Whether a line of the list is an entry as `FrameCache.save` writes it."""
    if not isinstance(entry, dict):
        return False
    pass_index: Any = entry.get("pass")
    number = entry.get("number")
    if not (_is_count(pass_index) and pass_index < len(_NAMES) and _is_count(number)):
        return False
    keys = {name for name in entry if name not in ("pass", "number")}
    if pass_index == CONTENT and not keys:
        return True
    required_keys = (
        {"parts", "features", "loss", *_COUNTS} if pass_index == SHARED else {*_REQUIRED}
    )
    return required_keys <= keys and all(_is_valid(name, entry[name]) for name in keys)


def _is_valid(name: str, value: Any) -> bool:
    """Whether a value of an entry has the type and the range of its key."""
    if name == "parts":
        return isinstance(value, dict) and all(map(_is_number, value.values()))
    if name == "name":
        plain = isinstance(value, str) and Path(value).name == value and "\0" not in value
        return value is None or value == "" or (plain and value not in (".", ".."))
    if name == "changes":
        return isinstance(value, list) and all(isinstance(text, str) for text in value)
    if name == "cut":
        return isinstance(value, bool)
    if name == "pts":
        return isinstance(value, int) and abs(value) < _MAX_NUMBER
    if name in (*_COUNTS, "duration"):
        return _is_count(value)
    return _is_number(value) or (name in _OPTIONAL_NUMBERS and value is None)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MAX_NUMBER


def _is_number(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) < _MAX_NUMBER  # false for NaN
