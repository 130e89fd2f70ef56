"""The script of NiiVue, as the page gets it from the package ipyniivue."""

from __future__ import annotations

import importlib.metadata
import io
import json
from types import SimpleNamespace

import pytest
from convnd_tasks.view import niivue
from page_client import Client
from PIL import Image


@pytest.fixture
def installed() -> None:
    if not niivue.is_installed():
        pytest.skip("no ipyniivue here (pip install --no-deps ipyniivue)")


@pytest.mark.usefixtures("installed")
def test_the_script_needs_nothing_but_this_server(client: Client) -> None:
    reply = client.send("GET", "api/niivue?view=one")
    assert reply.status == 200
    assert reply.headers["Content-Type"].startswith("text/javascript")
    assert b'"data:image' not in reply.body
    for number in range(2):
        assert b'"api/niivue-picture?number=%d"' % number in reply.body
        picture = client.send("GET", f"api/niivue-picture?number={number}")
        assert picture.headers["Content-Type"].startswith("image/")
        assert min(Image.open(io.BytesIO(picture.body)).size) >= 128
    assert client.send("GET", "api/niivue-picture?number=2").status == 404
    assert client.send("GET", "api/niivue-picture?number=-1").status == 404


def test_without_the_package_there_is_no_script(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    assert client.send("GET", "api/niivue").status == 404
    assert client.send("GET", "api/niivue-picture?number=0").status == 404
    assert json.loads(client.send("GET", "api/state").body)["niivue"] is False


@pytest.mark.parametrize(
    ("version", "known"), [("2.3.9", False), ("2.4.0", True), ("2.10.1", True), ("3.0.0", False)]
)
def test_versions_that_the_page_knows(
    monkeypatch: pytest.MonkeyPatch, version: str, known: bool
) -> None:
    place = SimpleNamespace(is_file=lambda: True)
    found = SimpleNamespace(version=version, locate_file=lambda name: place)
    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: found)
    assert niivue.is_installed() is known
