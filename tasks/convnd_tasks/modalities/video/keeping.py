"""Finished frames of a clip, kept until all are done.

They lie in a folder beside the output, as PNG of 16 bits, with a line of JSON for each. The work
itself goes on from these rounded values, so that a resumed clip is the one that would have come
without the interruption.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd import io
from convnd.errors import (
    ConvndError,
    InputFileError,
    OutputExistsError,
    OutputFileError,
    UsageError,
)
from convnd.grid import Grid
from convnd.io.atomic import atomic_path, error_text

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FrameStore", "rounded"]

_WHITE = 65535


def rounded(values: Tensor) -> Tensor:
    """Values as they will be kept: clamped to ``[0, 1]`` and rounded to 16 bits."""
    return values.detach().cpu().clamp(0, 1).mul(_WHITE).round_().div_(_WHITE)


class FrameStore:
    """The folder of one clip.

    Args:
        output: of the work; the folder is called the same with ``.frames`` behind.
    """

    def __init__(self, output: Path) -> None:
        self.folder = output.with_name(f"{output.name}.frames")
        self.records: dict[tuple[int, int], dict[str, Any]] = {}

    def check(self, *, resume: bool, overwrite: bool) -> None:
        """Refuse to begin anew where work is kept.

        Raises:
            OutputExistsError: there is kept work, and neither flag says what to do with it.
        """
        if self.finished and not (resume or overwrite):
            raise OutputExistsError(
                f"{self.folder}: expected no frames of an earlier run, got some; go on from them "
                "(--resume), or begin anew (--overwrite)"
            )

    def open(self, mark: str, *, resume: bool) -> None:
        """Make the folder, or take up what is in it.

        Args:
            mark: `convnd.optimize.fingerprint` of what the work depends on.
            resume: go on from what is kept, if anything is.

        Raises:
            UsageError: what is kept was made from other inputs or options.
            InputFileError: it is damaged.
            OutputFileError: the folder cannot be made.
        """
        try:
            if resume and self._log.exists():
                self._load(mark)
                return
            if self._log.exists():
                shutil.rmtree(self.folder)
            self.folder.mkdir(exist_ok=True)
            self._log.write_text(json.dumps({"mark": mark}) + "\n", encoding="utf-8")
        except OSError as error:
            if isinstance(error, ConvndError):
                raise
            raise OutputFileError(
                f"{self.folder}: expected a folder for finished frames, got '{error_text(error)}'; "
                "choose another output"
            ) from error

    def keep(self, turn: int, number: int, values: Tensor, record: Mapping[str, Any]) -> None:
        """Keep a finished frame.

        Args:
            turn: of the pass; 0 for a content frame that a later pass will want.
            number: of the frame, from 0.
            values: `rounded` ``(1, 3, H, W)``.
            record: what there is to know of it.

        Raises:
            OutputFileError: the disk is full, or the folder gone.
        """
        grid = Grid(values=values, channels=("R", "G", "B"), header={"depth": 16})
        io.write(self._picture(turn, number), grid, overwrite=True)
        entry = {"turn": turn, "number": number, **record}
        try:
            with self._log.open("a", encoding="utf-8") as log:
                log.write(json.dumps(entry) + "\n")
        except OSError as error:
            raise OutputFileError(
                f"{self._log}: expected a disk that takes a line, got '{error_text(error)}'; "
                "free some space and go on with --resume"
            ) from error
        self.records[turn, number] = entry

    def load(self, turn: int, number: int) -> Tensor:
        """A frame that was kept.

        Raises:
            InputFileError: it is gone or damaged.
        """
        return io.read(self._picture(turn, number)).values

    def close(self) -> None:
        """Remove the folder: the work is done."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def finished(self) -> int:
        """How many frames of the first pass lie there."""
        return len(list(self.folder.glob("frame-*.png")))

    @property
    def _log(self) -> Path:
        return self.folder / "frames.jsonl"

    def _picture(self, turn: int, number: int) -> Path:
        return self.folder / f"{('content', 'frame', 'second')[turn]}-{number:06d}.png"

    def _load(self, mark: str) -> None:
        first, *lines = self._log.read_text(encoding="utf-8").splitlines() or [""]
        try:
            found = json.loads(first)["mark"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputFileError(
                f"resume: expected the frames of an earlier run in {self.folder}, got a damaged "
                "record; begin anew (--overwrite)"
            ) from error
        if found != mark:
            raise UsageError(
                "resume: expected frames of these inputs and options, got those of others in "
                f"{self.folder.name}; give the same ones, or begin anew (--overwrite)"
            )
        with contextlib.suppress(ValueError, KeyError, TypeError):  # the last may be half a line
            for line in lines:
                entry = json.loads(line)
                place = int(entry["turn"]), int(entry["number"])
                if not self._picture(*place).exists():
                    break
                self.records[place] = entry
        good = [{"mark": mark}, *self.records.values()]
        with atomic_path(self._log, overwrite=True) as log:
            log.write_text("".join(json.dumps(each) + "\n" for each in good), encoding="utf-8")
