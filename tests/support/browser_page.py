"""The page of `convnd view` in a real browser: Chromium without a window, driven by Playwright."""

from __future__ import annotations

import itertools
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

__all__ = ["BROWSER", "Page", "check_accessible", "drop", "drop_path", "playwright"]

BROWSER = os.environ.get("CONVND_TEST_BROWSER") or shutil.which("chromium")
AXE = os.environ.get("CONVND_TEST_AXE", "")
SECONDS = int(os.environ.get("CONVND_TEST_SECONDS", "300")) * 1000
"""Milliseconds to wait: the machine may be busy, and nothing here is timed."""

if BROWSER is None:
    pytest.skip("no chromium here (apt-get install chromium)", allow_module_level=True)
playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")


class Page:
    """A page, and whatever it complained about."""

    def __init__(self, browser: Any, address: str, **settings: Any) -> None:
        self.context = browser.new_context(accept_downloads=True, **settings)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.foreign: list[str] = []
        self.page.set_default_timeout(SECONDS)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._on_console)
        self.page.on("request", self._on_request)
        self.address = address
        self.page.goto(address)

    def _on_console(self, message: Any) -> None:
        if message.type == "error":
            self.complaints.append(message.text)

    def _on_request(self, request: Any) -> None:
        if not request.url.startswith(self.address):
            self.foreign.append(request.url)

    def set(self, dial: str, value: str) -> None:
        self.page.locator(f"#{dial}").evaluate(
            "(input, value) => { input.value = value; input.dispatchEvent(new Event('input')); }",
            value,
        )

    def wait_for(self, place: str, text: str) -> None:
        self.page.wait_for_selector(f'{place}:has-text("{text}")')

    def until(self, expression: str) -> None:
        """Wait until JavaScript is true; `wait_for_function` would need eval in the page."""
        ends = time.monotonic() + SECONDS / 1000
        while not self.page.evaluate(expression):
            assert time.monotonic() < ends, expression
            self.page.wait_for_timeout(50)

    def note_texts(self, place: str) -> None:
        """Note every text that an element gets from now on, however short it is seen."""
        self.page.locator(place).evaluate(
            """(one) => {
                 window.texts = [];
                 new MutationObserver(() => window.texts.push(one.textContent))
                   .observe(one, { childList: true, characterData: true, subtree: true });
               }"""
        )

    def texts(self) -> list[str]:
        """Return the texts that were noted."""
        noted: list[str] = self.page.evaluate("window.texts")
        return noted

    def start(self, **values: int) -> None:
        """Start a small job: with numbers that the page does not offer."""
        for name, value in values.items():
            self.page.locator(f"#{name}").evaluate(
                "(one, value) => { one.add(new Option(value, value)); one.value = value; }",
                str(value),
            )
        self.page.click("#start")

    def stop(self) -> None:
        """Stop the job, and wait until its result is kept."""
        self.page.click("#stop")
        self.wait_for("#status", "stopped, kept")

    def download(self) -> tuple[str, bytes]:
        """Download the result; returns the name that the page gives it, and its bytes."""
        with self.page.expect_download() as download:
            self.page.click("#download")
        return download.value.suggested_filename, Path(download.value.path()).read_bytes()

    def close(self) -> None:
        self.context.close()
        assert self.complaints == [], self.complaints
        assert self.foreign == [], self.foreign


def drop(page: Page, zone: str, path: Path) -> None:
    """Drop a file as a mouse does."""
    transfer = page.page.evaluate_handle(
        """([bytes, name]) => {
             const transfer = new DataTransfer();
             transfer.items.add(new File([new Uint8Array(bytes)], name));
             return transfer;
           }""",
        [list(path.read_bytes()), path.name],
    )
    page.page.dispatch_event(f'.drop[data-role="{zone}"]', "drop", {"dataTransfer": transfer})


def drop_path(page: Page, zone: str, path: Path) -> None:
    """Drop a file or a folder of this computer, as the desktop does."""
    place = page.page.locator(f'.drop[data-role="{zone}"]')
    place.scroll_into_view_if_needed()
    box = place.bounding_box()
    session = page.context.new_cdp_session(page.page)
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send(
            "Input.dispatchDragEvent",
            {
                "type": kind,
                "x": box["x"] + box["width"] / 2,
                "y": box["y"] + 8,
                "data": {"items": [], "files": [str(path)], "dragOperationsMask": 1},
            },
        )


def check_accessible(page: Page) -> None:
    """Check names of controls, contrast and the like, in light and dark, wide and narrow."""
    unnamed = page.page.evaluate(
        """[...document.querySelectorAll("button, a, input, select, canvas")]
             .filter((one) => one.checkVisibility() && !one.closest("[role=img]"))
             .filter((one) => !(one.ariaLabel || one.labels?.length || one.textContent.trim()))
             .map((one) => one.outerHTML)"""
    )
    assert unnamed == []
    if AXE:
        page.page.add_script_tag(path=AXE)
    for scheme, width in itertools.product(("light", "dark"), (1280, 400)):
        page.page.emulate_media(color_scheme=scheme)
        page.page.set_viewport_size({"width": width, "height": 900})
        assert page.page.evaluate("document.documentElement.scrollWidth") <= width
        found = page.page.evaluate("axe.run()")["violations"] if AXE else []
        assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []
