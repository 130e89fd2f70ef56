"""Fixtures of the tests in a browser; other tests of the page take none of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from convnd_tasks.view.folder import ViewFolder
from convnd_tasks.view.run import serve

if TYPE_CHECKING:
    from browser_page import Page


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from browser_page import BROWSER, playwright

    with playwright.sync_playwright() as driver:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
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
