"""A picture in a notebook that shows the steps of a transfer while it runs."""

from __future__ import annotations

import base64
import html
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd_tasks.pipeline.watching import Watcher
from convnd_tasks.runtime.drawing_pace import DrawingPace
from convnd_tasks.runtime.time_left import TimeLeft

if TYPE_CHECKING:
    from convnd.grid import Grid
    from convnd.transfer.progress import Progress
    from convnd_tasks.modalities.base import Transfer
    from convnd_tasks.modalities.results import JobResult

__all__ = ["LivePicture", "notebook_picture"]

_SIDE = 512
"""Pixels of the longer side of the picture, at most."""


def notebook_picture() -> LivePicture | None:
    """Show a picture below the running cell of a notebook; return None outside of one.

    A notebook is a kernel of IPython, as Jupyter starts it; its terminal shows no pictures.
    """
    module: Any = sys.modules.get("IPython")
    shell = None if module is None else module.get_ipython()
    if getattr(shell, "kernel", None) is None:
        return None
    from importlib import import_module

    picture = LivePicture()
    picture.handle = import_module("IPython.display").display(picture, display_id=True)
    return picture


class LivePicture(Watcher):
    """Draws the steps of a transfer as HTML, as often as 4 % of the time allow.

    Attributes:
        handle: has a method ``update``, which shows this object anew; None shows nothing.
    """

    def __init__(self) -> None:
        self.handle: Any = None
        self._transfer: Transfer | None = None
        self._pace = DrawingPace()
        self._time_left = TimeLeft()
        self._image = b""
        self._fraction = 0.0
        self._text = "loading …"

    def on_prepared(self, transfer: Transfer, target: Path | None) -> None:
        """Take the transfer, which draws its steps."""
        del target
        self._transfer = transfer

    def on_step(self, progress: Progress) -> None:
        """Draw a step, if one is due."""
        now = time.monotonic()
        self._time_left.update(progress, now)
        if self._transfer is None or not self._pace.is_due:
            return
        with self._pace.drawing():
            self._fraction = progress.fraction_done
            self._text = f"step {progress.step} of {progress.steps}"
            if self._time_left.is_reliable:
                self._text += f", {self._time_left.seconds(now):.0f} s left"
            self._draw(self._transfer.preview(progress))

    def on_result(self, outcome: JobResult) -> None:
        """Draw the result; a video keeps the picture of its last frame."""
        from convnd.grid import Grid

        self._fraction = 1.0
        self._text = f"{outcome.steps} steps, {outcome.seconds:.1f} s"
        self._draw(outcome.result if isinstance(outcome.result, Grid) else None)

    def _draw(self, grid: Grid | None) -> None:
        from convnd_tasks.runtime.pictures import jpeg

        if grid is not None:
            self._image = jpeg(grid, _SIDE)
        if self.handle is not None:
            self.handle.update(self)

    def __repr__(self) -> str:
        """Return the step, for what shows no HTML."""
        return self._text

    def _repr_html_(self) -> str:
        """Return the picture with its step, for a notebook."""
        text = html.escape(self._text)
        data = base64.b64encode(self._image).decode()
        image = f'<img src="data:image/jpeg;base64,{data}" alt="{text}">' if data else ""
        bar = f'<progress max="1" value="{self._fraction:.3f}"></progress>'
        return f"<figure>{image}<figcaption>{bar} {text}</figcaption></figure>"
