"""Signals on the page, in a real browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser_page import Page, check_accessible, drop
from convnd_tasks import samples
from convnd_tasks.view.folder import ViewFolder
from convnd_tasks.view.run import serve

from convnd import io

pytestmark = pytest.mark.slow


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Four seconds of two leads of an electrocardiogram, outside of the folder."""
    whole = tmp_path / "whole.csv"
    io.write(whole, samples.content("ecg", spatial_dims=1, size=2000))
    path = tmp_path / "Langzeitelektrokardiogramm.csv"
    rows = (line.split(",")[:3] for line in whole.read_text().splitlines())
    path.write_text("".join(f"{','.join(row)}\n" for row in rows))
    return path


def test_drop_a_recording_see_steps_stop_and_download(
    page: Page, folder: Path, recording: Path
) -> None:
    drop(page, "content", recording)  # on the page of pictures, which becomes that of signals
    page.page.wait_for_selector("#kind-signals:checked")
    page.page.wait_for_selector(".trace canvas")
    assert page.page.locator(".trace").count() == 2
    page.page.click('#styles button:has-text("ambulatory")')
    page.start(steps=5000)
    page.wait_for("#figures", "step")
    page.page.wait_for_selector('.trace[aria-label*="result"]')  # the trace of a step
    page.until("document.querySelector('#spectrum').ariaLabel.includes('result')")
    page.set("strength", "0.4")  # while it runs
    page.wait_for("#note", "strength=0.4")
    page.stop()
    copy = folder / "copy.csv"
    copy.write_bytes(page.download()[1])
    result, content = io.read(copy), io.read(recording)
    assert (result.shape, result.channels) == (content.shape, content.channels)
    record = io.read_provenance(folder / f"{recording.stem}_stylized.csv")
    assert "strength=0.4" in record["convnd:change"]


def test_a_span_that_the_mouse_marks_is_a_region(page: Page, folder: Path, recording: Path) -> None:
    drop(page, "content", recording)
    page.page.wait_for_selector("#kind-signals:checked")
    page.page.click('#styles button:has-text("ambulatory")')
    page.page.wait_for_selector('.trace[aria-label*="style"] canvas')  # the last that moves traces
    page.wait_for("#signal-range", "0.00 to 4.00")
    page.page.locator(".u-over").first.scroll_into_view_if_needed()
    box = page.page.locator(".u-over").first.bounding_box()
    page.page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + 20)
    page.page.mouse.down()
    page.page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 20, steps=5)
    page.page.mouse.up()
    marked = page.page.locator("#spans input").evaluate_all("all => all.map((one) => +one.value)")
    assert np.allclose(marked, (1, 2), atol=0.05)
    page.page.locator("#spans input").nth(1).fill("2.5")  # as with the keyboard alone
    page.page.select_option("#region-style", "chosen")
    page.start(steps=3)
    page.wait_for("#status", "done")
    (table,) = (folder / "inputs").glob("spans*.csv")
    assert table.read_text().splitlines()[0] == "start,end,label,lead"
    result = io.read(folder / f"{recording.stem}_stylized.csv")
    times = np.arange(2000) / 500
    changed = (result.values - io.read(recording).values)[0].abs().amax(0).numpy() > 1e-6
    assert changed[(times > 1.5) & (times < 2)].mean() > 0.9
    assert not changed[(times < marked[0] - 0.01) | (times > 2.51)].any()


def test_signals_are_accessible(browser: Any, folder: Path, recording: Path) -> None:
    io.write(folder / recording.name, io.read(recording))
    with serve(ViewFolder(folder), [recording.name, "arrhythmia"]) as (server, _):
        page = Page(browser, server.guard.address, bypass_csp=True)  # for the script of axe alone
        page.page.wait_for_selector(".trace canvas")
        page.page.click("#add-span")
        page.page.focus("#traces")
        page.page.keyboard.press("+")
        page.wait_for("#signal-range", "of 4.00")
        check_accessible(page)
        page.close()
