"""Requests of a page for the numbers of files, samples and steps: signals, scans and videos."""

from __future__ import annotations

import base64
import contextlib
import io as streams
import json
import math
import shutil
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from convnd_tasks import samples
from convnd_tasks.samples import video
from convnd_tasks.view.clips import CURVES, SLIT, curves_so_far
from convnd_tasks.view.folder import ViewFolder
from convnd_tasks.view.guard import RequestError
from convnd_tasks.view.jobs import Jobs
from convnd_tasks.view.live import STEP_VALUES
from convnd_tasks.view.processes import Workers
from convnd_tasks.view.series import receive_series
from convnd_tasks.view.server import Answer, Request
from convnd_tasks.view.traces import MOST_POINTS

__all__ = ["DataRoutes"]

_MOST_LEADS = 64
_BYTES = "application/octet-stream"


class DataRoutes:
    """Answers requests for numbers.

    A request names its source: ``name`` is a file of the folder or, with ``dim``, a sample; ``job``
    is the last step of a job.

    Args:
        folder: the folder of the page.
        workers: processes that read files.
        jobs: the jobs of the page.

    Attributes:
        routes: the function that answers each request, by its path.
    """

    def __init__(self, folder: ViewFolder, workers: Workers, jobs: Jobs) -> None:
        self._folder = folder
        self._workers = workers
        self._jobs = jobs
        self._sample_files: dict[str, bytes] = {}
        self.routes: dict[str, Callable[[Request], Answer]] = {
            "signal": lambda request: Answer.of(self._ask("signal", request)),
            "scan": lambda request: Answer.of(self._ask("scan", request)),
            "traces": self._traces,
            "spectrum": self._spectrum,
            "plane": self._plane,
            "slab": self._slab,
            "clip": lambda request: Answer.of(self._ask("clip", request)),
            "sample-clip": self._sample_clip,
            "slit": lambda request: self._of_job(request, SLIT, "image/png"),
            "curves": self._curves,
        }

    def _ask(self, what: str, request: Request, **more: Any) -> dict[str, Any]:
        """Ask a worker about the source of a request."""
        answer = self._workers.ask({"do": what, **self._source(request.query), **more})
        return {name: value for name, value in answer.items() if name != "id"}

    def _source(self, query: Mapping[str, str]) -> dict[str, Any]:
        if "job" in query:
            path = self._jobs.path(self._jobs.find(query["job"])) / STEP_VALUES
            if not path.is_file():
                raise RequestError(HTTPStatus.NOT_FOUND, "no values of this step")
            return {"name": str(path), "dim": 0, "is_step": True}
        name = query.get("name", "")
        if samples.is_sample(name):
            return {"name": name, "dim": whole(query, "dim", 1, 3)}
        return {"name": str(self._folder.find(name, series=True)), "dim": 0}

    def _traces(self, request: Request) -> Answer:
        """Send a part of a recording."""
        query = request.query
        try:
            leads = json.loads(query.get("leads", ""))
        except (ValueError, RecursionError):
            leads = None
        is_list = isinstance(leads, list) and len(leads) <= _MOST_LEADS
        if not (is_list and all(isinstance(lead, str) for lead in leads)):
            raise RequestError(HTTPStatus.BAD_REQUEST, f"at most {_MOST_LEADS} leads are needed")
        start, end = (number(query, name) for name in ("start", "end"))
        points = whole(query, "points", 2, MOST_POINTS)
        if not end > start:
            raise RequestError(HTTPStatus.BAD_REQUEST, "the end is not after the start")
        place = {"start": start, "end": end, "points": points // 2 * 2}
        return Answer.of(self._ask("traces", request, leads=leads, **place))

    def _spectrum(self, request: Request) -> Answer:
        """Send the spectrum of a lead."""
        return Answer.of(self._ask("spectrum", request, lead=request.query.get("lead", "")))

    def _plane(self, request: Request) -> Answer:
        """Send the voxels of a plane."""
        axis = whole(request.query, "axis", 0, 2)
        index = whole(request.query, "index", 0, 2**31)
        frame = whole({"frame": "0", **request.query}, "frame", 0, 2**31)
        answer = self._ask("plane", request, axis=axis, index=index, frame=frame)
        return Answer(base64.b64decode(answer["data"]), _BYTES)

    def _slab(self, request: Request) -> Answer:
        """Send the voxels of several planes, for a view in three dimensions."""
        names = {"frame": 0, "step": 1, "first": 0, "count": 1}
        numbers = {name: whole(request.query, name, low, 2**31) for name, low in names.items()}
        answer = self._ask("slab", request, **numbers)
        return Answer(base64.b64decode(answer["data"]), _BYTES)

    def _sample_clip(self, request: Request) -> Answer:
        """Send a built-in video as a file."""
        name = request.query.get("name", "")
        if name not in video.CONTENTS:
            raise RequestError(HTTPStatus.NOT_FOUND, "no such built-in video")
        if name not in self._sample_files:
            answer = self._workers.ask({"do": "sample_file", "name": name})
            self._sample_files[name] = base64.b64decode(answer["data"])
        return Answer.part(streams.BytesIO(self._sample_files[name]), "video/mp4", request.range)

    def _curves(self, request: Request) -> Answer:
        """Send the curves of a video's frames, those that are finished while the job runs."""
        job = self._jobs.find(request.query.get("job", ""))
        if job.state == "done":
            return self._of_job(request, CURVES, "application/json")
        log = self._folder.root / f"{job.output}.frames" / "frames.jsonl"
        if log.is_symlink() or log.parent.is_symlink():
            raise RequestError(HTTPStatus.NOT_FOUND, "the job has none yet")
        return Answer.of(curves_so_far(log))

    def _of_job(self, request: Request, name: str, kind: str) -> Answer:
        """Send what a job has written about its result."""
        path = self._jobs.path(self._jobs.find(request.query.get("job", ""))) / name
        try:
            return Answer(path.read_bytes(), kind)
        except OSError as error:
            raise RequestError(HTTPStatus.NOT_FOUND, "the job has none yet") from error

    def upload_series(self, request: Request) -> Answer:
        """Store a folder of DICOM files; one that cannot be read is removed again.

        A folder of several series becomes one folder for each, from which people choose.
        """
        name = request.query.get("name", "")
        path = receive_series(self._folder, name, request.body, request.length)
        try:
            series = self.split(path)
            if len(series) == 1:
                self._workers.ask({"do": "scan", "name": str(path), "dim": 0})
        except RequestError:
            shutil.rmtree(path, ignore_errors=True)
            raise
        return Answer.of({"name": series[0]["name"], "kind": "volumes", "series": series})

    def split(self, path: Path) -> list[dict[str, Any]]:
        """Return the series of a stored folder, each with the name of a folder of its own.

        Raises:
            RequestError: it holds no images, or damaged ones.
        """
        series = self._workers.ask({"do": "split_series", "folder": str(path)})["series"]
        return [{**one, "name": self._folder.name(Path(one.pop("folder")))} for one in series]

    def split_chosen(self, chosen: list[str]) -> list[dict[str, Any]]:
        """Put one series in the place of each folder among chosen files.

        Args:
            chosen: names in the folder of the page, which are changed.

        Returns:
            The series of the first folder that holds several, each with the folder's place in
            ``chosen``, so that people can take another one.
        """
        several: list[dict[str, Any]] = []
        for place, name in enumerate(chosen):
            path = self._folder.root / name
            if samples.is_sample(name) or not path.is_dir():
                continue
            with contextlib.suppress(RequestError):  # it is told when the folder is shown
                series = self.split(path)
                chosen[place] = series[0]["name"]
                if len(series) > 1 and not several:
                    several = [{**one, "place": place} for one in series]
        return several

    def keep_frame(self, request: Request) -> Answer:
        """Store a frame of a video as a picture."""
        typed = request.json()
        name, index = (
            str(typed.get("name", "")),
            whole({"i": str(typed.get("frame"))}, "i", 0, 10**8),
        )
        source = name if name in video.CONTENTS else str(self._folder.find(name))
        answer = self._workers.ask({"do": "frame", "name": source, "index": index})
        data = base64.b64decode(answer["data"])
        stem = name.rpartition("/")[2].partition(".")[0]
        path = self._folder.store(f"{stem}-frame-{index}.png", streams.BytesIO(data), len(data))
        return Answer.of({"name": self._folder.name(path), "kind": "pictures"})


def whole(query: Mapping[str, str], name: str, low: int, high: int) -> int:
    """Return a whole number of a query.

    Raises:
        RequestError: it is missing, or out of range.
    """
    text = query.get(name, "")
    value = int(text) if text.isascii() and text.isdigit() and len(text) < 12 else -1
    if not low <= value <= high:
        raise RequestError(HTTPStatus.BAD_REQUEST, f"{name} is a whole number, {low} to {high}")
    return value


def number(query: Mapping[str, str], name: str) -> float:
    """Return a finite number of a query.

    Raises:
        RequestError: it is missing, or not finite.
    """
    try:
        value = float(query.get(name, "")[:40])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise RequestError(HTTPStatus.BAD_REQUEST, f"{name} is a number")
    return value
