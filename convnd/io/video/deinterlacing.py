"""Converts interlaced frames, of two fields each, to progressive ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

__all__ = ["Deinterlacer"]


class Deinterlacer:
    """Runs FFmpeg's ``bwdif`` over the frames of a stream; their number does not change.

    If the file marks its interlaced frames, the others stay as they are.

    Args:
        av: the package PyAV.
        stream: the video stream.
    """

    def __init__(self, av: Any, stream: Any) -> None:
        self._av = av
        self._base = stream.time_base
        self._graph: Any = None
        self._layout: tuple[Any, ...] = ()

    def add(self, time: int, frame: Any) -> Iterator[tuple[int, Any]]:
        """Take a frame and its time; yield those that are ready."""
        layout = (frame.width, frame.height, frame.format.name)
        if layout != self._layout:
            yield from self.finish()
            self._layout = layout
            self._graph = self._make_graph(*layout, marked=frame.interlaced_frame)
        frame.pts, frame.time_base = time, self._base
        self._graph.push(frame)
        yield from self._ready()

    def finish(self) -> Iterator[tuple[int, Any]]:
        """Yield the last frames."""
        if self._graph is not None:
            self._graph.push(None)
            yield from self._ready()
            self._graph = None

    def _ready(self) -> Iterator[tuple[int, Any]]:
        while True:
            try:
                frame = self._graph.pull()
            except (self._av.error.BlockingIOError, self._av.error.EOFError):
                return
            scale = frame.time_base / self._base  # the filter halves the ticks
            frame.duration = round((frame.duration or 0) * scale)
            yield round(frame.pts * scale), frame

    def _make_graph(self, width: int, height: int, name: str, *, marked: bool) -> Any:
        graph = self._av.filter.Graph()
        source = graph.add_buffer(width=width, height=height, format=name, time_base=self._base)
        choice = "interlaced" if marked else "all"
        deinterlace = graph.add("bwdif", f"mode=send_frame:parity=auto:deint={choice}")
        sink = graph.add("buffersink")
        source.link_to(deinterlace)
        deinterlace.link_to(sink)
        graph.configure()
        return graph
