"""Scans on the page, in a real browser."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
import torch
from browser_page import Page, check_accessible, drop, drop_path
from convnd_tasks import samples
from convnd_tasks.view.folder import ViewFolder
from convnd_tasks.view.run import serve
from convnd_tasks.view.shown import Shown
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


def test_one_of_several_series_is_chosen(page: Page, folder: Path, tmp_path: Path) -> None:
    study = tmp_path / "Untersuchung"
    for number, (text, count) in enumerate((("Weichteilkern", 5), ("Lungenkern", 3))):
        fields: dict[str, Any] = {"SeriesNumber": number, "SeriesDescription": text}
        part = series(tmp_path / text, [2.0 * k for k in range(count)], **fields)
        study.mkdir(exist_ok=True)
        for file in part.iterdir():
            dataset = pydicom.dcmread(file)
            dataset.SeriesInstanceUID = f"1.2.{number}"
            dataset.save_as(study / f"{number}{file.name}")
    page.page.click("label:has(#kind-volumes)")
    drop_path(page, "content", study)
    page.page.wait_for_selector("#series[open]")
    buttons = page.page.locator("#series-list button")
    assert buttons.all_text_contents() == [
        "Weichteilkern, CT, 5 slices",
        "Lungenkern, CT, 3 slices",
    ]
    assert "Untersuchung holds 2 series" in page.page.text_content("#series-title")
    page.page.keyboard.press("Tab")
    page.page.keyboard.press("Enter")  # the second, with the keyboard
    pressed = page.page.locator('#contents [aria-pressed="true"]')
    pressed.filter(has_text="Lungenkern").wait_for()
    page.wait_for("#scan-note", "20 × 24 × 3 voxels")
    assert page.page.locator('#contents button:has-text("Weichteilkern")').count() == 1
    stored = sorted(path.name for path in (folder / "inputs").iterdir())
    assert stored == ["Untersuchung - Lungenkern", "Untersuchung - Weichteilkern"]


@pytest.fixture
def series_of_frames(tmp_path: Path) -> Path:
    """A tilted series without a unit, with oblong voxels: 20 x 24 x 60, 3 frames."""
    path = tmp_path / "Kernspinaufnahme.nii.gz"
    places = np.stack(np.meshgrid(*map(np.arange, (20, 24, 60)), indexing="ij"))
    values = 5.0 * places[0] + 7.0 * places[1] + places[2]
    frames = np.stack([values, values + 1000, values + 2000], -1).astype(np.float32)
    cos, sin = np.cos(np.radians(10)), np.sin(np.radians(10))
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    affine[:3, :3] = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]]) * (1.0, 1.0, 3.0)
    image = nibabel.Nifti1Image(frames, affine)
    image.header.set_xyzt_units("mm")
    image.to_filename(path)
    return path


@pytest.mark.parametrize("width", [1280, 400])
def test_planes_of_a_tilted_series_with_oblong_voxels_are_true(
    page: Page, series_of_frames: Path, width: int
) -> None:
    page.page.set_viewport_size({"width": width, "height": 900})
    drop(page, "content", series_of_frames)
    page.page.wait_for_selector("#kind-volumes:checked")
    page.wait_for("#voxel", "content")
    note = page.page.text_content("#scan-note")
    assert "20 × 24 × 60 voxels of 1 × 1 × 3 mm" in note
    assert "tilted by up to 10°" in note
    assert "front is up, the patient's right is on the left" in page.page.get_attribute(
        "#plane-axial", "aria-label"
    )
    for name, (across, down) in {
        "axial": (20, 24),
        "coronal": (20, 180),
        "sagittal": (24, 180),
    }.items():
        box = page.page.locator(f"#plane-{name}").bounding_box()
        assert box["width"] / box["height"] == pytest.approx(across / down, rel=0.03)
        assert box["height"] <= 0.61 * 900
    # A place in a tall plane is that of the voxel there: 5 from the right, 50 of 60 up.
    coronal = page.page.locator("#plane-coronal")
    coronal.scroll_into_view_if_needed()
    box = coronal.bounding_box()
    page.page.mouse.click(
        box["x"] + box["width"] * 4.5 / 20, box["y"] + box["height"] * (60 - 49.5) / 60
    )
    page.wait_for("#voxel", "head 50, front 13, right 16")
    assert f"content {5 * 15 + 7 * 12 + 49}" in page.page.text_content("#voxel")
    y = 12 * np.cos(np.radians(10)) - 49 * 3 * np.sin(np.radians(10))
    z = 12 * np.sin(np.radians(10)) + 49 * 3 * np.cos(np.radians(10))
    assert f"at R 15.0, P {-y:.1f}, S {z:.1f} mm" in page.page.text_content("#voxel")
    page.set("scan-frame", "2")
    page.wait_for("#voxel", f"content {2000 + 5 * 15 + 7 * 12 + 49}")
    coronal.focus()
    page.page.keyboard.press("+")  # twice as large, around the cross
    page.page.keyboard.press("+")
    assert page.page.input_value("#scan-zoom") == "4"
    box = coronal.bounding_box()
    # The view holds 5 columns and 15 rows, and the cross is in its middle or the view at its end.
    page.page.mouse.click(box["x"] + box["width"] * 0.1, box["y"] + box["height"] * 0.5)
    page.wait_for("#voxel", "right 18")


def test_letters_and_a_scale_are_drawn(page: Page, scan: Path) -> None:
    drop(page, "content", scan)
    page.wait_for("#voxel", "content")
    colored = """([name, x, y]) => {
      const c = document.querySelector(name), g = c.getContext("2d");
      const part = g.getImageData(c.width * x - 9, c.height * y - 9, 18, 18).data;
      let count = 0;
      for (let n = 0; n < part.length; n += 4) count += part[n] - part[n + 2] > 60 ? 1 : 0;
      return count; }"""
    for name in ("#plane-axial", "#plane-coronal", "#plane-sagittal"):
        height = page.page.locator(name).bounding_box()["height"]
        edge = 10 / height
        for x, y in ((edge, 0.47), (1 - edge, 0.47), (0.47, edge), (0.47, 1 - edge)):
            assert page.page.evaluate(colored, [name, x, y]) > 5, (name, x, y)


def test_a_look_is_shown_while_it_is_made(page: Page, folder: Path) -> None:
    page.page.click("label:has(#kind-volumes)")
    page.page.click('#contents button:has-text("chest")')
    page.page.click('#styles button:has-text("sharp")')
    page.wait_for("#voxel", "content")
    page.page.click("#start")
    page.page.wait_for_selector("#scan-result:enabled")
    assert page.page.locator("#stop").is_visible()  # before its end
    page.wait_for("#status", "done")
    assert page.page.locator("#history button").count() == 0  # nothing to go back to
    (values,) = folder.glob(".convnd-view/*/preview.npz")
    shown, content = Shown.load(values), samples.content("chest", spatial_dims=3)
    assert sorted(shown.values.shape[1:]) == sorted(content.shape)


def test_scans_are_accessible(browser: Any, folder: Path, scan: Path) -> None:
    (folder / scan.name).write_bytes(scan.read_bytes())
    with serve(ViewFolder(folder), [scan.name]) as (server, _):
        page = Page(browser, server.guard.address, bypass_csp=True)  # for the script of axe alone
        page.wait_for("#voxel", "content")
        check_accessible(page)
        page.close()
