"""A job that a page watches: pictures of its steps, kept states, and changes while it runs."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd.errors import UsageError
from convnd_tasks.pipeline.watching import Watcher
from convnd_tasks.runtime.drawing_pace import DrawingPace
from convnd_tasks.runtime.time_left import TimeLeft

if TYPE_CHECKING:
    from convnd.transfer.progress import Progress
    from convnd_tasks.modalities.base import Transfer
    from convnd_tasks.modalities.results import JobResult

__all__ = ["STEP_PICTURE", "STEP_VALUES", "LiveJob", "kept_figures", "kept_steps", "state_file"]

STEP_PICTURE = "preview.jpg"
"""File with the picture of the last step that was drawn."""

STEP_VALUES = "preview.npz"
"""File with the values of the last step that was drawn, of signals and scans."""

_KEPT_BYTES = 2**30
"""Bytes of all kept states of a job; the oldest are removed first."""


def state_file(folder: Path, step: int) -> Path:
    """Return the path of the kept state of a step.

    Args:
        folder: folder of the job.
        step: number of the step.
    """
    return folder / f"step-{step:07d}.checkpoint"


def kept_steps(folder: Path) -> list[int]:
    """List the steps whose state is kept.

    Args:
        folder: folder of the job.
    """
    names = (path.stem.partition("-")[2] for path in folder.glob("step-*.checkpoint"))
    return sorted(int(name) for name in names if name.isascii() and name.isdigit())


def kept_figures(folder: Path) -> dict[str, list[int]]:
    """Return the steps whose state is kept, and those of them that have a picture.

    Args:
        folder: folder of the job.
    """
    kept = kept_steps(folder)
    pictured = [step for step in kept if state_file(folder, step).with_suffix(".jpg").exists()]
    return {"kept": kept, "pictured": pictured}


class LiveJob(Watcher):
    """Reports the steps of a job, draws them, and keeps its checkpoints.

    Args:
        folder: folder of the job, which exists.
        report: is called with the figures of each step.
        pictures: number of pictures that earlier runs of the job have drawn.
    """

    def __init__(
        self, folder: Path, report: Callable[[dict[str, Any]], None], pictures: int = 0
    ) -> None:
        self._folder = folder
        self._report = report
        self._transfer: Transfer | None = None
        self._time_left = TimeLeft()
        self._pace = DrawingPace()
        self._pictures = pictures
        self._lock = threading.Lock()
        self._early: list[Mapping[str, str]] = []

    def change(self, options: Mapping[str, str]) -> None:
        """Change options of the running job after its step; other threads call this.

        Changes that come before the transfer wait for it.

        Args:
            options: values as they are typed, by the option's name without ``--``.
        """
        with self._lock:
            if self._transfer is None:
                self._early.append(options)
                return
            changes = self._transfer.changes
        if changes is None:
            names = ", ".join(f"--{name}" for name in options)
            self._report({"message": f"{names} cannot change while this job runs"})
            return
        try:
            changes.arrive(options)
        except UsageError as error:
            self._report({"message": str(error)})

    def on_prepared(self, transfer: Transfer, target: Path | None) -> None:
        """Take the transfer, which draws its steps."""
        with self._lock:
            self._transfer = transfer
        if target is not None:
            self._report({"target": str(target.absolute())})
        if transfer.changes is not None:
            transfer.changes.awaited = True
        for options in self._early:
            self.change(options)

    def on_step(self, progress: Progress) -> None:
        """Report a step, and draw it where this costs little."""
        now = time.monotonic()
        self._time_left.update(progress, now)
        left = self._time_left.seconds(now) if self._time_left.is_reliable else None
        if self._pace.is_due:
            self._draw(progress)
        changes = self._transfer.changes if self._transfer is not None else None
        self._report(
            {
                "changes": [] if changes is None else changes.texts,
                "step": progress.step,
                "steps": progress.steps,
                "phase": progress.phase,
                "phases": progress.phases,
                "size": list(reversed(progress.size)),
                "fraction": round(progress.fraction_done, 4),
                "loss": progress.loss if progress.loss == progress.loss else None,
                "left": None if left is None else round(left, 1),
                "preview": self._pictures,
                "drawing": round(self._pace.share, 4),
            }
        )

    def _draw(self, progress: Progress) -> None:
        """Draw a step into the file that the page shows."""
        assert self._transfer is not None
        from convnd_tasks.runtime.pictures import jpeg
        from convnd_tasks.view.shown import Shown

        with self._pace.drawing():
            grid = self._transfer.preview(progress)
            if grid is None:
                return
            _write(self._folder / STEP_PICTURE, lambda path: path.write_bytes(jpeg(grid)))
            shown = Shown.of_grid(grid)
            if shown is not None:
                _write(self._folder / STEP_VALUES, shown.save)
            self._pictures += 1

    def on_checkpoint(self, path: Path, progress: Progress) -> None:
        """Keep a checkpoint, with a picture of its step."""
        if progress.state is dict:  # it holds nothing to go back to
            return
        target = state_file(self._folder, progress.step)
        target.unlink(missing_ok=True)
        try:
            os.link(
                path, target
            )  # the next checkpoint takes the place of the name, not of the file
        except OSError:
            shutil.copyfile(path, target)
        self._draw(progress)
        picture = self._folder / STEP_PICTURE
        if picture.exists():
            shutil.copyfile(picture, target.with_suffix(".jpg"))
        self._remove_oldest()
        self._report(kept_figures(self._folder))

    def _remove_oldest(self) -> None:
        """Remove the oldest states until the others fit; the newest stays."""
        paths = [state_file(self._folder, step) for step in kept_steps(self._folder)]
        sizes = [path.stat().st_size for path in paths]
        while len(paths) > 1 and sum(sizes) > _KEPT_BYTES:
            paths.pop(0).unlink(missing_ok=True)
            sizes.pop(0)

    def on_count(self, done: int, total: int) -> None:
        """Report how many inputs are done."""
        self._report({"step": done, "steps": total, "fraction": done / max(1, total)})

    def on_message(self, line: str) -> None:
        """Pass on a line for users."""
        self._report({"message": line})

    def on_result(self, outcome: JobResult) -> None:
        """Report the result; of a video, its curves are kept as well."""
        from convnd_tasks.modalities.video.result import VideoResult
        from convnd_tasks.view.clips import write_clip_figures

        if isinstance(outcome.result, VideoResult):
            write_clip_figures(self._folder, outcome.result)
        self._report(
            {
                "result": str(outcome.path),
                "step": outcome.steps,
                "seconds": round(outcome.seconds, 2),
                "stopped": outcome.stopped is not None,
                "loss": outcome.loss if outcome.loss == outcome.loss else None,
            }
        )


def _write(path: Path, write: Callable[[Path], object]) -> None:
    """Replace a file that a page may be reading."""
    temporary = path.with_name(f".{path.name}")
    write(temporary)
    temporary.replace(path)
