"""Requests that `convnd view` refuses, as they are listed in the documentation."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Sequence
from typing import NamedTuple

from page_client import Client, Reply

__all__ = ["HOSTILE", "Hostile", "answer_text"]

_BYTES = "application/octet-stream"


class Hostile(NamedTuple):
    """Requests of one kind.

    Args:
        text: what they are, as in the documentation.
        send: sends them.
    """

    text: str
    send: Callable[[Client], Sequence[Reply]]


def answer_text(reply: Reply) -> str:
    """Return the status and the message of an answer, as in the documentation."""
    if reply.status == 200:
        return f"200 `{reply.body.decode()}`"
    return f"{reply.status} {json.loads(reply.body)['error']}"


def _get(
    *paths: str, token: str | None = None, **headers: str | None
) -> Callable[..., list[Reply]]:
    return lambda client: [client.send("GET", path, token=token, **headers) for path in paths]


def _files(*names: str) -> Callable[..., list[Reply]]:
    """Ask for a file in every way in which a page can name one."""
    routes = ("file?name=", "record?name=", "signal?name=", "scan?name=", "clip?name=")
    paths = [f"api/{route}{name}" for name in names for route in routes]
    return _get(*paths, *(f"api/thumbnail?name={name}&side=64" for name in names))


def _post(
    path: str, body: bytes, kind: str | None = "application/json", **headers: str | None
) -> Callable[..., list[Reply]]:
    return lambda client: [client.send("POST", path, body, Content_Type=kind, **headers)]


def _raw(text: str) -> Callable[..., list[Reply]]:
    """Send a text as it is, with the token and the host filled in."""

    def send(client: Client) -> list[Reply]:
        sent = text.replace("TOKEN", client.token).replace("HOST", f"127.0.0.1:{client.port}")
        with socket.create_connection(("127.0.0.1", client.port), timeout=20) as connection:
            connection.sendall(sent.encode())
            return [client.read(connection)]

    return send


def _forms(client: Client) -> list[Reply]:
    kinds = ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain")
    return [client.send("POST", "api/start", b"a=b", Content_Type=kind) for kind in kinds]


_START = json.dumps({"content": "town", "styles": ["waves"], "options": {}}).encode()
_FOREIGN = "http://evil.example"
_METHODS = ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT")

HOSTILE = (
    Hostile(
        "`Host` of another name that leads to this computer (DNS rebinding)",
        _get("", Host="evil.example"),
    ),
    Hostile(
        "`Host` with another port, or none",
        lambda client: [
            client.send("GET", "", Host=host) for host in ("127.0.0.1:1", "127.0.0.1", None)
        ],
    ),
    Hostile("no token", _get("", "api/state", token="")),
    Hostile("a wrong token", _get("", "api/state", token="A" * 43)),
    Hostile("the stream of events without the token", _get("api/events", token="A" * 43)),
    Hostile(
        "a WebSocket handshake without the token",
        _get("", token="", Upgrade="websocket", Connection="Upgrade"),
    ),
    Hostile(
        "a WebSocket handshake with the token",
        _get("api/socket", Upgrade="websocket", Connection="Upgrade"),
    ),
    Hostile(
        "a script of another site that reads (`Origin`)",
        _get("api/state", "api/events", Origin=_FOREIGN),
    ),
    Hostile(
        "a script of another site that starts a job", _post("api/start", _START, Origin=_FOREIGN)
    ),
    Hostile(
        "a script in a sandbox or a local file (`Origin: null`)",
        _post("api/start", _START, Origin="null"),
    ),
    Hostile(
        "a picture or frame of another site (`Sec-Fetch-Site`)",
        _get("", Sec_Fetch_Site="cross-site"),
    ),
    Hostile(
        "a form of another site",
        _post("api/start", b"a=b", "multipart/form-data; boundary=x", Origin=_FOREIGN),
    ),
    Hostile("a form, of whatever site", _forms),
    Hostile("a body without a type", _post("api/start", _START, None)),
    Hostile(
        "a file by `../`", _files("../elsewhere/secret.png", "inputs/../../elsewhere/secret.png")
    ),
    Hostile(
        "a file by `..%2f`, encoded once, twice or in UTF-8 that is too long",
        _files(
            "..%2felsewhere%2fsecret.png",
            "..%252felsewhere%252fsecret.png",
            "%2e%2e/elsewhere/secret.png",
            "%c0%ae%c0%ae/elsewhere/secret.png",
        ),
    ),
    Hostile(
        "a file by an absolute path", _files("/etc/passwd", "%2fetc%2fpasswd", "file:///etc/passwd")
    ),
    Hostile("a file by a link out of the folder", _files("link.png")),
    Hostile(
        "a hidden file, or one of the page's own",
        _files(".hidden.png", ".convnd-view/000001/job.json"),
    ),
    Hostile("a file by backslashes or a drive", _files("..\\elsewhere\\secret.png", "C:red.png")),
    Hostile("a name with NUL", _files("red.png%00", "red.png%00.png")),
    Hostile("a name with CR and LF", _files("red.png%0d%0aX-Injected:%201")),
    Hostile("a script of the page by `../`", _get("../app.py", "%2e%2e/app.py", "..%2fapp.py")),
    Hostile(
        "an upload with CR, LF and a path in its name",
        _post("api/upload?name=../a%0d%0ab.png", b"x", _BYTES),
    ),
    Hostile(
        "an upload of 2 GB",
        _post("api/upload?name=a.png", b"x", _BYTES, Content_Length=str(2 * 10**9)),
    ),
    Hostile(
        "a folder of 2 GB",
        _post("api/upload-series?name=a", b"[1999999987]\n", _BYTES, Content_Length=str(2 * 10**9)),
    ),
    Hostile(
        "an upload in chunks, whose length is not known",
        _post(
            "api/upload?name=a.png", b"", _BYTES, Content_Length=None, Transfer_Encoding="chunked"
        ),
    ),
    Hostile(
        "two lengths of one body (request smuggling)",
        _raw(
            "POST /TOKEN/api/upload?name=a.png HTTP/1.1\r\nHost: HOST\r\nOrigin: http://HOST\r\n"
            f"Content-Type: {_BYTES}\r\nContent-Length: 1\r\nContent-Length: 9\r\n\r\nx"
        ),
    ),
    Hostile(
        "an upload of a web page or a program",
        lambda client: [
            client.send("POST", f"api/upload?name={name}", b"x", Content_Type=_BYTES)
            for name in ("a.html", "a.py", "a.svg")
        ],
    ),
    Hostile("JSON of more than 1 MiB", _post("api/start", b" " * (2**20 + 1))),
    Hostile("JSON of 100,000 brackets", _post("api/start", b"[" * 100_000)),
    Hostile(
        "a job with a file out of the folder",
        _post(
            "api/start",
            b'{"content": "../elsewhere/secret.png", "styles": ["waves"], "options": {}}',
        ),
    ),
    Hostile(
        "a job with a word that is no option",
        _post(
            "api/start", b'{"content": "town", "styles": ["waves"], "options": {"-o": "/tmp/x"}}'
        ),
    ),
    Hostile(
        "another method (" + ", ".join(_METHODS) + ")",
        lambda client: [client.send(method, "api/state") for method in _METHODS],
    ),
    Hostile("a reading request with a body", _get("api/state", Content_Length="5")),
    Hostile("an address of 70,000 characters", _get("api/file?name=" + "a" * 70_000)),
    Hostile("200 headers", _get("", **{f"X-{number}": "1" for number in range(200)})),
    Hostile(
        "a header line that is none", _raw("GET /TOKEN/ HTTP/1.1\r\nHost: HOST\r\nnonsense\r\n\r\n")
    ),
)
