"""Units on the page, in a real browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from browser_page import Page, check_accessible
from convnd_tasks.view.folder import ViewFolder
from convnd_tasks.view.run import serve
from PIL import Image

pytestmark = pytest.mark.slow


def test_the_units_of_ones_own_picture_are_browsed(browser: Any, folder: Path) -> None:
    picture = folder / "Lieblingsschmetterlinge.png"
    Image.effect_mandelbrot((96, 80), (-2, -1.2, 1, 1.2), 60).convert("RGB").save(picture)
    with serve(ViewFolder(folder), []) as (server, _):
        page = Page(browser, server.guard.address, bypass_csp=True)  # for the script of axe alone
        page.page.click("label:has(#kind-units)")
        page.page.set_input_files("#style-file", str(picture))
        page.page.click('#styles button:has-text("waves")')
        page.page.wait_for_selector('#styles button:has-text("Liebling")[aria-pressed="true"]')
        page.page.select_option("#units", "0-7")
        page.page.click("#start")
        page.wait_for("#status", "done")
        page.page.wait_for_selector("#patches li")
        page.page.select_option("#unit-layer", "relu2_1")
        page.wait_for("#unit-title", "relu2_1, unit 0")
        page.page.click("#unit-next")
        page.wait_for("#unit-title", "relu2_1, unit 1")
        page.until(
            "[...document.querySelectorAll('#patches img')].every((one) => one.naturalWidth)"
        )
        assert 0 < page.page.locator("#patches li").count() <= 9
        assert page.download()[0] == "patches.csv"
        check_accessible(page)
        page.close()
