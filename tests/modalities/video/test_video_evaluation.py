"""``convnd evaluate`` of videos reads the content as the transfer did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import Run
from video_files import write_video_file

HLG = {
    "x265-params": "log-level=none:colorprim=bt2020:transfer=arib-std-b67:colormatrix=bt2020nc",
    "crf": "1",
}


@pytest.mark.parametrize(
    ("source", "options"),
    [
        ({}, ("--from", "0.04", "--every", "2")),
        pytest.param({"interlaced": True}, ("--deinterlace",), marks=pytest.mark.slow),
        pytest.param(
            {"codec": "libx265", "pix_fmt": "yuv420p10le", "options": HLG},
            ("--tone-map",),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_evaluation_reads_the_content_as_the_transfer_did(
    source: dict[str, Any], options: tuple[str, ...], run: Run, tmp_path: Path
) -> None:
    write_video_file(tmp_path / "a.mp4", range(0, 4 * 3600, 3600), **source)
    few = ("--steps", "1", "--size", "32", "--scales", "1", "--no-figures", "-o", "o.mp4")
    code, _, err = run("stylize-video", "a.mp4", "waves", *few, *options, "--strength", "0")
    assert code == 0, err
    if "--deinterlace" not in options:
        assert run("evaluate", "a.mp4", "o.mp4")[0] == 3  # HDR, or another number of frames
    code, out, err = run("evaluate", "a.mp4", "o.mp4", "--json", *options)
    assert code == 0, err
    measures = json.loads(out)["measures"]
    assert measures["content_energy"]["value"] < 0.1  # what was not changed, but encoded
