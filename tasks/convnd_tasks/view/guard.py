"""Decides which requests are answered: only those of the page that this server has opened."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from email.message import Message
from http import HTTPStatus

__all__ = ["HEADERS", "Guard", "RequestError"]

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Headers of every answer."""

_TYPES = ("application/json", "application/octet-stream")
"""Types of bodies that a form of another site cannot send without asking first."""


class RequestError(Exception):
    """A request is refused.

    Args:
        status: status of the answer.
        text: one line for users.
    """

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class Guard:
    """The secret of a server, and the checks of its requests.

    A page of another site can send requests to this machine, but cannot know the token, which is
    the first part of every path. A name that another site lets point to this machine arrives as
    another ``Host``.

    Args:
        port: the port that the server listens on.

    Attributes:
        token: 256 random bits, as text.
    """

    def __init__(self, port: int) -> None:
        self.token = secrets.token_urlsafe(32)
        self._hosts = (f"127.0.0.1:{port}", f"localhost:{port}")
        self._origins = tuple(f"http://{host}" for host in self._hosts)

    @property
    def address(self) -> str:
        """The address of the page, with the token."""
        return f"{self._origins[0]}/{self.token}/"

    def check(self, method: str, path: str, headers: Message) -> str:
        """Check a request.

        Args:
            method: ``"GET"``, ``"HEAD"`` or ``"POST"``.
            path: path and query as they were sent.
            headers: the headers.

        Returns:
            The path behind the token, with the query.

        Raises:
            RequestError: the request is not one of this page.
        """
        if headers.get("Host") not in self._hosts:
            raise RequestError(HTTPStatus.FORBIDDEN, "another host than 127.0.0.1")
        token, slash, rest = path.removeprefix("/").partition("/")
        if not slash or not hmac.compare_digest(token.encode(), self.token.encode()):
            raise RequestError(
                HTTPStatus.FORBIDDEN, "no valid token; open the address that convnd view prints"
            )
        site = headers.get("Sec-Fetch-Site", "none")
        origin = headers.get("Origin")
        if method == "POST":
            self._check_post(origin, site, headers.get("Content-Type", ""))
        elif site not in ("none", "same-origin") or origin not in (None, *self._origins):
            raise RequestError(HTTPStatus.FORBIDDEN, "a request of another site")
        return rest

    def _check_post(self, origin: str | None, site: str, kind: str) -> None:
        """Check a request that changes something."""
        if origin not in self._origins or site not in ("none", "same-origin"):
            raise RequestError(HTTPStatus.FORBIDDEN, "a request of another site")
        if kind.partition(";")[0].strip().lower() not in _TYPES:
            raise RequestError(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"a body of another type than {_TYPES[0]}"
            )
