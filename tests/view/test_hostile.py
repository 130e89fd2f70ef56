"""Hostile requests, and the answer to each as it is listed in the documentation."""

from __future__ import annotations

import re
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from convnd_tasks.view import server as server_module
from convnd_tasks.view.folder import ViewFolder
from convnd_tasks.view.run import serve
from hostile_requests import HOSTILE, Hostile, answer_text
from page_client import Client
from page_folder import SECRET, make_folder

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "page-requests.md"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path)


def listed() -> dict[str, str]:
    """The requests of the documentation, with their answers."""
    rows = re.findall(r"^\| (.+) \| (.+) \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    return dict(rows[1:])  # below the heading


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda one: one.text)
def test_a_hostile_request_gets_the_answer_of_the_documentation(
    client: Client, folder: Path, hostile: Hostile
) -> None:
    replies = hostile.send(client)
    answers = list(dict.fromkeys(map(answer_text, replies)))
    assert "; ".join(answers) == listed()[hostile.text]
    for reply in replies:
        assert client.token.encode() not in reply.body
        assert SECRET not in reply.body
        assert "X-Injected" not in reply.headers
        assert reply.headers["Content-Security-Policy"].startswith("default-src 'self';")
    assert client.send("GET", "api/state").status == 200  # and the page goes on


def test_every_listed_request_is_sent() -> None:
    others = [text for text in listed() if text not in {one.text for one in HOSTILE}]
    words = ("slow loris", "refused requests", "decompression bomb", "--read-only")
    assert len(others) == len(words)
    assert all(word in text for word, text in zip(words, others, strict=True))


def connect(client: Client, text: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", client.port), timeout=20)
    connection.sendall(text.encode())
    return connection


def is_closed(connection: socket.socket) -> bool:
    """Whether the server has ended a connection; it waits for that."""
    try:
        while connection.recv(4096):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


def test_slow_connections_make_room(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = [connect(client, "GET / HTTP/1.1\r\nHo") for _ in range(300)]
    assert client.send("GET", "api/state").status == 200
    assert all(map(is_closed, slow[:40]))  # the oldest
    assert threading.active_count() < 300
    for connection in slow:
        connection.close()
    monkeypatch.setattr(server_module, "_IDLE_SECONDS", 0.3)
    trickle = connect(client, "GET / HTTP/1.1\r\n")
    trickle.settimeout(0.05)
    ends = time.monotonic() + 20
    with pytest.raises(OSError, match=r"Broken pipe|reset"):  # closed, though something comes
        while time.monotonic() < ends:
            trickle.sendall(b"a")
            time.sleep(0.02)
    trickle.close()


def test_slow_bodies_of_refused_requests_hold_up_nothing(client: Client) -> None:
    head = "POST /wrong/ HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
    slow = [connect(client, head) for _ in range(80)]
    ends, open_ones = time.monotonic() + 20, slow
    while open_ones and time.monotonic() < ends:
        assert client.send("GET", "api/state").status == 200
        open_ones = [one for one in open_ones if _sends(one)]
        time.sleep(0.1)
    assert open_ones == []
    for connection in slow:
        connection.close()


def _sends(connection: socket.socket) -> bool:
    try:
        connection.sendall(b"x")
    except OSError:
        return False
    return True


def test_a_read_only_page_changes_nothing(start: Callable[..., Client], folder: Path) -> None:
    client = start(read_only=True)
    before = sorted(folder.rglob("*"))
    kind = {"Content_Type": "application/octet-stream"}
    replies = [client.send("POST", "api/upload?name=a.png", b"x", **kind)]
    replies += [client.post(f"api/{path}", {}) for path in ("start", "again", "stop", "remove")]
    (answer,) = {answer_text(reply) for reply in replies}
    assert answer == list(listed().values())[-1]
    assert sorted(folder.rglob("*")) == before


def bomb(side: int) -> bytes:
    """A black picture, as PNG."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(side + 1)) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


@pytest.mark.slow
def test_a_decompression_bomb_is_stored_and_not_decoded(folder: Path) -> None:
    data = bomb(30_000)
    assert len(data) < 2**20
    with serve(ViewFolder(folder), [], warm=False) as (server, _):
        client = Client(server.guard.address)
        kind = {"Content_Type": "application/octet-stream"}
        assert client.send("POST", "api/upload?name=bomb.png", data, **kind).status == 200
        drawn = client.send("GET", "api/thumbnail?name=inputs/bomb.png&side=64")
        typed = {"content": "inputs/bomb.png", "styles": ["waves"], "options": {"instant": True}}
        preview = client.post("api/preview", typed)
        assert (drawn.status, preview.status) == (422, 422)
        assert client.send("GET", "api/thumbnail?name=red.png&side=64").status == 200
