"""Requests of a page for the searches of its folder: what excites the units of a network."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

from convnd_tasks.view.data_routes import whole
from convnd_tasks.view.folder import ViewFolder
from convnd_tasks.view.guard import RequestError
from convnd_tasks.view.processes import Workers
from convnd_tasks.view.server import Answer, Request
from convnd_tasks.view.units import TABLE

__all__ = ["UnitRoutes"]

_LAYER = re.compile(r"[\w-][\w.-]{0,80}", re.ASCII)


class UnitRoutes:
    """Answers requests for searches.

    Args:
        folder: the folder of the page.
        workers: processes that read files.

    Attributes:
        routes: the function that answers each request, by its path.
    """

    def __init__(self, folder: ViewFolder, workers: Workers) -> None:
        self._folder = folder
        self._workers = workers
        self.routes: dict[str, Callable[[Request], Answer]] = {
            "searches": self._searches,
            "search": self._search,
            "patch": self._patch,
        }

    def _searches(self, request: Request) -> Answer:
        """List the finished searches, the newest first."""
        del request
        tables = self._folder.root.glob(f"[!.]*/{TABLE}")
        found = sorted(((path.stat().st_mtime, path.parent.name) for path in tables), reverse=True)
        return Answer.of({"searches": [name for _, name in found]})

    def _find(self, request: Request) -> Path:
        return self._folder.find(f"{request.query.get('name', '')}/{TABLE}").parent

    def _search(self, request: Request) -> Answer:
        """Send the layers, units and patches of a search."""
        answer = self._workers.ask({"do": "search", "folder": str(self._find(request))})
        return Answer.of({"layers": answer["layers"]})

    def _patch(self, request: Request) -> Answer:
        """Send the picture of a patch."""
        layer = request.query.get("layer", "")
        if not _LAYER.fullmatch(layer):
            raise RequestError(HTTPStatus.BAD_REQUEST, "no name of a layer")
        unit, rank = (whole(request.query, name, 0, 10**6) for name in ("unit", "rank"))
        stem = f"{request.query.get('name', '')}/{layer}"
        try:
            path = self._folder.find(f"{stem}.npz")
        except RequestError:  # patches of scans are files of their own
            path = self._folder.find(f"{stem}/unit{unit:04d}_{rank}.nii.gz")
        asked = {"do": "patch", "name": str(path), "unit": unit, "rank": rank}
        answer = self._workers.ask(asked)
        return Answer(base64.b64decode(answer["data"]), "image/png")
