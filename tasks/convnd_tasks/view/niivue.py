"""NiiVue, which draws scans in three dimensions: the script that the package ipyniivue carries."""

from __future__ import annotations

import base64
import functools
import importlib.metadata
import re
from collections.abc import Callable, Mapping
from http import HTTPStatus

from convnd_tasks.view.guard import RequestError
from convnd_tasks.view.server import Answer, Request

__all__ = ["ROUTES", "is_installed"]

_PACKAGE = "ipyniivue"
_SCRIPT = "ipyniivue/static/widget.js"
_OLDEST, _FIRST_OTHER = (2, 4), (3,)
_PICTURE = re.compile(rb'"data:image/(png|jpeg);base64,([A-Za-z0-9+/=]+)"')


def is_installed() -> bool:
    """Return whether ipyniivue is installed, in a version that the page knows.

    Its code is not imported, so the packages that it needs in a notebook may be missing.
    """
    try:
        distribution = importlib.metadata.distribution(_PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return False
    version = tuple(map(int, re.findall(r"\d+", distribution.version)[:2]))
    is_known = _OLDEST <= version < _FIRST_OTHER
    return is_known and distribution.locate_file(_SCRIPT).is_file()  # type: ignore[attr-defined]


@functools.cache
def _parts() -> tuple[bytes, list[tuple[str, bytes]]]:
    """Read the script, and take the pictures out of it, which are its font and its light.

    The page allows pictures of its own server alone. So each ``data:`` address in the script
    becomes one of this server.
    """
    path = importlib.metadata.distribution(_PACKAGE).locate_file(_SCRIPT)
    pictures: list[tuple[str, bytes]] = []

    def take(found: re.Match[bytes]) -> bytes:
        pictures.append((f"image/{found[1].decode()}", base64.b64decode(found[2])))
        return f'"api/niivue-picture?number={len(pictures) - 1}"'.encode()

    return _PICTURE.sub(take, path.read_bytes()), pictures  # type: ignore[attr-defined]


def _check_installed() -> None:
    if not is_installed():
        raise RequestError(HTTPStatus.NOT_FOUND, "NiiVue is not installed")


def _script(request: Request) -> Answer:
    """Send the script. Another query is another module to a browser: each makes one view."""
    del request
    _check_installed()
    return Answer(_parts()[0], "text/javascript; charset=utf-8")


def _picture(request: Request) -> Answer:
    """Send a picture of the script."""
    _check_installed()
    number, pictures = request.query.get("number", ""), _parts()[1]
    if not (number.isascii() and number.isdigit() and int(number[:4]) < len(pictures)):
        raise RequestError(HTTPStatus.NOT_FOUND, "no such picture")
    kind, data = pictures[int(number)]
    return Answer(data, kind)


ROUTES: Mapping[str, Callable[[Request], Answer]] = {
    "niivue": _script,
    "niivue-picture": _picture,
}
"""The function that answers each request, by its path."""
