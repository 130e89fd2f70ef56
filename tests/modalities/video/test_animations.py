"""Animated pictures as contents and results: skipping, and metadata that is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Run
from error_fields import check_error
from PIL import Image

QUICK = ("--steps", "1", "--frame-steps", "1", "--scales", "1", "--backbone", "compact", "-q")


def animation(path: Path) -> None:
    """Three frames, with the name of a camera where the format has a place."""
    frames = [
        Image.fromarray(np.random.default_rng(k).integers(0, 255, (16, 24, 3), dtype=np.uint8))
        for k in range(3)
    ]
    exif = Image.Exif()
    exif[0x10F] = "Camera"
    options: Any = {"comment": b"Camera"} if path.suffix == ".gif" else {"exif": exif.tobytes()}
    frames[0].save(
        path, save_all=True, append_images=frames[1:], duration=[100, 200, 300], **options
    )


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".gif", ".webp", ".apng"])
def test_animated_results_are_skipped_and_stripped(run: Run, tmp_path: Path, suffix: str) -> None:
    animation(tmp_path / "a.webp")
    result = f"o{suffix}"
    words = ("stylize-video", "a.webp", "waves", *QUICK, "--no-figures", "-o", result)
    code, _, err = run(*words)
    assert code == 0, err
    data = (tmp_path / result).read_bytes()
    code, out, _ = run(*words, "--skip-existing")
    assert (code, "same parameters" in out) == (0, True)
    code, _, err = run(*words, "--skip-existing", "--seed", "3")
    assert code == 2
    check_error(err, got="differs in seed")
    assert (tmp_path / result).read_bytes() == data

    code, _, err = run(*words[:-1], f"s{suffix}", "--strip", "--no-metadata")
    assert code == 0, err
    assert not (tmp_path / f"s{suffix}.json").exists()
    assert b"Camera" not in (tmp_path / f"s{suffix}").read_bytes()
