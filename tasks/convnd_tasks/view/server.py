"""The web server of ``convnd view``, on this machine only."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.errors import FirstHeaderLineIsContinuationDefect, MissingHeaderBodySeparatorDefect
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from threading import BoundedSemaphore
from typing import Any, BinaryIO
from urllib.parse import parse_qs, unquote, urlsplit

from convnd.errors import ConvndError, UsageError
from convnd_tasks.view.guard import HEADERS, Guard, RequestError

__all__ = ["Answer", "Request", "ViewServer"]

_LOG = logging.getLogger(__name__)
_LARGEST_JSON = 2**20
_MOST_REQUESTS = 64
_MOST_CONNECTIONS = 256
_IDLE_SECONDS = 60.0
_LARGEST_PART = 2**22
_RANGE = re.compile(r"bytes=(\d{1,15})-(\d{1,15})?", re.ASCII)
_NO_HEADERS = (MissingHeaderBodySeparatorDefect, FirstHeaderLineIsContinuationDefect)
_LINGER_SECONDS = 1.0
_LINGER_BYTES = 2**16


@dataclass(frozen=True)
class Request:
    """A request that the guard has let through.

    Args:
        method: ``"GET"`` or ``"POST"``.
        path: path behind the token, without query, decoded.
        query: the first value of each parameter.
        length: bytes of the body.
        body: the stream of the body.
        range: the part of a file that is asked for, as in its header, or "".
    """

    method: str
    path: str
    query: Mapping[str, str]
    length: int
    body: BufferedIOBase
    range: str = ""

    def json(self) -> dict[str, Any]:
        """Read the body as a JSON object.

        Raises:
            RequestError: it is too large, or no object.
        """
        if self.length > _LARGEST_JSON:
            raise RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too long a request")
        try:
            value = json.loads(self.body.read(self.length))
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise RequestError(HTTPStatus.BAD_REQUEST, "no JSON object")
        return value


@dataclass(frozen=True)
class Answer:
    """An answer.

    Args:
        body: the bytes, or pieces of them that are sent as they come.
        kind: media type.
        headers: further headers.
        status: status of the answer.
    """

    body: bytes | Iterator[bytes]
    kind: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    status: HTTPStatus = HTTPStatus.OK

    @classmethod
    def of(cls, value: object) -> Answer:
        """Make an answer of JSON."""
        return cls(json.dumps(value, allow_nan=False).encode())

    @classmethod
    def part(cls, file: BinaryIO, kind: str, wanted: str) -> Answer:
        """Make an answer of a part of a file, so that players can jump in it.

        Args:
            file: the file, which can seek.
            kind: media type.
            wanted: the range that was asked for, as in its header; "" or another form than
                ``bytes=FIRST-`` with or without an end is the whole file.
        """
        total = file.seek(0, 2)
        found = _RANGE.fullmatch(wanted)
        first = int(found[1]) if found else 0
        last = min(int(found[2]) if found and found[2] else total - 1, total - 1)
        if found is None or last < first:
            file.seek(0)
            return cls(file.read(), kind, {"Accept-Ranges": "bytes"})
        last = min(last, first + _LARGEST_PART - 1)
        file.seek(first)
        headers = {"Content-Range": f"bytes {first}-{last}/{total}", "Accept-Ranges": "bytes"}
        return cls(file.read(last - first + 1), kind, headers, HTTPStatus.PARTIAL_CONTENT)


class ViewServer(ThreadingHTTPServer):
    """Listens on 127.0.0.1, checks requests, and passes them on.

    Args:
        port: the port; 0 is any that is free.
        answer: answers a request, or raises `RequestError` or `ConvndError`.

    Raises:
        UsageError: the port cannot be used.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, port: int, answer: Callable[[Request], Answer]) -> None:
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as error:
            raise UsageError(
                "--port",
                expected="a free port",
                got=f"{port}",
                remedy="leave it out, or choose another",
            ) from error
        self.guard = Guard(self.server_address[1])
        self.answer = answer
        self.room = BoundedSemaphore(_MOST_REQUESTS)
        self._lock = threading.Lock()
        self._waiting: dict[socket.socket, float] = {}  # when each connection is given up

    def process_request(self, request: Any, client_address: Any) -> None:
        """Take a connection; of too many, the one that has waited longest for its request goes."""
        with self._lock:
            if len(self._waiting) >= _MOST_CONNECTIONS:
                longest = min(self._waiting, key=lambda one: self._waiting[one])
                del self._waiting[longest]
                _hang_up(longest)
            self._waiting[request] = time.monotonic() + _IDLE_SECONDS
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        with self._lock:
            self._waiting.pop(request, None)
        super().shutdown_request(request)

    def expect(self, connection: socket.socket, *, arrived: bool = False) -> None:
        """Give a connection some time for its next request, or all time once it has arrived."""
        with self._lock:
            if connection in self._waiting:
                seconds = math.inf if arrived else _IDLE_SECONDS
                self._waiting[connection] = time.monotonic() + seconds

    def service_actions(self) -> None:
        """Hang up connections whose request does not come, or comes byte by byte."""
        now = time.monotonic()
        with self._lock:
            for connection, ends in self._waiting.items():
                if ends < now:
                    _hang_up(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log the error of one request; a browser that leaves early is none."""
        del request, client_address
        _LOG.debug("request failed", exc_info=True)


def _hang_up(connection: socket.socket) -> None:
    """Let the thread of a connection end, which closes it."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS
    server: ViewServer

    def version_string(self) -> str:
        """Name the server without versions."""
        return "convnd"

    def log_message(self, format: str, *args: Any) -> None:
        """Log a request for developers; the path holds the token and is left out."""
        del format, args

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer a request that could not be parsed."""
        del explain
        if code == HTTPStatus.NOT_IMPLEMENTED:
            code, message = HTTPStatus.METHOD_NOT_ALLOWED, "only GET, HEAD and POST are answered"
        self._refuse(RequestError(HTTPStatus(code), message or "malformed request"))

    def handle_one_request(self) -> None:
        """Wait for a request, and answer it."""
        self.server.expect(self.connection)
        super().handle_one_request()

    def do_GET(self) -> None:
        """Answer a request that reads."""
        self._serve("GET")

    def do_HEAD(self) -> None:
        """Answer a request for headers."""
        self._serve("HEAD")

    def do_POST(self) -> None:
        """Answer a request that changes something."""
        self._serve("POST")

    def _serve(self, method: str) -> None:
        self.server.expect(self.connection, arrived=True)
        if not self.server.room.acquire(blocking=False):
            self._refuse(RequestError(HTTPStatus.SERVICE_UNAVAILABLE, "too many requests at once"))
            return
        refusal = None
        try:
            answer = self.server.answer(self._request(method))
        except RequestError as error:
            refusal = error
        except ConvndError as error:
            refusal = RequestError(HTTPStatus.BAD_REQUEST, str(error))
        else:
            self._send(method, answer)
        finally:
            self.server.room.release()
        if refusal is not None:  # which may take a second, and holds up no other request
            self._refuse(refusal)

    def _request(self, method: str) -> Request:
        """Check the request, without reading its body."""
        if any(isinstance(defect, _NO_HEADERS) for defect in self.headers.defects):
            raise RequestError(HTTPStatus.BAD_REQUEST, "a header line that is none")
        rest = self.server.guard.check(method, self.path, self.headers)
        length = ",".join(self.headers.get_all("Content-Length", ["0"] * (method != "POST")))
        is_count = length.isascii() and length.isdigit() and len(length) < 16
        if "Transfer-Encoding" in self.headers or not is_count:
            raise RequestError(HTTPStatus.LENGTH_REQUIRED, "the length of the body is missing")
        if method != "POST" and int(length):
            raise RequestError(HTTPStatus.BAD_REQUEST, "a body that is not read")
        parts = urlsplit(f"/{rest}")
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        method = "GET" if method == "HEAD" else method
        path = unquote(parts.path[1:])
        wanted = self.headers.get("Range", "")
        return Request(method, path, query, int(length), self.rfile, wanted)

    def _send(self, method: str, answer: Answer) -> None:
        streams = not isinstance(answer.body, bytes)
        self.close_connection |= streams
        self.send_response(answer.status)
        for name, value in {**HEADERS, **answer.headers, "Content-Type": answer.kind}.items():
            self.send_header(name, value)
        if isinstance(answer.body, bytes):
            self.send_header("Content-Length", str(len(answer.body)))
        else:
            self.send_header("Connection", "close")
        self.end_headers()
        if method == "HEAD":
            return
        for piece in (answer.body,) if isinstance(answer.body, bytes) else answer.body:
            self.wfile.write(piece)

    def _refuse(self, error: RequestError) -> None:
        """Answer with an error, and close: the body of the request was not read."""
        self.close_connection = True
        body = json.dumps({"error": error.text}).encode()
        self.send_response(error.status)
        headers = {**HEADERS, "Content-Type": "application/json", "Connection": "close"}
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self._linger()

    def _linger(self) -> None:
        """Read a little of a refused body: a connection with unread bytes would lose the answer."""
        with contextlib.suppress(OSError):
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_WR)
            ends, left = time.monotonic() + _LINGER_SECONDS, _LINGER_BYTES
            while left > 0 and (seconds := ends - time.monotonic()) > 0:
                self.connection.settimeout(seconds)
                block = self.connection.recv(left)
                if not block:
                    return
                left -= len(block)
