"""A client of `convnd view`, which can send what the page would never send."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any, NamedTuple

__all__ = ["Client", "Reply"]


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


def _reply(response: http.client.HTTPResponse) -> Reply:
    return Reply(response.status, dict(response.getheaders()), response.read())


class Client:
    """Sends requests as the page does; every part can be replaced."""

    def __init__(self, address: str) -> None:
        _, _, host, self.token, _ = address.split("/")
        self.port = int(host.partition(":")[2])
        self.origin = f"http://{host}"

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        token: str | None = None,
        **headers: str | None,
    ) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        sent: dict[str, str | None] = {"Host": f"127.0.0.1:{self.port}"}
        if method == "POST":
            sent |= {"Origin": self.origin, "Content-Type": "application/json"}
            sent["Content-Length"] = str(len(body or b""))
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        target = f"/{self.token if token is None else token}/{path}"
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in sent.items():
            if value is not None:
                connection.putheader(name, value)
        connection.endheaders(body)
        reply = _reply(connection.getresponse())
        connection.close()
        return reply

    @staticmethod
    def read(connection: socket.socket) -> Reply:
        """Read the answer to what was sent as it is."""
        response = http.client.HTTPResponse(connection)
        response.begin()
        return _reply(response)

    def first_event(self) -> dict[str, Any]:
        """What the stream of events begins with: all jobs."""
        stream = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        stream.request("GET", f"/{self.token}/api/events")
        line = stream.getresponse().readline()
        stream.close()
        event: dict[str, Any] = json.loads(line.removeprefix(b"data: "))
        return event

    def post(self, path: str, value: object, **headers: str | None) -> Reply:
        return self.send("POST", path, json.dumps(value).encode(), **headers)
