"""What the process behind the page answers about the numbers of files."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from convnd_tasks.view.clips import describe_clip, frame_png, sample_file
from convnd_tasks.view.planes import describe_scan, plane_bytes, slab_bytes
from convnd_tasks.view.series_split import split_series
from convnd_tasks.view.shown import ShownFiles, Source
from convnd_tasks.view.traces import describe_signal, lead_spectrum, lead_traces
from convnd_tasks.view.units import describe_search, patch_png

__all__ = ["DataRequests"]


class DataRequests:
    """Answers requests of `convnd_tasks.view.data_routes`.

    Attributes:
        answers: the function that answers each request, by its name.
    """

    def __init__(self) -> None:
        self._files = ShownFiles()
        self.answers: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "signal": self._signal,
            "traces": self._traces,
            "spectrum": self._spectrum,
            "scan": self._scan,
            "plane": self._plane,
            "slab": self._slab,
            "split_series": lambda request: {"series": split_series(Path(request["folder"]))},
            "clip": lambda request: describe_clip(request["name"]),
            "frame": lambda request: _file(frame_png(request["name"], request["index"])),
            "search": lambda request: describe_search(Path(request["folder"])),
            "patch": self._patch,
            "sample_file": lambda request: _file(sample_file(request["name"])),
        }

    def _signal(self, request: dict[str, Any]) -> dict[str, Any]:
        return describe_signal(self._files.open(Source.parse(request)))

    def _traces(self, request: dict[str, Any]) -> dict[str, Any]:
        shown = self._files.open(Source.parse(request))
        places = (request[name] for name in ("start", "end", "points"))
        return {"traces": lead_traces(shown, request["leads"], *places)}

    def _spectrum(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"spectrum": lead_spectrum(self._files.open(Source.parse(request)), request["lead"])}

    def _scan(self, request: dict[str, Any]) -> dict[str, Any]:
        return describe_scan(self._files.open(Source.parse(request)))

    def _plane(self, request: dict[str, Any]) -> dict[str, Any]:
        shown = self._files.open(Source.parse(request))
        data = plane_bytes(shown, request["axis"], request["index"], request["frame"])
        return _file(data)

    def _slab(self, request: dict[str, Any]) -> dict[str, Any]:
        shown = self._files.open(Source.parse(request))
        return _file(slab_bytes(shown, *(request[n] for n in ("frame", "step", "first", "count"))))

    def _patch(self, request: dict[str, Any]) -> dict[str, Any]:
        place = (request[name] for name in ("unit", "rank"))
        return _file(patch_png(Path(request["name"]), *place))


def _file(data: bytes) -> dict[str, Any]:
    return {"data": base64.b64encode(data).decode()}
