"""Finished frames of a video, kept beside its output until the result is written.

They lie in a folder as PNG of 16 bits, with one line of JSON for each. Later frames build on these
rounded values, so that a resumed run gives the same result as one without interruption.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
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
from convnd.io.atomic import atomic_path, error_text
from convnd_tasks.runtime.checkpoints import Checkpointer, options_fingerprint

if TYPE_CHECKING:
    from torch import Tensor

    from convnd.optimize import ProcessGroup
    from convnd.transfer.options import TransferOptions
    from convnd.transfer.style_transfer import Progress

__all__ = ["CONTENT", "FINAL", "FIRST_PASS", "SECOND_PASS", "SHARED", "FrameCache", "quantize"]

CONTENT = SHARED = 0
"""Pass index of what a later pass or block needs: content frames, or frames that two blocks share
before they are blended."""
FIRST_PASS, SECOND_PASS = 1, 2
FINAL = 3
"""Pass index of frames whose colours, strength or mask were applied."""

_NAMES = ("content", "frame", "second", "final")
_WHITE = 65535


def quantize(values: Tensor) -> Tensor:
    """Values as they are kept: clamped to ``[0, 1]`` and rounded to 16 bits, on the CPU."""
    return values.detach().cpu().clamp(0, 1).mul(_WHITE).round_().div_(_WHITE)


class FrameCache(Checkpointer):
    """Keeps the finished frames of one video in a folder beside its output.

    It takes the place of a checkpoint: the state to resume from is the cache itself.

    Args:
        output: path of the result; the folder has the same name with ``.frames`` appended. None is
            a temporary folder, which is removed with the cache.
        group: the processes that share the job; None is this one alone.

    Attributes:
        records: of every kept frame, by pass index and number of the frame.
    """

    def __init__(self, output: Path | None, group: ProcessGroup | None = None) -> None:
        self._temporary = output is None
        if output is None:
            output = Path(tempfile.mkdtemp(prefix="convnd-")) / "video"
            weakref.finalize(self, shutil.rmtree, output.parent, ignore_errors=True)
        super().__init__(output, 0, group)
        self.path = output.with_name(f"{output.name}.frames")
        self.records: dict[tuple[int, int], dict[str, Any]] = {}

    def exists(self) -> bool:
        """Whether there are finished frames of an earlier run."""
        return self.finished_frames > 0

    def check(self, *, resume: bool, overwrite: bool) -> None:
        """Check, before any work, that no finished frames would be lost.

        Raises:
            OutputExistsError: there are some, and neither flag says what to do with them.
        """
        if self.exists() and not (resume or overwrite):
            raise OutputExistsError(
                f"{self.path}: expected no frames of an earlier run, got some; continue from them "
                "(--resume), or start anew (--overwrite)"
            )

    def open(
        self, options: TransferOptions, inputs: Iterable[object], *, resume: bool
    ) -> Mapping[str, Any]:
        """Make the folder, or load what is in it.

        Args:
            options: of the job.
            inputs: everything else that the frames depend on.
            resume: continue from kept frames, if there are any.

        Returns:
            A state whose entry ``"cache"`` is this cache.

        Raises:
            UsageError: the kept frames were made from other inputs or options.
            InputFileError: the list of frames is damaged.
            OutputFileError: the folder cannot be made.
        """
        from convnd.optimize import fingerprint

        expected = fingerprint([__version__, options_fingerprint(options), *inputs])
        try:
            if resume and self._log.exists():
                self._load(expected)
            else:
                if self._log.exists():
                    shutil.rmtree(self.path)
                self.path.mkdir(exist_ok=True)
                header = json.dumps({"fingerprint": expected})
                self._log.write_text(f"{header}\n", encoding="utf-8")
        except OSError as error:
            if isinstance(error, ConvndError):
                raise
            raise OutputFileError(
                f"{self.path}: expected a folder for finished frames, got '{error_text(error)}'; "
                "choose another output"
            ) from error
        self._fingerprint = expected
        return {"cache": self}

    def after_step(self, progress: Progress) -> None:
        """Nothing to write: frames are kept as they are finished."""

    def save(self, pass_index: int, number: int, values: Tensor, record: Mapping[str, Any]) -> None:
        """Keep a frame.

        Args:
            pass_index: `FIRST_PASS`, `SECOND_PASS`, `FINAL`, or `CONTENT`.
            number: of the frame, from 0.
            values: ``(1, 3, H, W)``, see `quantize`.
            record: facts about the frame, as JSON can hold them.

        Raises:
            OutputFileError: the disk is full, or the folder gone.
        """
        grid = Grid(values=values, channels=("R", "G", "B"), header={"depth": 16})
        io.write(self._picture(pass_index, number), grid, overwrite=True)
        entry = {"pass": pass_index, "number": number, **record}
        try:
            with self._log.open("a", encoding="utf-8") as log:
                log.write(json.dumps(entry) + "\n")
        except OSError as error:
            raise OutputFileError(
                f"{self._log}: expected a disk with space for a line, got '{error_text(error)}'; "
                "free some space and continue with --resume"
            ) from error
        self.records[pass_index, number] = entry

    def load(self, pass_index: int, number: int) -> Tensor:
        """Read a kept frame, ``(1, 3, H, W)``.

        Raises:
            InputFileError: it is missing or damaged.
        """
        return io.read(self._picture(pass_index, number)).values

    def count(self, pass_index: int) -> int:
        """Number of kept frames of a pass."""
        return sum(index == pass_index for index, _ in self.records)

    def close(self) -> None:
        """Remove the folder: the work is done. A temporary one stays as long as the cache."""
        if not self._temporary:
            shutil.rmtree(self.path, ignore_errors=True)

    def kept_message(self, error: BaseException) -> str:
        """What to tell users about finished frames; the folder is removed where there are none."""
        if self._temporary or not self._fingerprint:  # other work's frames, which were refused
            return ""
        if not self.exists():
            self.close()
            return ""
        message = f"{self.finished_frames} finished frames are kept in {self.path}"
        # The same input would fail at the same frame again.
        more = "" if isinstance(error, InputFileError) else "; the same command with --resume"
        return message + (f"{more} continues from them" if more else "")

    @property
    def finished_frames(self) -> int:
        """Number of frames of the first pass in the folder."""
        return len(list(self.path.glob(f"{_NAMES[FIRST_PASS]}-*.png")))

    @property
    def _log(self) -> Path:
        return self.path / "frames.jsonl"

    def _picture(self, pass_index: int, number: int) -> Path:
        return self.path / f"{_NAMES[pass_index]}-{number:06d}.png"

    def _load(self, expected: str) -> None:
        header, *lines = self._log.read_text(encoding="utf-8").splitlines() or [""]
        try:
            fingerprint = json.loads(header)["fingerprint"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputFileError(
                f"resume: expected the frames of an earlier run in {self.path}, got a damaged "
                "list of them; start anew (--overwrite)"
            ) from error
        if fingerprint != expected:
            raise UsageError(
                "resume: expected frames of these inputs and options, got those of others in "
                f"{self.path.name}; give the same ones, or start anew (--overwrite)"
            )
        self.records = {}
        with contextlib.suppress(ValueError, KeyError, TypeError):  # the last line may be cut off
            for line in lines:
                entry = json.loads(line)
                key = int(entry["pass"]), int(entry["number"])
                if not self._picture(*key).exists():
                    break
                self.records[key] = entry
        entries = [{"fingerprint": expected}, *self.records.values()]
        with atomic_path(self._log, overwrite=True) as log:
            log.write_text("".join(json.dumps(x) + "\n" for x in entries), encoding="utf-8")
