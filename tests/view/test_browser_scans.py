"""Scans on the page, in a real browser."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browser_page import Page, check_accessible, drop, drop_path
from convnd_tasks.view.folder import ViewFolder
from convnd_tasks.view.run import serve
from dicom_files import series

from convnd import io
from convnd.grid import Grid

pytestmark = pytest.mark.slow

SIZE = (40, 36, 32)
MIDDLE = (20, 18, 16)


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A scan in Hounsfield units whose file runs from left to right and from back to front."""
    places = np.stack(np.meshgrid(*map(np.arange, SIZE), indexing="ij"))
    values = 10.0 * places[0] + 3.0 * places[1] + places[2]
    values[(np.abs(places - np.reshape(MIDDLE, (3, 1, 1, 1))) > 12).any(0)] = -1000.0
    path = tmp_path / "Brustkorbuntersuchung.nii.gz"
    header = {"affine": np.diag([-2.0, 2.0, 2.0, 1.0]), "value_unit": "HU"}
    values_tensor = torch.from_numpy(values).float()[None, None]
    io.write(path, Grid(values=values_tensor, spacing=(2.0,) * 3, units=("mm",) * 3, header=header))
    return path


def test_planes_show_the_values_of_the_voxel_under_the_cross(page: Page, scan: Path) -> None:
    page.note_texts("#voxel")
    drop(page, "content", scan)
    page.page.wait_for_selector("#kind-volumes:checked")
    page.wait_for("#voxel", "content")
    assert all("head 17, front 19, right 21" in text for text in page.texts() if text)
    # The first axis of the file runs to the left: the voxel 20 towards the right is 19 in the file.
    assert f"content {10 * 19 + 3 * 18 + 16} HU" in page.page.text_content("#voxel")
    page.page.focus("#plane-axial")
    for key in ("ArrowLeft", "ArrowUp", "ArrowUp", "PageUp"):  # right 1, front 2, head 1
        page.page.keyboard.press(key)
    page.wait_for("#voxel", f"content {10 * 18 + 3 * 20 + 17} HU")
    options = page.page.locator("#scan-window option").all_text_contents()
    assert {"auto", "lung", "soft", "bone"} <= set(options)
    page.page.select_option("#scan-window", "soft")
    assert page.page.input_value("#window-low") == "-160"
    bright = page.page.evaluate(
        """() => { const c = document.querySelector("#plane-axial");
                   const x = c.width / 2 + 40, y = c.height / 2 + 40;
                   return c.getContext("2d").getImageData(x, y, 1, 1).data[0]; }"""
    )
    assert bright > 200  # soft tissue in its window


def test_drop_a_scan_see_steps_stop_and_download(page: Page, folder: Path, scan: Path) -> None:
    drop(page, "content", scan)
    page.page.wait_for_selector("#kind-volumes:checked")
    page.page.click('#styles button:has-text("waves")')  # a picture: patterns are painted
    page.start(steps=5000)
    page.page.wait_for_selector("#scan-result:enabled")  # a step
    page.page.click("#scan-difference")
    page.wait_for("#voxel", "blue to red")
    page.stop()
    copy = folder / "copy.nii.gz"
    copy.write_bytes(page.download()[1])
    assert io.read(copy).shape == SIZE
    assert np.array_equal(io.grid_affine(io.read(copy)), io.grid_affine(io.read(scan)))


def test_a_folder_of_slices_is_dropped_or_chosen(page: Page, folder: Path, tmp_path: Path) -> None:
    study = series(tmp_path / "Halswirbelsäule", [2.0 * k for k in range(5)])
    (study / "DICOMDIR").write_bytes(b"an index")
    (study / "below").mkdir()
    (study / "0004").rename(study / "below" / "0004")
    drop_path(page, "content", study)
    page.page.wait_for_selector("#kind-volumes:checked")
    page.wait_for("#voxel", "content")
    stored = folder / "inputs" / study.name
    assert sorted(io.read(stored).shape) == [5, 20, 24]
    page.page.set_input_files("#style-folder", str(study))
    page.page.wait_for_selector(f'#styles [aria-pressed="true"]:has-text("{study.name}-2")')
    page.page.set_input_files("#content-folder", str(folder))  # no slices
    page.page.wait_for_selector("#alert:visible")
    (refusal,) = page.complaints  # the browser's own line
    assert "422" in refusal
    page.complaints.clear()
    assert sorted(path.name for path in stored.parent.iterdir()) == [study.name, f"{study.name}-2"]


def test_a_ball_that_is_marked_limits_the_change(page: Page, folder: Path, scan: Path) -> None:
    drop(page, "content", scan)
    page.page.wait_for_selector("#kind-volumes:checked")
    page.page.click('#styles button:has-text("waves")')
    page.wait_for("#voxel", "content")
    page.page.fill("#mask-size", "9")
    page.page.click("#mask-draw")
    for key in ("ArrowLeft", "ArrowLeft", "ArrowLeft", "PageUp", "Space"):
        page.page.keyboard.press(key)
    page.wait_for("#mask-note", "voxels marked")
    page.page.select_option("#region-style", "chosen")
    page.start(steps=3)
    page.wait_for("#status", "done")
    result = io.read(folder / f"{scan.name.partition('.')[0]}_stylized.nii.gz").values
    changed = (result - io.read(scan).values)[0, 0].abs().numpy() > 1e-3
    centre = (
        16,
        18,
        17,
    )  # of the file: three to the right of the middle, which is 19; one to the head
    assert changed[centre]
    for place in itertools.islice(np.argwhere(changed), 10_000):
        assert np.linalg.norm((place - centre) * 2.0) <= 9.0 + 1e-6


def test_scans_are_accessible(browser: Any, folder: Path, scan: Path) -> None:
    (folder / scan.name).write_bytes(scan.read_bytes())
    with serve(ViewFolder(folder), [scan.name]) as (server, _):
        page = Page(browser, server.guard.address, bypass_csp=True)  # for the script of axe alone
        page.wait_for("#voxel", "content")
        check_accessible(page)
        page.close()
