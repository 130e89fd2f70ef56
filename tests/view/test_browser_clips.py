"""Clips on the page, in a real browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from browser_page import Page, check_accessible, drop
from convnd_tasks.samples import video
from convnd_tasks.view.folder import ViewFolder
from convnd_tasks.view.run import serve
from PIL import Image

from convnd import io

pytestmark = pytest.mark.slow

FRAMES = 4


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Four frames, outside of the folder."""
    path = tmp_path / "Sommerurlaubserinnerungen.mp4"
    made = video.SampleVideo((FRAMES, 48, 64))
    io.write_video(path, made.info, made.frames())
    return path


def open_clip(page: Page, clip: Path) -> None:
    drop(page, "content", clip)
    page.page.wait_for_selector("#kind-videos:checked")
    page.wait_for("#clip-frame", f"(0 to {FRAMES - 1})")
    page.page.click('#styles button:has-text("waves")')


def test_a_clip_is_stopped_and_goes_on_and_both_play_in_step(page: Page, clip: Path) -> None:
    open_clip(page, clip)
    page.start(size=64, steps=400)
    page.page.wait_for_selector("#clip-step:not([hidden])")  # the frame that is worked on
    page.page.wait_for_selector("#losses canvas")  # and its loss
    page.stop()
    page.page.click("#continue")
    page.page.wait_for_selector("#stop")
    page.set("strength", "0.4")
    page.wait_for("#status", "done")
    page.wait_for("#note", "strength=0.4")
    page.until("document.querySelector('#clip-result').readyState >= 2")
    page.set("clip-time", "1")
    page.page.click("#clip-next")
    page.wait_for("#clip-frame", "frame 2 (")
    times = page.page.evaluate(
        "['content', 'result'].map((name) => document.querySelector(`#clip-${name}`).currentTime)"
    )
    assert times[0] == pytest.approx(2.5 / 25, abs=1e-3)
    assert times[1] == times[0]
    page.until("document.querySelector('#slit').naturalWidth > 0")
    page.page.wait_for_selector("#warp canvas")
    page.wait_for("#warp-note", "result")
    page.wait_for("#losses-note", f"Mean of {FRAMES} frames")
    assert len(page.download()[1]) > 1000


def test_a_frame_becomes_a_keyframe(page: Page, folder: Path, clip: Path) -> None:
    open_clip(page, clip)
    page.page.click("#clip-next")
    page.wait_for("#clip-frame", "frame 1 (")
    page.page.click("#clip-keep")
    page.wait_for("#keyframe-note", "Kept as")
    (kept,) = (folder / "inputs").glob("*-frame-1.png")
    with Image.open(kept) as picture:
        assert picture.size == (64, 48)
    page.page.wait_for_selector("#keyframe-add:enabled")
    page.page.click("#keyframe-add")
    page.wait_for("#keyframes", "frame 1: inputs/")
    page.start(size=64, steps=5)
    page.wait_for("#status", "done")
    record = io.read_provenance(folder / f"{clip.stem}_stylized.mp4")
    assert "--keyframe=1={1}" in record["convnd:command"]


def test_clips_are_accessible(browser: Any, folder: Path, clip: Path) -> None:
    (folder / clip.name).write_bytes(clip.read_bytes())
    with serve(ViewFolder(folder), [clip.name]) as (server, _):
        page = Page(browser, server.guard.address, bypass_csp=True)  # for the script of axe alone
        page.wait_for("#clip-frame", "frame 0 (")
        check_accessible(page)
        page.close()
