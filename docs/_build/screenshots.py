"""Draws the pictures of the guide to ``convnd view``: every kind of data, wide and narrow, light and dark.

``python docs/_build/screenshots.py`` needs Chromium and the extra ``browser``; it takes some minutes.
"""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from convnd_tasks.view.folder import ViewFolder
from convnd_tasks.view.run import serve
from PIL import Image
from playwright.sync_api import sync_playwright

IMAGES = Path(__file__).parents[1] / "images"
WIDE, NARROW, HEIGHT = 1280, 400, 900
TALLEST = 1500  # pixels of a narrow picture
GAP = 16


class Shot(NamedTuple):
    """What a page is asked for before it is drawn.

    Args:
        chosen: content and styles.
        dials: values of selects that the job needs.
        show: what is done when the job has ended.
    """

    chosen: Sequence[str]
    dials: Mapping[str, str]
    show: Callable[[Any], None] = lambda page: None


def _show_region(page: Any) -> None:
    page.evaluate("document.querySelector('#wipe').value = 35")
    page.dispatch_event("#wipe", "input")


def _show_lung(page: Any) -> None:
    page.select_option("#scan-window", "lung")


def _show_frame(page: Any) -> None:
    page.wait_for_selector("#warp canvas")
    page.evaluate("document.querySelector('#clip-time').value = 9")
    page.dispatch_event("#clip-time", "input")


def _show_unit(page: Any) -> None:
    page.wait_for_selector("#patches li")
    page.select_option("#unit-layer", "relu3_1")


SHOTS = {
    "pictures": Shot(["town", "waves", "cells"], {"size": "256", "steps": "40"}, _show_region),
    "signals": Shot(["ecg", "ambulatory"], {"steps": "20"}),
    "volumes": Shot(["chest", "sharp"], {}, _show_lung),
    "videos": Shot(["video", "waves"], {"size": "256", "instant": "true"}, _show_frame),
    "units": Shot(["waves", "cells", "weave", "marble", "dots", "ink"], {"units": "0-7"}, _show_unit),
}


def main(kinds: Sequence[str]) -> None:
    """Draw the pictures of some kinds of data; without names, of all."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for kind in kinds or SHOTS:
            with TemporaryDirectory(prefix="results-") as name:
                _draw(browser, Path(name), kind)
        browser.close()


def _draw(browser: Any, folder: Path, kind: str) -> None:
    shot = SHOTS[kind]
    chosen = [] if kind == "units" else list(shot.chosen)
    with serve(ViewFolder(folder), chosen) as (server, _):
        page = browser.new_page(viewport={"width": WIDE, "height": HEIGHT}, color_scheme="light")
        page.set_default_timeout(900_000)
        page.goto(server.guard.address)
        page.click(f"label:has(#kind-{kind})")
        if kind == "units":
            for style in shot.chosen:
                page.click(f'#styles button:has-text("{style}")')
        for dial, value in shot.dials.items():
            page.select_option(f"#{dial}", value)
        page.click("#start")
        page.wait_for_selector('#status:has-text("done")')
        page.evaluate("document.querySelector('#folder').textContent = '/home/me/results'")
        page.wait_for_timeout(2000)
        shot.show(page)
        page.wait_for_timeout(1500)
        page.evaluate("scrollTo(0, 0)")
        _save([page.screenshot()], IMAGES / f"view-{kind}-{WIDE}.webp")
        page.set_viewport_size({"width": NARROW, "height": TALLEST})
        parts = []
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.evaluate("document.querySelector('#stage').scrollIntoView()")
            page.wait_for_timeout(1500)
            parts.append(page.screenshot())
        _save(parts, IMAGES / f"view-{kind}-{NARROW}.webp")
        page.close()


def _save(parts: Sequence[bytes], path: Path) -> None:
    """Write pictures beside each other."""
    pictures = [Image.open(io.BytesIO(part)).convert("RGB") for part in parts]
    width = sum(picture.width for picture in pictures) + GAP * (len(pictures) - 1)
    whole = Image.new("RGB", (width, max(picture.height for picture in pictures)), "#ffffff")
    left = 0
    for picture in pictures:
        whole.paste(picture, (left, 0))
        left += picture.width + GAP
    whole.save(path, quality=68, method=6)


if __name__ == "__main__":
    main(sys.argv[1:])
