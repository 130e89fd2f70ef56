"""Scans in three dimensions and windows by dragging, in a real browser."""

from __future__ import annotations

import io as streams
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browser_page import Page, check_accessible, drop
from convnd_tasks.view import app as app_module
from convnd_tasks.view.folder import ViewFolder
from convnd_tasks.view.niivue import is_installed
from convnd_tasks.view.run import serve
from PIL import Image

from convnd import io
from convnd.grid import Grid

pytestmark = pytest.mark.slow

SIZE = (40, 36, 32)
VIEWS = ("content", "result", "difference")


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A scan in Hounsfield units: a block in air, whose values say where each voxel is."""
    places = np.stack(np.meshgrid(*map(np.arange, SIZE), indexing="ij"))
    values = 10.0 * places[0] + 3.0 * places[1] + places[2]
    values[(np.abs(places - np.array([20, 18, 16])[:, None, None, None]) > 12).any(0)] = -1000.0
    path = tmp_path / "Brustkorbuntersuchung.nii.gz"
    header = {"affine": np.diag([-2.0, 2.0, 2.0, 1.0]), "value_unit": "HU"}
    tensor = torch.from_numpy(values).float()[None, None]
    io.write(path, Grid(values=tensor, spacing=(2.0,) * 3, units=("mm",) * 3, header=header))
    return path


def needs_niivue(page: Page) -> None:
    if not is_installed():
        pytest.skip("no ipyniivue here (pip install --no-deps ipyniivue)")
    script = 'Boolean(document.createElement("canvas").getContext("webgl2"))'
    if not page.page.evaluate(script):
        pytest.skip("this Chromium has no WebGL 2")


def picture(page: Page, name: str) -> np.ndarray:
    """What a view shows, once it is drawn and stands still."""
    canvas, before = page.page.locator(f"#view-3d-{name} canvas"), b""
    while (now := canvas.screenshot()) != before:
        before = now
        page.page.wait_for_timeout(300)
    image: np.ndarray = np.asarray(Image.open(streams.BytesIO(now)).convert("RGB")).astype(int)
    return image


def voxel(page: Page) -> list[int]:
    """Numbers of the voxel under the cross: right, front and head, from 0."""
    found = re.search(r"head (\d+), front (\d+), right (\d+)", page.page.text_content("#voxel"))
    assert found is not None
    return [int(number) - 1 for number in reversed(found.groups())]


def is_red(image: np.ndarray) -> np.ndarray:
    """Where the mask is drawn; the amber cross is more green than blue."""
    red, green, blue = np.moveaxis(image, -1, 0)
    mask: np.ndarray = (red - green > 60) & (abs(green - blue) < 15)
    return mask


def open_views(page: Page, count: int = 3) -> None:
    page.page.click("#open-3d")
    page.page.wait_for_selector(f"#view-3d-{VIEWS[count - 1]} canvas[aria-label]")


def test_content_result_and_difference_are_linked(page: Page, scan: Path) -> None:
    needs_niivue(page)
    drop(page, "content", scan)
    page.page.wait_for_selector("#kind-volumes:checked")
    page.page.click('#styles button:has-text("waves")')
    page.wait_for("#voxel", "content")
    page.start(steps=3)
    page.wait_for("#status", "done")
    page.page.wait_for_selector("#scan-result:enabled")
    open_views(page)
    before = {name: picture(page, name) for name in VIEWS}
    assert all(np.ptp(image) > 150 for image in before.values())
    assert not np.array_equal(before["content"], before["result"])
    page.page.focus("#view-3d-content canvas")
    for key in ("ArrowLeft", "PageUp", "PageUp", "PageUp"):  # to the right, to the head
        page.page.keyboard.press(key)
    page.wait_for("#voxel", "head 20, front 19, right 22")
    after = {name: picture(page, name) for name in VIEWS}
    assert all((after[name] != before[name]).any() for name in VIEWS)
    page.page.keyboard.press("d")  # turns the rendering, which is the last quarter
    turned = {name: picture(page, name) for name in VIEWS}
    for name in VIEWS:
        height, width, _ = turned[name].shape
        moved = (turned[name] != after[name]).any(-1)
        assert moved[height // 2 :, width // 2 :].any()
        assert not moved[: height // 2, : width // 2 - 4].any()
    page.page.keyboard.press("Escape")
    page.until('document.activeElement.id === "open-3d"')
    assert page.page.locator("#planes").is_visible()


def test_a_place_that_is_clicked_is_that_of_the_file(page: Page, scan: Path) -> None:
    needs_niivue(page)
    drop(page, "content", scan)
    page.wait_for("#voxel", "content")
    open_views(page, 1)
    first = voxel(page)
    image = picture(page, "content")
    height, width, _ = image.shape
    box = page.page.locator("#view-3d-content canvas").bounding_box()
    # The axial plane is below the coronal one: a place on its left is on the patient's right.
    rows, columns = np.nonzero(image[height // 2 :, : width // 2].sum(-1) > 150)
    x, y = np.percentile(columns, 30), height // 2 + np.percentile(rows, 30)
    page.page.mouse.click(box["x"] + x, box["y"] + y)
    page.page.wait_for_selector(f'#voxel:not(:has-text("right {first[0] + 1}"))')
    right, front, head = voxel(page)
    assert right > first[0]
    assert front > first[1]
    assert head == first[2]
    # The first axis of the file runs to the left.
    value = 10 * (SIZE[0] - 1 - right) + 3 * front + head
    assert f"content {value} HU" in page.page.text_content("#voxel")


def test_a_window_and_a_mask_reach_the_view(page: Page, scan: Path) -> None:
    needs_niivue(page)
    drop(page, "content", scan)
    page.wait_for("#voxel", "content")
    open_views(page, 1)
    page.page.select_option("#scan-window", "bone")
    dark = picture(page, "content").sum()
    page.page.select_option("#scan-window", "soft")
    assert picture(page, "content").sum() > 1.1 * dark
    low, high = (float(page.page.input_value(f"#window-{end}")) for end in ("low", "high"))
    box = page.page.locator("#view-3d-content canvas").bounding_box()
    before = voxel(page)
    page.page.mouse.move(box["x"] + 60, box["y"] + 60)
    page.page.mouse.down(button="right")
    page.page.mouse.move(box["x"] + 210, box["y"] + 60, steps=3)  # twice as wide
    page.page.mouse.up(button="right")
    assert float(page.page.input_value("#window-high")) == pytest.approx(high + (high - low) / 2)
    assert page.page.input_value("#scan-window") == "custom"
    assert voxel(page) == before
    assert not is_red(picture(page, "content")).any()
    page.page.fill("#mask-size", "6")
    page.page.click("#mask-draw")
    page.page.focus("#view-3d-content canvas")
    page.page.keyboard.press("Space")
    page.wait_for("#mask-note", "voxels marked")
    marked = page.page.text_content("#mask-note")
    by_key = is_red(picture(page, "content")).sum()
    assert by_key > 30
    page.page.mouse.click(box["x"] + 0.3 * box["width"], box["y"] + 0.65 * box["height"])
    page.page.wait_for_selector(f'#mask-note:not(:has-text("{marked}"))')
    assert is_red(picture(page, "content")).sum() > by_key
    page.page.click("#mask-clear")
    assert not is_red(picture(page, "content")).any()


def test_what_is_missing_is_said(
    browser: Any, folder: Path, scan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / scan.name).write_bytes(scan.read_bytes())
    for installed in (False, True):
        monkeypatch.setattr(app_module, "has_niivue", lambda installed=installed: installed)
        with serve(ViewFolder(folder), [scan.name]) as (server, _):
            page = Page(browser, server.guard.address)
            page.wait_for("#voxel", "content")
            assert page.page.locator("#open-3d").is_visible() is installed
            if installed:
                page.page.evaluate("HTMLCanvasElement.prototype.getContext = () => null")
                page.page.click("#open-3d")
            page.wait_for("#no-3d", "no WebGL 2" if installed else "pip install")
            page.page.focus("#plane-axial")
            page.close()


def test_the_views_are_accessible(browser: Any, folder: Path, scan: Path) -> None:
    (folder / scan.name).write_bytes(scan.read_bytes())
    with serve(ViewFolder(folder), [scan.name]) as (server, _):
        page = Page(browser, server.guard.address, bypass_csp=True)  # for the script of axe alone
        needs_niivue(page)
        page.wait_for("#voxel", "content")
        open_views(page, 1)
        check_accessible(page)
        page.close()


@pytest.mark.parametrize("button", ["right", "left"])
def test_dragging_in_a_plane_moves_the_window(page: Page, scan: Path, button: Any) -> None:
    drop(page, "content", scan)
    page.wait_for("#voxel", "content")
    page.page.select_option("#scan-window", "soft")  # -160 to 240
    before = page.page.text_content("#voxel")
    plane = page.page.locator("#plane-axial")
    plane.scroll_into_view_if_needed()
    box = plane.bounding_box()
    x, y = box["x"] + box["width"] / 4, box["y"] + box["height"] / 2

    def ends() -> list[float]:
        return [float(page.page.input_value(f"#window-{end}")) for end in ("low", "high")]

    if button == "left":
        page.page.keyboard.down("Shift")
    page.page.mouse.move(x, y)
    page.page.mouse.down(button=button)
    page.page.mouse.move(x, y - 75, steps=3)  # up: a quarter of the width
    assert ends() == pytest.approx([-60, 340])
    page.page.mouse.move(x - 150, y - 75, steps=3)  # left: half as wide
    page.page.mouse.up(button=button)
    assert ends() == pytest.approx([40, 240])
    page.page.keyboard.up("Shift")
    assert page.page.input_value("#scan-window") == "custom"
    assert page.page.text_content("#voxel") == before  # the cross stays
    plane.focus()
    page.page.keyboard.press("Shift+ArrowUp")
    assert ends() == pytest.approx([50, 250])
    page.page.keyboard.press("Shift+ArrowRight")
    assert ends()[1] - ends()[0] == pytest.approx(200 * 2**0.1, rel=1e-3)
    assert page.page.text_content("#voxel") == before
