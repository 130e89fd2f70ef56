"""What the page may ask its server for: jobs and numbers; everything else is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from page_client import Client
from page_folder import make_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path)


@pytest.mark.parametrize(
    "typed",
    [
        {"content": "red.png", "styles": ["waves"], "options": {"output": {"a": 1}}},
        {"content": "red.png", "styles": ["waves"], "options": {"-o": "x"}},
        {"content": "red.png", "styles": ["waves"], "options": {"a=b": "x"}},
        {"content": "red.png", "styles": ["waves"], "options": {"strength": "x" * 300}},
        {"content": "red.png", "styles": "waves", "options": {}},
        {"content": 3, "styles": [], "options": {}},
        {"kind": "units", "styles": [], "options": {}},
        {"kind": "units", "styles": ["../elsewhere/secret.png"], "options": {}},
        {"content": "red.png", "styles": ["/etc/passwd"], "options": {}},
        {"content": "red.png", "styles": ["waves"], "mask": "../elsewhere/secret.png"},
        {"content": "red.png", "styles": ["waves"], "region": {"sky": "../elsewhere/secret.png"}},
        {"content": "red.png", "styles": ["waves"], "keyframe": {"1": "../elsewhere/secret.png"}},
    ],
    ids=str,
)
def test_jobs_of_other_words_are_refused(client: Client, typed: dict[str, Any]) -> None:
    assert client.post("api/start", typed).status in (400, 404)


@pytest.mark.parametrize(
    "path",
    [
        "traces?name=red.png",
        "traces?name=red.png&leads={}&start=0&end=1&points=9",
        "traces?name=red.png&leads=[1]&start=0&end=1&points=9",
        "traces?name=red.png&leads=[]&start=nan&end=1&points=9",
        "traces?name=red.png&leads=[]&start=0&end=inf&points=9",
        "traces?name=red.png&leads=[]&start=1&end=1&points=9",
        "traces?name=red.png&leads=[]&start=0&end=1&points=1000000000",
        "traces?name=red.png&leads=" + "[" * 5000 + "&start=0&end=1&points=9",
        "plane?name=red.png&axis=3&index=0",
        "plane?name=red.png&axis=0&index=-1",
        "plane?name=red.png&axis=0&index=" + "9" * 5000,
        "slab?name=red.png&frame=0&step=0&first=0&count=1",
        "slab?name=red.png&frame=0&step=1&first=-1&count=1",
        "slab?name=red.png&frame=0&step=1&first=0",
        "patch?name=red.png&layer=../a&unit=0&rank=1",
        "patch?name=red.png&layer=a&unit=-1&rank=1",
        "signal?name=ecg&dim=9",
        "thumbnail?name=town&side=64&dim=x",
    ],
)
def test_numbers_out_of_range_are_refused(client: Client, path: str) -> None:
    assert client.send("GET", f"api/{path}").status == 400


def test_numbers_of_unknown_jobs_are_refused(client: Client) -> None:
    for name in ("000009", "../000001", ""):
        for route in ("signal", "slit", "curves"):
            assert client.send("GET", f"api/{route}?job={name}").status == 404


def test_jobs_of_other_kinds_are_command_lines(client: Client, folder: Path) -> None:
    (folder / "a.csv").write_text("0,1\n")
    (folder / "b.nii.gz").write_bytes(b"")
    client.post("api/start", {"content": "a.csv", "styles": ["ambulatory"], "options": {}})
    client.post("api/start", {"content": "b.nii.gz", "styles": ["matching"], "options": {}})
    (folder / "c.npy").write_bytes(b"")
    array = {"content": "c.npy", "styles": ["waves"], "options": {"rate": "500"}}
    assert client.post("api/start", array).status == 400  # it may hold anything
    client.post("api/start", {**array, "kind": "signals"})
    sample = {"content": "ecg", "styles": ["waves"], "options": {}, "kind": "signals"}
    client.post("api/start", sample)
    search = {"styles": ["red.png", "waves"], "options": {"layer": "relu1_1"}, "kind": "units"}
    client.post("api/start", search)
    commands = {job["command"] for job in client.first_event()["jobs"]}
    assert commands == {
        "convnd stylize a.csv --style=ambulatory --dim=1 -o a_stylized.csv",
        "convnd stylize-volume b.nii.gz --style=matching -o b_stylized.nii.gz",
        "convnd patches red.png waves --dim=2 --layer=relu1_1 -o patches",
        "convnd stylize c.npy --style=waves --dim=1 --rate=500 -o c_stylized.npy",
        "convnd stylize ecg --style=waves --dim=1 -o ecg_stylized.csv",
    }
    assert client.post("api/start", {"content": "notes.txt", "styles": ["waves"]}).status == 404


def test_what_is_no_json_is_refused(client: Client) -> None:
    for body in (b"", b"[]", b"{", b"\xff", b"[" * 100_000):
        assert client.send("POST", "api/start", body).status == 400
    too_long = {"Content_Length": str(2**20 + 1)}
    assert client.send("POST", "api/start", b" ", **too_long).status == 413


def test_files_of_the_folder_are_offered(start: Callable[..., Client], folder: Path) -> None:
    (folder / "scan.nii").touch()
    (folder / "ecg.dat").touch()  # belongs to a header
    (folder / "notes.md").touch()
    reply = json.loads(start().send("GET", "api/results").body)
    assert reply["results"] == []
    assert sorted((file["name"], file["kind"]) for file in reply["inputs"]) == [
        ("red.png", "pictures"),
        ("scan.nii", "volumes"),
    ]


def test_read_only_changes_nothing(start: Callable[..., Client], folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    client = start(read_only=True)
    names = [
        result["name"] for result in json.loads(client.send("GET", "api/results").body)["results"]
    ]
    assert names == ["red.png"]
    typed = {"content": "red.png", "styles": ["waves"], "options": {}}
    for path in ("start", "preview", "again", "stop", "change", "continue", "remove", "keep-frame"):
        assert client.post(f"api/{path}", typed).status == 403
    upload = {"Content_Type": "application/octet-stream"}
    assert client.send("POST", "api/upload?name=a.png", b"x", **upload).status == 403
    assert sorted(folder.rglob("*")) == before


def test_a_job_is_a_command_line(client: Client) -> None:
    typed = {"content": "red.png", "styles": ["waves", "cells"], "options": {"strength": 0.5}}
    reply = client.post("api/start", typed)
    assert reply.status == 200, reply.body
    job = client.first_event()["jobs"][0]
    assert job["command"] == (
        "convnd stylize red.png --style=waves --style=cells --dim=2 --strength=0.5 "
        "-o red_stylized.png"
    )


def test_a_search_whose_files_are_links_elsewhere_is_not_read(
    client: Client, folder: Path, tmp_path: Path
) -> None:
    (folder / "found").mkdir()
    for name in ("patches.json", "relu1_1.npz"):
        (folder / "found" / name).symlink_to(tmp_path / "elsewhere" / "secret.png")
    (tmp_path / "elsewhere" / "unit0001_1.nii.gz").write_bytes(b"")
    (folder / "found" / "relu2_1").symlink_to(tmp_path / "elsewhere")
    assert client.send("GET", "api/search?name=found").status == 404
    for layer in ("relu1_1", "relu2_1"):
        path = f"api/patch?name=found&layer={layer}&unit=1&rank=1"
        assert client.send("GET", path).status == 404
