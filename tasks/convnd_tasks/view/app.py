"""What a page can ask its server for."""

from __future__ import annotations

import base64
import json
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from convnd import __version__, io
from convnd_tasks import samples
from convnd_tasks.pipeline.resolve import resolve
from convnd_tasks.view.data_routes import DataRoutes, whole
from convnd_tasks.view.file_routes import FileRoutes
from convnd_tasks.view.folder import LARGEST_UPLOAD, ViewFolder
from convnd_tasks.view.guard import RequestError
from convnd_tasks.view.job_lines import JobLine, read_job_line
from convnd_tasks.view.jobs import Jobs
from convnd_tasks.view.kinds import DIMS, UNITS, built_in_inputs, kind_of_file
from convnd_tasks.view.live import STEP_PICTURE, state_file
from convnd_tasks.view.niivue import ROUTES as NIIVUE_ROUTES
from convnd_tasks.view.niivue import is_installed as has_niivue
from convnd_tasks.view.options import changed_options
from convnd_tasks.view.processes import Workers
from convnd_tasks.view.server import Answer, Request
from convnd_tasks.view.unit_routes import UnitRoutes
from convnd_tasks.view.units import COMMAND
from convnd_tasks.view.view_job import ViewJob

__all__ = ["View"]

_STATIC = Path(__file__).parent / "static"
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
_SHOWN_TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".avif": "image/avif",
    ".gif": "image/gif",
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mov": "video/quicktime",
    ".webm": "video/webm",
    ".mkv": "video/x-matroska",
    ".ogv": "video/ogg",
}
"""Kinds of files that a browser may show; all others are downloaded."""

_SIDES = range(16, 2049)
_PING_SECONDS = 15.0
_SHORTEST_WAIT = 0.1


class _Changes:
    """Counts changes, so that pages can wait for the next."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self.count = 0

    def notify(self) -> None:
        with self._condition:
            self.count += 1
            self._condition.notify_all()

    def wait(self, seen: int) -> int:
        """Wait for a change after the one with a number; give up after some seconds."""
        with self._condition:
            self._condition.wait_for(lambda: self.count != seen, _PING_SECONDS)
            return self.count


class View:
    """The application behind a page.

    Args:
        folder: the only folder that is read and written.
        chosen: names of files in it, or of samples, to begin with: content and styles.
    """

    def __init__(self, folder: ViewFolder, chosen: list[str]) -> None:
        self.folder = folder
        self.chosen = chosen
        self._changes = _Changes()
        self._splitting = threading.Lock()
        self._thumbnails: dict[tuple[str, int, int, float], bytes] = {}
        self._previews: deque[bytes] = deque(maxlen=8)
        self._preview_count = 0
        self._workers = Workers(folder.root)
        self.jobs = Jobs(folder, self._workers, self._changes.notify)
        self._data = data = DataRoutes(folder, self._workers, self.jobs)
        self._series: list[dict[str, Any]] | None = None
        units = UnitRoutes(folder, self._workers)
        self._files = files = FileRoutes(folder, self._workers)
        self._routes: Mapping[tuple[str, str], Callable[[Request], Answer]] = {
            ("GET", "state"): self._state,
            ("GET", "jobs"): lambda _: Answer.of({"jobs": self.jobs.describe()}),
            ("GET", "events"): self._events,
            ("GET", "thumbnail"): self._thumbnail,
            ("GET", "file"): self._file,
            ("GET", "step"): self._step,
            ("GET", "preview"): self._preview_picture,
            **{
                ("GET", path): answer
                for routes in (data.routes, units.routes, files.routes, NIIVUE_ROUTES)
                for path, answer in routes.items()
            },
            ("POST", "upload"): self._upload,
            ("POST", "upload-series"): data.upload_series,
            ("POST", "keep-frame"): data.keep_frame,
            ("POST", "preview"): self._preview,
            ("POST", "start"): self._start,
            ("POST", "again"): self._again,
            ("POST", "stop"): self._on_job(lambda job, _: self.jobs.stop(job)),
            ("POST", "change"): self._on_job(self._change),
            ("POST", "continue"): self._on_job(self._continue),
            ("POST", "remove"): self._on_job(lambda job, _: self.jobs.remove(job)),
        }

    def warm_up(self) -> None:
        """Load what previews and jobs need, in processes of their own."""
        self._workers.warm_up(jobs=not self.folder.read_only)

    def close(self) -> None:
        """Stop all jobs after their step; they keep their checkpoints."""
        self.jobs.close()
        self._workers.close()
        self.jobs.join()

    def answer(self, request: Request) -> Answer:
        """Answer a request that the guard has let through.

        Raises:
            RequestError: there is nothing at this path, or it cannot be done.
            ConvndError: the same, in words of the command line.
        """
        if not request.path.startswith("api/"):
            return _static(request)
        route = self._routes.get((request.method, request.path.removeprefix("api/")))
        if route is None:
            raise RequestError(HTTPStatus.NOT_FOUND, "nothing here")
        if request.method == "POST":
            self.folder.check_writable()
        return route(request)

    def _state(self, request: Request) -> Answer:
        """Describe what a page needs once."""
        del request
        with self._splitting:
            if self._series is None:
                self._series = self._data.split_chosen(self.chosen)
        return Answer.of(
            {
                "version": __version__,
                "folder": str(self.folder.root),
                "read_only": self.folder.read_only,
                "chosen": self.chosen,
                "series": self._series,
                "built_in": built_in_inputs(),
                "kind": self._first_kind(),
                "largest_upload": LARGEST_UPLOAD,
                "suffixes": sorted(io.suffixes()),
                "niivue": has_niivue(),
            }
        )

    def _first_kind(self) -> str:
        """Return the kind of data that the page begins with."""
        first = next(iter(self.chosen), "")
        if not first or samples.is_sample(first):
            inputs = built_in_inputs()
            return next((kind for kind in DIMS if first in inputs[kind]["contents"]), "pictures")
        return kind_of_file(str(self.folder.find(first, series=True))) or "pictures"

    def _events(self, request: Request) -> Answer:
        """Send the jobs whenever they change, as server-sent events."""
        del request
        return Answer(self._stream(), "text/event-stream")

    def _stream(self) -> Iterator[bytes]:
        seen = -1
        while True:
            count = self._changes.wait(seen)
            if count == seen:
                yield b": still here\n\n"
                continue
            seen = count
            yield f"data: {json.dumps({'jobs': self.jobs.describe()})}\n\n".encode()
            threading.Event().wait(_SHORTEST_WAIT)

    def _thumbnail(self, request: Request) -> Answer:
        """Draw a sample or a file small."""
        name, side = request.query.get("name", ""), request.query.get("side", "128")
        if not (side.isascii() and side.isdigit() and int(side) in _SIDES):
            raise RequestError(HTTPStatus.BAD_REQUEST, "a side of 16 to 2048 pixels is drawn")
        path = None if samples.is_sample(name) else self.folder.find(name, series=True)
        dim = 0
        if path is None:
            dim = whole(request.query, "dim", 1, 3)
        key = name, dim, int(side), 0.0 if path is None else path.stat().st_mtime
        if key not in self._thumbnails:
            asked = {"do": "thumbnail", "name": str(path or name), "side": int(side), "dim": dim}
            self._thumbnails[key] = base64.b64decode(self._workers.ask(asked)["image"])
            while sum(map(len, self._thumbnails.values())) > 64 * 2**20:
                del self._thumbnails[next(iter(self._thumbnails))]
        return Answer(self._thumbnails[key], "image/jpeg")

    def _file(self, request: Request) -> Answer:
        """Send a file of the folder."""
        path = self.folder.find(request.query.get("name", ""))
        kind = _SHOWN_TYPES.get(path.suffix.lower(), "application/octet-stream")
        headers = {}
        if "download" in request.query or kind == "application/octet-stream":
            headers["Content-Disposition"] = "attachment"
        if kind.startswith("video/") and not headers:
            with path.open("rb") as file:
                return Answer.part(file, kind, request.range)
        return Answer(path.read_bytes(), kind, headers)

    def _step(self, request: Request) -> Answer:
        """Send the picture of a kept step of a job, or of its last step."""
        job = self.jobs.find(request.query.get("job", ""))
        step = request.query.get("step", "")
        path = self.jobs.path(job) / STEP_PICTURE
        if step.isascii() and step.isdigit():
            path = state_file(self.jobs.path(job), int(step[:9])).with_suffix(".jpg")
        try:
            return Answer(path.read_bytes(), "image/jpeg")
        except OSError as error:
            raise RequestError(HTTPStatus.NOT_FOUND, "no picture of this step") from error

    def _upload(self, request: Request) -> Answer:
        """Store a file that was dropped on the page."""
        name = request.query.get("name", "")
        path = self.folder.store(name, request.body, request.length)
        return Answer.of({"name": self.folder.name(path), "kind": kind_of_file(str(path))})

    def _preview(self, request: Request) -> Answer:
        """Make a small result at once."""
        job = self._job_line(request.json())
        asked = {"do": "preview", "line": job.words, "inputs": job.inputs}
        self._previews.append(base64.b64decode(self._workers.ask(asked)["image"]))
        self._preview_count += 1
        return Answer.of({"preview": self._preview_count})

    def _preview_picture(self, request: Request) -> Answer:
        """Send one of the last previews."""
        number = request.query.get("number", "")
        age = self._preview_count - int(number) if number.isascii() and number[:9].isdigit() else -1
        if not 0 <= age < len(self._previews):
            raise RequestError(HTTPStatus.NOT_FOUND, "no such preview")
        return Answer(self._previews[-1 - age], "image/jpeg")

    def _start(self, request: Request) -> Answer:
        """Put a job into the queue."""
        job = self._job_line(request.json())
        if job.kind == UNITS:
            return Answer.of({"job": self.jobs.add(job, COMMAND, "").id})
        names = [self._path_or_sample(name) for name in job.inputs]
        spec = resolve(names[:1], names[1:2], dim=DIMS.get(job.kind), modality=job.kind)
        target = spec.outputs[0]
        suffix = "".join(target.suffixes[-2:]) if target.name.endswith(".gz") else target.suffix
        stem = target.name.removesuffix(suffix)
        if Path(names[0]).is_dir():  # a browser downloads one file
            stem, suffix = target.name, ".nii.gz"
        return Answer.of({"job": self.jobs.add(job, stem, suffix).id})

    def _again(self, request: Request) -> Answer:
        """Make a result again from its record."""
        path = self.folder.find(str(request.json().get("name", "")))
        record = self._files.record_of(path)
        if record is None:
            raise RequestError(HTTPStatus.NOT_FOUND, "this file has no record of how it was made")
        name = self.folder.name(path)
        stem = f"{path.name.removesuffix(path.suffix)}-rerun"
        pairs = zip(record["found"], record["inputs"], strict=True)
        inputs = [found or recorded for found, recorded in pairs]
        line = JobLine(record["line"], inputs, kind_of_file(str(path)))
        return Answer.of({"job": self.jobs.add(line, stem, path.suffix, record=name).id})

    def _job_line(self, typed: Mapping[str, Any]) -> JobLine:
        return read_job_line(typed, self._path_or_sample)

    def _path_or_sample(self, name: str) -> str:
        return name if samples.is_sample(name) else str(self.folder.find(name, series=True))

    def _change(self, job: ViewJob, typed: Mapping[str, Any]) -> None:
        """Change options of a running job."""
        self.jobs.change(job, changed_options(typed))

    def _continue(self, job: ViewJob, typed: Mapping[str, Any]) -> None:
        """Continue a job, from a kept step if one is named, and with other options."""
        step = typed.get("step")
        self.jobs.go_on(job, step if isinstance(step, int) else None, changed_options(typed))

    def _on_job(
        self, work: Callable[[ViewJob, Mapping[str, Any]], None]
    ) -> Callable[[Request], Answer]:
        def answer(request: Request) -> Answer:
            typed = request.json()
            work(self.jobs.find(str(typed.get("job", ""))), typed)
            return Answer.of({})

        return answer


def _static(request: Request) -> Answer:
    """Send a file of the page itself."""
    name = request.path or "index.html"
    kind = _KINDS.get(Path(name).suffix)
    if request.method != "GET" or kind is None or name not in _static_names():
        raise RequestError(HTTPStatus.NOT_FOUND, "nothing here")
    return Answer((_STATIC / name).read_bytes(), kind)


def _static_names() -> set[str]:
    return {path.relative_to(_STATIC).as_posix() for path in _STATIC.rglob("*") if path.is_file()}
