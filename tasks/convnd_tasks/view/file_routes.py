"""Requests of a page for the files of its folder: results with their records, and other inputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from convnd_tasks.view.folder import ViewFolder
from convnd_tasks.view.guard import RequestError
from convnd_tasks.view.kinds import kind_of_file
from convnd_tasks.view.processes import Workers
from convnd_tasks.view.server import Answer, Request

__all__ = ["FileRoutes"]

_MOST_FILES = 200  # the newest


class FileRoutes:
    """Answers requests for the files directly in the folder.

    Args:
        folder: the folder of the page.
        workers: processes that read files.

    Attributes:
        routes: the function that answers each request, by its path.
    """

    def __init__(self, folder: ViewFolder, workers: Workers) -> None:
        self._folder = folder
        self._workers = workers
        self._records: dict[tuple[str, float], Any] = {}
        self.routes: dict[str, Callable[[Request], Answer]] = {
            "results": self._results,
            "record": self._record,
        }

    def _results(self, request: Request) -> Answer:
        """List the newest files: results with what their records say, and files without a record.

        A page that only shows results counts every file as one.
        """
        del request
        results, inputs = [], []
        for path in self._folder.files()[:_MOST_FILES]:
            record, kind = self.record_of(path), kind_of_file(str(path))
            if record is not None or self._folder.read_only:
                results.append({"name": path.name, "kind": kind, "record": record})
            elif kind:
                inputs.append({"name": path.name, "kind": kind})
        return Answer.of({"results": results, "inputs": inputs})

    def _record(self, request: Request) -> Answer:
        """Send what the record inside a result says."""
        path = self._folder.find(request.query.get("name", ""))
        return Answer.of({"record": self.record_of(path)})

    def record_of(self, path: Path) -> Any:
        """Return the settings in a result's record; None if it has none."""
        try:
            key = path.name, path.stat().st_mtime
            if key not in self._records:
                request = {"do": "describe", "name": str(path)}
                self._records[key] = self._workers.ask(request)["record"]
            return self._records[key]
        except (OSError, RequestError):
            return None
