"""Fixtures of the tests of the page: a browser, and a server without workers."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from convnd_tasks.view import app as app_module
from convnd_tasks.view.app import View
from convnd_tasks.view.folder import ViewFolder
from convnd_tasks.view.run import serve
from convnd_tasks.view.server import ViewServer
from page_client import Client
from page_folder import NoWorkers

if TYPE_CHECKING:
    from browser_page import Page


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from browser_page import BROWSER, playwright

    with playwright.sync_playwright() as driver:
        arguments = [
            "--use-angle=swiftshader",
            "--enable-unsafe-swiftshader",
        ]  # WebGL without a GPU
        arguments += ["--no-sandbox"] if os.geteuid() == 0 else []
        chromium = driver.chromium.launch(executable_path=BROWSER, args=arguments)
        yield chromium
        chromium.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "results"
    root.mkdir()
    return root


@pytest.fixture
def page(browser: Any, folder: Path) -> Iterator[Page]:
    from browser_page import Page

    with serve(ViewFolder(folder), []) as (server, _):
        opened = Page(browser, server.guard.address)
        yield opened
        opened.close()


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[Callable[..., Client]]:
    monkeypatch.setattr(app_module, "Workers", NoWorkers)
    opened: list[tuple[ViewServer, View]] = []

    def begin(*, read_only: bool = False) -> Client:
        view = View(ViewFolder(folder, read_only=read_only), [])
        server = ViewServer(0, view.answer)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        opened.append((server, view))
        return Client(server.guard.address)

    yield begin
    for server, view in opened:
        server.shutdown()
        server.server_close()
        view.close()


@pytest.fixture
def client(start: Callable[..., Client]) -> Client:
    return start()
