"""Answers that come late, in another order than they were asked for: the newest choice stays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browser_page import Page, drop
from page_client import Client

from convnd import io
from convnd.grid import Grid

pytestmark = pytest.mark.slow


class Held:
    """Holds the answer to the first request whose address holds a text.

    Args:
        page: the page.
        text: part of the address.
    """

    def __init__(self, page: Page, text: str) -> None:
        self.routes: list[Any] = []
        self.page = page.page
        self.page.route(lambda url: text in url, self._take)

    def _take(self, route: Any) -> None:
        if self.routes:
            route.continue_()
        else:
            self.routes.append(route)

    def release(self) -> None:
        """Let it arrive, and give the page time to heed it."""
        with self.page.expect_response(lambda answer: answer.url == self.routes[0].request.url):
            self.routes[0].continue_()
        self.page.wait_for_timeout(500)

    def wait(self) -> None:
        """Wait until there is one."""
        while not self.routes:
            self.page.wait_for_timeout(20)


def test_the_picture_that_was_chosen_last_is_shown(page: Page) -> None:
    held = Held(page, "name=town&side=1024")
    page.page.click('#contents button:has-text("town")')
    held.wait()
    page.page.click('#contents button:has-text("landscape")')
    page.page.wait_for_selector('#before[alt="Content landscape"][src]')
    held.release()
    assert "name=landscape" in page.page.get_attribute("#before", "src")


def test_a_preview_of_a_style_that_was_left_is_not_shown(page: Page) -> None:
    page.page.click('#contents button:has-text("town")')
    held = Held(page, "api/preview?number=1")
    page.page.click('#styles button:has-text("waves")')
    held.wait()
    page.page.click('#styles button:has-text("cells")')
    page.wait_for("#preview-note", "Preview after")
    shown = page.page.get_attribute("#after", "src")
    held.release()
    assert page.page.get_attribute("#after", "src") == shown == "api/preview?number=2"


def test_the_scan_that_was_chosen_last_is_shown(page: Page, tmp_path: Path) -> None:
    for name, value in (("late", 100.0), ("last", 200.0)):
        header = {"affine": np.eye(4), "value_unit": "HU"}
        values = torch.full((1, 1, 20, 20, 20), value)
        values[..., 0] = -1000
        scan = Grid(values=values, spacing=(1.0,) * 3, units=("mm",) * 3, header=header)
        io.write(tmp_path / f"{name}.nii.gz", scan)
    held = Held(page, "scan?name=inputs%2Flate")
    page.note_texts("#voxel")
    drop(page, "content", tmp_path / "late.nii.gz")
    held.wait()
    drop(page, "content", tmp_path / "last.nii.gz")
    page.wait_for("#voxel", "content 200 HU")
    held.release()
    assert all("content 200 HU" in text for text in page.texts() if text)


def test_the_recording_that_was_chosen_last_is_shown(page: Page, tmp_path: Path) -> None:
    for name in ("late", "last"):
        (tmp_path / f"{name}.csv").write_text(
            "".join([f"time,{name}\n", *(f"{n / 100},{n % 9}\n" for n in range(400))])
        )
    held = Held(page, "signal?name=inputs%2Flate")
    drop(page, "content", tmp_path / "late.csv")
    held.wait()
    drop(page, "content", tmp_path / "last.csv")
    page.wait_for(".lead", "last")
    held.release()
    assert page.page.text_content(".lead") == "last"


def test_small_pictures_leave_connections_to_what_a_user_asks_for(page: Page) -> None:
    """A browser keeps six to a server: with one for each tile, Start would wait for all of them."""
    counts, loading = [0], set[str]()

    def begin(request: Any) -> None:
        if "side=128" in request.url:
            loading.add(request.url)
            counts.append(len(loading))

    page.page.on("request", begin)
    page.page.on("requestfinished", lambda request: loading.discard(request.url))
    page.page.reload()
    page.page.wait_for_selector("#styles .tile img")
    page.until("[...document.querySelectorAll('.tile img')].every((one) => one.naturalWidth)")
    assert len(counts) > 8
    assert max(counts) == 2


def test_a_reload_before_start_is_answered_shows_the_job(page: Page) -> None:
    page.page.click('#contents button:has-text("town")')
    page.page.click('#styles button:has-text("waves")')
    held = Held(page, "api/start")
    page.start(steps=500)
    held.wait()
    typed = json.loads(held.routes[0].request.post_data)
    page.page.reload()
    page.wait_for("#queue", "No job yet")
    assert Client(page.address).post("api/start", typed).status == 200  # it arrives only now
    page.wait_for("#figures", "step")
    page.stop()
