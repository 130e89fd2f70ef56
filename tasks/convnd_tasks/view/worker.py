"""The process that computes for ``convnd view``: thumbnails, previews and jobs.

It reads requests from stdin and answers on stdout, see `convnd_tasks.view.lines`. When stdin ends,
the server has gone: a job then stops after its step and keeps its checkpoint.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from convnd.errors import ConvndError, StopSignal, UsageError, as_convnd_error
from convnd.malloc import tune_malloc
from convnd_tasks.pipeline.provenance import MEASURED
from convnd_tasks.pipeline.recorded_command import check_line, parse_record
from convnd_tasks.pipeline.recorded_inputs import PLACE, fill_places, find_input, search_folders
from convnd_tasks.view.data_requests import DataRequests
from convnd_tasks.view.lines import read_messages, write_message
from convnd_tasks.view.small_copies import LONGEST, SmallCopies
from convnd_tasks.view.units import COMMAND, check_search

__all__ = ["main"]

_FORM = "a job of a page"
_SMALLEST = ["stylize", "{0}", "--style={1}", "--dim=2", "--instant", "--size=64"]
_LONGEST_FIGURE = 4000
"""Characters of a measured figure, at most: those of a scan's anatomy are many, and none is cut."""

_SMALL = 192
"""Pixels of a built-in sample that is drawn small: it is made anew, which takes its time."""


class _Worker:
    """Does one request after the other; a request to stop is heeded at once.

    Args:
        reply: sends a message to the server.
    """

    def __init__(self, reply: Callable[[dict[str, Any]], None]) -> None:
        self._reply = reply
        self._requests: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._job: Any = None
        self._is_stopped = False
        self._changes: queue.SimpleQueue[Mapping[str, str]] = queue.SimpleQueue()
        self._data = DataRequests()
        self._copies = SmallCopies()

    def read(self) -> None:
        """Read requests until the server goes."""
        for message in read_messages(sys.stdin.buffer):
            if message.get("do") == "stop":
                self._stop()
            elif message.get("do") == "change":
                self._changes.put(message["options"])
                self._pass_changes()
            else:
                self._requests.put(message)
        self._requests.put(None)
        self._stop()

    def _pass_changes(self) -> None:
        """Pass changes on to the job; those that come before it wait for it."""
        while self._job is not None:
            try:
                self._job.change(self._changes.get_nowait())
            except queue.Empty:
                return

    def _stop(self) -> None:
        """Stop the job as a signal does; one that has not begun does not begin."""
        self._is_stopped = True
        if self._job is not None:
            os.kill(os.getpid(), signal.SIGTERM)

    def work(self) -> None:
        """Do requests until the server goes."""
        work: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "warm": self._warm,
            "thumbnail": self._thumbnail,
            "describe": self._describe,
            "preview": self._preview,
            "job": self._run,
            **self._data.answers,
        }
        while (request := self._requests.get()) is not None:
            try:
                answer = work[request["do"]](request)
            except (StopSignal, KeyboardInterrupt):
                answer = {"stopped": True}
            except Exception as error:
                answer = {"error": _message(error)}
            self._job = None
            self._reply({"id": request["id"], **answer})

    def _warm(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Load what every request needs, and for previews the network as well."""
        for module in (
            "convnd.transfer.instant",
            "convnd_tasks.modalities.images.modality",
            "convnd_tasks.pipeline.job",
        ):
            import_module(module)
        if request["previews"]:
            self._warm_network()
        return {}

    def _warm_network(self) -> None:
        """Make a preview of two tiny pictures."""
        from PIL import Image

        with TemporaryDirectory(prefix="convnd-view-") as folder:
            paths = [str(Path(folder) / name) for name in ("content.png", "style.png")]
            for path in paths:  # built-in pictures take longer to be made than the preview
                Image.linear_gradient("L").resize((64, 48)).convert("RGB").save(path)
            self._preview({"line": _SMALLEST, "inputs": paths})

    def _thumbnail(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Draw a file or a sample small."""
        from convnd import io
        from convnd.grid import Grid
        from convnd_tasks import samples
        from convnd_tasks.runtime.pictures import jpeg

        name, side = str(request["name"]), int(request["side"])
        if samples.is_sample(name):
            make = samples.content if name in samples.CONTENTS else samples.style
            dim, size = int(request["dim"]), _SMALL if side <= _SMALL else None
            grid = make(name, spatial_dims=dim, size=size if dim == 2 else None)
        elif (
            io.is_video(name) and Path(name).is_file()
        ):  # the first frame: a long video need not be decoded
            grid = Grid(values=next(iter(io.open_video(name).frames())).values)
        else:
            grid = io.read(self._copies.path(name) if side <= LONGEST else name)
        return {"image": base64.b64encode(jpeg(grid, side)).decode(), "size": list(grid.shape)}

    def _describe(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the record inside a result says."""
        from convnd import io

        path = Path(request["name"])
        record = io.read_provenance(path)
        try:
            line, entries = parse_record(path, record)
        except ConvndError:
            return {"record": None}
        names = [str(entry["name"]) for entry in entries]
        fields = {
            name.removeprefix("convnd:"): text[:200]
            for name, text in record.items()
            if name.removeprefix("convnd:") in _SHOWN
        }
        figures = {
            name.removeprefix(MEASURED): text[:_LONGEST_FIGURE]
            for name, text in record.items()
            if name.startswith(MEASURED)
        }
        described = {"line": line, "inputs": names, "fields": fields, "figures": figures}
        return {"record": {**described, "found": [_find(entry, path) for entry in entries]}}

    def _preview(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Make a small result in one pass of a network."""
        from convnd import cli, io
        from convnd_tasks.runtime.pictures import jpeg

        inputs = [self._copies.path(name) for name in request["inputs"]]
        with TemporaryDirectory(prefix="convnd-view-") as folder:
            target = Path(folder) / "preview.png"
            settings = ("--no-figures", "--no-metadata", "--quiet", "-o", str(target))
            cli.run([*_words({**request, "inputs": inputs}), *settings])
            return {"image": base64.b64encode(jpeg(io.read(target))).decode()}

    def _run(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Run a job as the command line does, and report its steps."""
        from convnd import cli
        from convnd_tasks.pipeline.watching import watch
        from convnd_tasks.view.live import LiveJob

        def report(event: dict[str, Any]) -> None:
            self._reply({"id": request["id"], "event": event})

        self._job = LiveJob(Path(request["state"]), report, request.get("pictures", 0))
        self._pass_changes()
        if self._is_stopped:
            return {"stopped": True}
        words = [*_words(request), *map(str, request["settings"])]
        with watch(self._job):
            code = cli.run(words)
        return {"done": True} if not code else {"error": f"exit code {code}"}


_SHOWN = ("steps_taken", "loss", "stopped", "modality", "size", "strength", "style_scale", "colors")


def _words(request: Mapping[str, Any]) -> list[str]:
    """Return the words of a request's command, which is checked as one out of a record."""
    from convnd import io

    line: Sequence[str] = request["line"]
    inputs: Sequence[str] = request["inputs"]
    if request.get("record"):  # made again: the files are found by their sha256
        path = Path(request["record"])
        line, entries = parse_record(path, io.read_provenance(path))
        check_line(path, line, len(entries), trusted=False)
        return fill_places(line, entries, search_folders([Path("inputs")], path, deep=False))
    if line and line[0] == COMMAND:
        check_search(line, len(inputs))
        return _fill(line, inputs)
    record = {
        "convnd:command": json.dumps(line),
        "convnd:inputs": json.dumps([{"name": Path(name).name} for name in inputs]),
        "convnd:record": "2",
    }
    line, _ = parse_record(Path(_FORM), record)
    check_line(Path(_FORM), line, len(inputs), trusted=False)
    return _fill(line, inputs)


def _fill(line: Sequence[str], inputs: Sequence[str]) -> list[str]:
    """Return the words of a command with the names of its inputs."""
    return [PLACE.sub(lambda place: inputs[int(place[1])], word) for word in line]


def _find(entry: Mapping[str, str], result: Path) -> str | None:
    """Return the name of an input of a record in the folder of the page; None if it is not there.

    Only a file with the recorded sha256 counts.
    """
    try:
        found = find_input(entry, search_folders([Path("inputs")], result, deep=False))
    except ConvndError:
        return None
    return found if "sha256" not in entry else os.path.relpath(found)


def _message(error: Exception) -> str:
    from convnd import cli

    if isinstance(error, cli.CommandLineError):
        return cli.usage_message(error)
    return str(as_convnd_error(error) or UsageError(str(error)))


def main() -> None:
    """Serve the process that started this one."""
    tune_malloc()
    StopSignal.catch()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no message
    sys.stdout = sys.stderr

    def reply(message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # the server has gone; the reader stops the job
            write_message(answers, message)

    worker = _Worker(reply)
    threading.Thread(target=worker.read, daemon=True).start()
    with contextlib.suppress(StopSignal, KeyboardInterrupt):
        worker.work()


if __name__ == "__main__":
    main()
