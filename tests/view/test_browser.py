"""The page in a real browser: Debian's Chromium, without a window, driven by Playwright."""

from __future__ import annotations

import io as streams
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser_page import Page, check_accessible, drop
from convnd_tasks.view.folder import ViewFolder
from convnd_tasks.view.run import serve
from PIL import Image

from convnd import io

pytestmark = pytest.mark.slow


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A picture outside of the folder, as a person drops it."""
    path = tmp_path / "Überschwängliche Gartenwirtschaft.png"
    picture = Image.effect_mandelbrot((160, 120), (-2, -1.2, 1, 1.2), 60).convert("RGB")
    picture.save(path)
    return path


def test_drop_a_picture_see_steps_move_a_dial_stop_and_download(
    page: Page, folder: Path, photo: Path
) -> None:
    drop(page, "content", photo)
    page.page.wait_for_selector('#contents [aria-pressed="true"]')
    page.page.click('#styles button:has-text("waves")')
    page.wait_for("#preview-note", "Preview after")  # the instant preview
    assert page.page.get_attribute("#after", "src").startswith("api/preview")
    page.start(size=64, steps=5000)
    page.wait_for("#figures", "step")
    first = page.page.text_content("#figures")
    page.page.wait_for_selector(f'#figures:not(:has-text("{first.split(" · ")[0]}"))')
    page.set("strength", "0.4")  # while it runs
    page.wait_for("#note", "strength=0.4")
    page.stop()
    result = Image.open(streams.BytesIO(page.download()[1]))
    assert max(result.size) == 64
    (path,) = folder.glob("*_stylized.png")
    record = io.read_provenance(path)
    assert "strength=0.4" in record["convnd:change"]
    assert list(folder.glob("*.checkpoint"))  # it can go on, here or on the command line


def test_a_region_is_drawn_with_the_mouse_and_with_the_keyboard(page: Page, folder: Path) -> None:
    page.page.click('#contents button:has-text("town")')
    page.page.click('#styles button:has-text("cells")')
    page.page.wait_for_selector("#before[src]")
    page.page.select_option("#region-style", "keep")
    page.set("brush-size", "120")
    page.page.click("#draw")
    box = page.page.locator("#paint").bounding_box()
    page.page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + box["height"] * 0.5)
    page.page.mouse.down()
    page.page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.5)
    page.page.mouse.up()
    page.page.focus("#paint")
    for key in ("ArrowRight", "ArrowRight", "Space", "Escape"):
        page.page.keyboard.press(key)
    page.start(size=64, steps=10)
    page.wait_for("#status", "done")
    drawn = red(folder / "inputs" / "region.png")
    assert drawn[len(drawn) // 2, int(drawn.shape[1] * 0.3)]  # the stroke of the mouse
    assert drawn[len(drawn) // 2, int(drawn.shape[1] * 0.6)]  # the key, right of the middle
    assert not drawn[2, 2]
    record = io.read_provenance(folder / "town_stylized.png")
    assert "--region=red=keep" in record["convnd:command"]


def red(path: Path) -> Any:
    """Where a map is red."""
    return np.asarray(Image.open(path).convert("RGB"))[..., 0] > 128


def test_a_reload_and_a_second_tab_lose_nothing(browser: Any, page: Page) -> None:
    page.page.click('#contents button:has-text("town")')
    page.page.click('#styles button:has-text("dots")')
    page.start(size=64, steps=5000)
    page.wait_for("#figures", "step")
    page.page.reload()
    page.wait_for("#figures", "step")  # the running job is shown again
    second = Page(browser, page.address)
    second.wait_for("#figures", "step")
    second.page.click("#stop")
    page.wait_for("#status", "stopped, kept")
    page.page.click("#continue")
    second.wait_for("#status", "running")
    second.page.click("#stop")
    second.wait_for("#status", "stopped, kept")
    second.close()


def test_an_earlier_step_is_gone_back_to_and_the_result_is_made_again(
    page: Page, folder: Path
) -> None:
    page.page.click('#contents button:has-text("town")')
    page.page.click('#styles button:has-text("weave")')
    page.start(size=64, steps=20)
    page.wait_for("#status", "done")
    page.page.click('#history button:has-text("step 10")')
    page.wait_for("#queue", "town_stylized-2.png – done")
    first, second = (folder / name for name in ("town_stylized.png", "town_stylized-2.png"))
    assert io.digest(first) == io.digest(second)  # the same steps again
    page.page.click('button[aria-label="Make town_stylized.png again"]')
    page.wait_for("#queue", "town_stylized-rerun.png – done")
    assert io.digest(folder / "town_stylized-rerun.png") == io.digest(first)


def test_a_large_picture_keeps_what_the_small_one_was_made_with(page: Page, folder: Path) -> None:
    page.page.click('#contents button:has-text("town")')
    page.page.click('#styles button:has-text("weave")')
    page.page.wait_for_selector("#before[src]")
    page.page.select_option("#region-style", "keep")
    page.page.click("#draw")
    page.page.focus("#paint")
    page.page.keyboard.press("Space")
    page.set("strength", "0.6")
    page.start(size=64, steps=5)
    page.wait_for("#status", "done")
    page.set("strength", "1")  # later dials are not those of the result
    page.page.click("#larger")
    page.wait_for("#queue", "town_stylized-2.png – ")
    page.page.click("#stop")
    command = page.page.text_content("#command")
    assert all(
        word in command
        for word in (
            "--strength=0.6",
            "--size=4096",
            "--steps=20",
            "--init=town_stylized.png",
            "--regions=inputs/region.png",
            "--region=red=keep",
            "--style=weave",
        )
    ), command


def test_people_with_a_screen_reader_or_a_keyboard_can_use_it(
    browser: Any, folder: Path, photo: Path
) -> None:
    """In light and dark, wide and narrow, with long words."""
    Image.open(photo).resize((64, 48)).save(folder / photo.name)
    with serve(ViewFolder(folder), [photo.name, "waves", "cells"]) as (server, _):
        page = Page(browser, server.guard.address, bypass_csp=True)  # for the script of axe alone
        page.wait_for("#preview-note", "Preview after")
        page.page.focus('#styles button:has-text("waves")')
        page.page.keyboard.press("Space")  # a style is chosen without a mouse
        page.page.wait_for_selector('#styles button[aria-pressed="false"]:focus')
        check_accessible(page)
        page.close()


def test_read_only_shows_results_and_nothing_to_start(browser: Any, folder: Path) -> None:
    Image.new("RGB", (32, 24), (9, 99, 9)).save(folder / "green.png")
    with serve(ViewFolder(folder, read_only=True), []) as (server, _):
        page = Page(browser, server.guard.address)
        page.page.wait_for_selector('#results img[alt="Result green.png"]')
        assert page.page.locator("#start").is_hidden()
        assert page.page.locator('button:has-text("Again")').count() == 0
        page.close()
    assert sorted(path.name for path in folder.iterdir()) == ["green.png"]


def test_jobs_are_described_in_files_that_hold_no_secret(page: Page, folder: Path) -> None:
    page.page.click('#contents button:has-text("town")')
    page.page.click('#styles button:has-text("ink")')
    page.start(size=64, steps=3)
    page.wait_for("#status", "done")
    (path,) = folder.glob(".convnd-view/*/job.json")
    text = path.read_text()
    assert json.loads(text)["state"] == "done"
    assert page.address.split("/")[3] not in text
