"""The server of `convnd view` answers its own page, and refuses everything else."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import Run
from convnd_tasks.view.folder import LARGEST_UPLOAD
from convnd_tasks.view.guard import RequestError
from convnd_tasks.view.options import option_words
from page_client import Client
from page_folder import SECRET, make_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path)


def test_the_page_is_answered_with_headers_that_let_nothing_else_in(client: Client) -> None:
    reply = client.send("GET", "")
    assert reply.status == 200
    assert reply.headers["Content-Type"].startswith("text/html")
    assert reply.headers["Content-Security-Policy"].startswith("default-src 'self';")
    assert "unsafe" not in reply.headers["Content-Security-Policy"]
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert reply.headers["Referrer-Policy"] == "no-referrer"
    assert not {"Server-Version", "Set-Cookie", "Access-Control-Allow-Origin"} & set(reply.headers)
    assert client.send("HEAD", "").body == b""


def test_the_server_listens_on_this_computer_only(client: Client) -> None:
    own = socket.gethostbyname(socket.gethostname())
    if own.startswith("127."):
        pytest.skip("this computer has no other address")
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((own, client.port), timeout=5)


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1", "localhost:1", "127.0.0.1.evil:80", None]
)
def test_another_host_is_refused(client: Client, host: str | None) -> None:
    """A name of another site that leads to this computer (DNS rebinding)."""
    assert client.send("GET", "", Host=host).status == 403


@pytest.mark.parametrize("token", ["", "x", "token", "%2e%2e", "../" + "A" * 43])
def test_a_wrong_token_is_refused(client: Client, token: str) -> None:
    for path in ("", "api/state", "api/file?name=red.png"):
        reply = client.send("GET", path, token=token)
        assert reply.status == 403
        assert client.token.encode() not in reply.body
    assert client.post("api/start", {}, token=token).status == 403


def test_two_servers_have_two_long_tokens(start: Callable[..., Client]) -> None:
    first, second = start(), start()
    assert first.token != second.token
    assert min(len(first.token), len(second.token)) >= 43


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": None},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
    ids=str,
)
def test_requests_of_other_sites_are_refused(client: Client, headers: dict[str, Any]) -> None:
    assert client.post("api/stop", {"job": "000001"}, **headers).status == 403
    if headers != {"Origin": None}:
        assert client.send("GET", "api/state", **headers).status == 403


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", None],
)
def test_a_form_of_another_site_is_refused(client: Client, kind: str | None) -> None:
    """Forms can send these types without asking first, here even with the right origin."""
    reply = client.post("api/start", {"content": "town", "styles": []}, Content_Type=kind)
    assert reply.status == 415


@pytest.mark.parametrize(
    "name",
    [
        "../elsewhere/secret.png",
        "..%2Felsewhere%2Fsecret.png",
        "%2e%2e/elsewhere/secret.png",
        "/etc/passwd",
        "inputs/../../elsewhere/secret.png",
        "link.png",
        ".hidden.png",
        ".convnd-view/000001/job.json",
        "red.png%00.png",
        "..\\elsewhere\\secret.png",
        "C:red.png",
        "",
        ".",
        "x" * 5000,
    ],
)
def test_no_path_leads_out_of_the_folder(client: Client, name: str) -> None:
    for path in (
        *(f"api/{route}?name={name}" for route in ("file", "signal", "scan", "spectrum")),
        f"api/thumbnail?name={name}&side=64",
        f"api/traces?name={name}&leads=[]&start=0&end=1&points=2",
        f"api/plane?name={name}&axis=0&index=0",
        f"api/clip?name={name}",
        f"api/sample-clip?name={name}",
        f"api/record?name={name}",
        f"api/search?name={name}",
        f"api/patch?name={name}&layer=a&unit=0&rank=1",
        f"{name}",
    ):
        if path:
            reply = client.send("GET", path)
            assert reply.status in (403, 404, 414), path
            assert SECRET not in reply.body
    typed = {"content": name, "styles": ["waves"], "options": {}}
    assert client.post("api/start", typed).status in (400, 404)
    assert client.post("api/again", {"name": name}).status == 404
    assert client.post("api/keep-frame", {"name": name, "frame": 0}).status == 404


def test_a_picture_of_the_folder_is_sent_and_other_files_are_downloads(
    client: Client, folder: Path
) -> None:
    reply = client.send("GET", "api/file?name=red.png")
    assert (reply.status, reply.headers["Content-Type"]) == (200, "image/png")
    assert reply.body == (folder / "red.png").read_bytes()
    (folder / "page.html").write_text("<script>alert(1)</script>")
    (folder / "drawing.svg").write_text("<svg onload='alert(1)'/>")
    for name in ("page.html", "drawing.svg"):
        reply = client.send("GET", f"api/file?name={name}")
        assert reply.headers["Content-Type"] == "application/octet-stream"
        assert reply.headers["Content-Disposition"] == "attachment"


def test_a_part_of_a_video_is_sent(client: Client, folder: Path) -> None:
    data = bytes(range(256)) * 20_000  # over the largest part
    (folder / "a.mp4").write_bytes(data)
    whole = client.send("GET", "api/file?name=a.mp4")
    assert (whole.status, whole.body) == (200, data)
    for wanted, first, last in (
        ("bytes=0-9", 0, 9),
        ("bytes=5000000-", 5_000_000, len(data) - 1),
        ("bytes=7-99999999999", 7, 7 + 2**22 - 1),
    ):
        reply = client.send("GET", "api/file?name=a.mp4", Range=wanted)
        assert (reply.status, reply.body) == (206, data[first : last + 1])
        assert reply.headers["Content-Range"] == f"bytes {first}-{last}/{len(data)}"
    for wanted in ("bytes=9-3", "bytes=-5", "bytes=0-1,4-5", "lines=1-2", "bytes=" + "9" * 5000):
        reply = client.send("GET", "api/file?name=a.mp4", Range=wanted)
        assert (reply.status, len(reply.body)) == (200, len(data))


def test_an_upload_of_two_gigabytes_is_refused_before_it_arrives(
    client: Client, folder: Path
) -> None:
    began = time.monotonic()
    size = {"Content_Length": str(2 * 10**9), "Content_Type": "application/octet-stream"}
    reply = client.send("POST", "api/upload?name=large.png", b"x" * 100, **size)
    assert reply.status == 413
    assert f"{LARGEST_UPLOAD >> 20} MiB" in reply.body.decode()
    assert time.monotonic() - began < 10  # the rest never came
    assert not (folder / "inputs").exists()


@pytest.mark.parametrize("length", [None, "-1", "1e3", "9" * 5000, "²"])
def test_a_body_without_a_length_is_refused(client: Client, length: str | None) -> None:
    kind = "application/octet-stream"
    raw = (
        {"Content_Length": length, "Content_Type": kind}
        if length != "²"
        else {"Content_Type": kind, "Transfer_Encoding": "chunked"}
    )
    assert client.send("POST", "api/upload?name=a.png", b"", **raw).status == 411


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("photo.png", "photo.png"),
        ("../../up.png", "up.png"),
        ("..%5C..%5Cup.png", "up.png"),
        (".hidden.png", "hidden.png"),
        ("a%0Ab%3Cscript%3E.png", "a_b_script_.png"),
        ("Größe%20%C3%A4.png", "Größe ä.png"),
    ],
)
def test_an_upload_is_stored_under_a_plain_name(
    client: Client, folder: Path, name: str, stored: str
) -> None:
    kind = {"Content_Type": "application/octet-stream"}
    name = name.encode("utf-8").decode("latin-1") if not name.isascii() else name
    name = "Gr%C3%B6%C3%9Fe%20%C3%A4.png" if "Gr" in name else name
    data = (folder / "red.png").read_bytes()
    for _ in range(2):  # the same file again is the same name
        reply = client.send("POST", f"api/upload?name={name}", data, **kind)
        assert json.loads(reply.body) == {"name": f"inputs/{stored}", "kind": "pictures"}
    assert (folder / "inputs" / stored).read_bytes() == data
    other = json.loads(client.send("POST", f"api/upload?name={name}", data + b"1", **kind).body)
    assert other["name"] != f"inputs/{stored}"
    assert len(list((folder / "inputs").iterdir())) == 2


def test_uploads_of_unknown_kinds_and_cut_ones_are_refused(client: Client, folder: Path) -> None:
    kind = {"Content_Type": "application/octet-stream"}
    for name in ("evil.py", "run.sh", "index.html", "", "png"):
        assert client.send("POST", f"api/upload?name={name}", b"x", **kind).status == 415
    (folder / "inputs").mkdir(exist_ok=True)
    with socket.create_connection(("127.0.0.1", client.port)) as connection:
        head = f"POST /{client.token}/api/upload?name=a.png HTTP/1.1\r\n"
        head += f"Host: 127.0.0.1:{client.port}\r\nOrigin: {client.origin}\r\n"
        head += "Content-Type: application/octet-stream\r\n"
        connection.sendall(f"{head}Content-Length: 1000\r\n\r\nshort".encode())
        connection.shutdown(socket.SHUT_WR)
        assert b" 400 " in connection.recv(1000).splitlines()[0]
    assert not list((folder / "inputs").iterdir())


def test_an_uploads_folder_that_is_a_link_is_refused(
    client: Client, folder: Path, tmp_path: Path
) -> None:
    (folder / "inputs").symlink_to(tmp_path / "elsewhere")
    kind = {"Content_Type": "application/octet-stream"}
    assert client.send("POST", "api/upload?name=a.png", b"x", **kind).status == 403
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["secret.png"]


def test_options_become_words() -> None:
    assert option_words({"size": 64, "instant": True}) == ["--size=64", "--instant"]
    with pytest.raises(RequestError):
        option_words({"size": None})


def test_the_command_needs_a_folder_and_a_free_port(run: Run, tmp_path: Path) -> None:
    assert run("view", "--no-browser", "-o", "none")[0] == 2
    assert run("view", "--no-browser", "--read-only", ".", "town")[0] == 2
    assert run("view", "--no-browser", "no.png")[0] == 3
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, _, err = run("view", "--no-browser", "--port", taken.getsockname()[1])
    assert (code, err.count("\n")) == (2, 1)
    assert "--port" in err


def test_no_torch_before_the_page_answers() -> None:
    import subprocess

    code = "import sys, convnd_tasks.view.run; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
