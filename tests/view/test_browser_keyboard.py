"""The page with the keyboard alone: from a file of the folder to its result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from browser_page import Page
from convnd_tasks import samples

from convnd import io

pytestmark = pytest.mark.slow

FILES = {"pictures": "photo.png", "signals": "trace.csv", "volumes": "scan.nii.gz"}
STYLES = {"pictures": "waves", "signals": "ambulatory", "volumes": "sharp"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a file of each kind."""
    root = tmp_path / "results"
    root.mkdir()
    io.write(root / FILES["pictures"], samples.content("town", spatial_dims=2, size=64))
    io.write(root / FILES["signals"], samples.content("ecg", spatial_dims=1, size=1000))
    io.write(root / FILES["volumes"], samples.content("chest", spatial_dims=3, size=24))
    return root


def tab_to(page: Page, wanted: str, key: str = "Tab") -> None:
    """Press a key until an element has the focus: one with an id, or a button with a text."""
    test = """(wanted) => {
      const one = document.activeElement;
      return one.id === wanted || (one.tagName === "BUTTON" && one.textContent.includes(wanted));
    }"""
    for _ in range(80):
        page.page.keyboard.press(key)
        if page.page.evaluate(test, wanted):
            return
    raise AssertionError(f"{key} does not reach {wanted}")


def is_in_view(page: Page, place: str) -> Any:
    return page.page.evaluate(
        """(place) => {
          const { top } = document.querySelector(place).getBoundingClientRect();
          return top >= 0 && top < innerHeight / 2;
        }""",
        place,
    )


@pytest.mark.parametrize("kind", FILES)
def test_from_a_file_of_the_folder_to_its_result(page: Page, folder: Path, kind: str) -> None:
    page.page.wait_for_selector(f'#contents button:has-text("{FILES["pictures"]}")')
    tab_to(page, "kind-pictures")
    while not page.page.is_checked(f"#kind-{kind}"):
        page.page.keyboard.press("ArrowRight")
    tab_to(page, FILES[kind])
    page.page.keyboard.press("Enter")
    tab_to(page, STYLES[kind])
    page.page.keyboard.press("Space")
    if kind == "pictures":  # the smallest is quick
        tab_to(page, "size")
        page.page.keyboard.press("Home")
    if kind != "volumes":  # a look takes no steps
        tab_to(page, "steps")
        page.page.keyboard.press("Home")
    tab_to(page, "start")
    page.page.keyboard.press("Enter")
    page.wait_for("#status", "done")
    assert is_in_view(page, "#stage")
    stem, _, suffix = FILES[kind].partition(".")
    assert (folder / f"{stem}_stylized.{suffix}").exists()
    page.page.wait_for_selector(f'#results:has-text("{stem}_stylized")')
    tab_to(page, f"kind-{kind}", "Shift+Tab")  # and back to the beginning
