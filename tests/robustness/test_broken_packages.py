"""A package that is missing, or lacks a library of the system, is named in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

# What Python raises for OpenCV on Debian's images without a desktop.
BROKEN = """raise ImportError(
    "libgthread-2.0.so.0: cannot open shared object file: No such file or directory", name="cv2"
)
"""


MISSING = """raise ModuleNotFoundError("No module named 'cv2'", name="cv2")
"""
LINES = {
    BROKEN: "expected a package that can be loaded, got 'libgthread-2.0.so.0: cannot open shared "
    "object file: No such file or directory'; apt-get install libglib2.0-0",
    MISSING: "expected the package, got none installed; pip install convnd-toolkit",
}


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("module", LINES, ids=["broken", "missing"])
def test_opencv_that_cannot_be_loaded(tmp_path: Path, depth: int, module: str) -> None:
    """The decoding child needs OpenCV for 16 bits; the job itself for a transparent picture."""
    pixels = np.full((20, 24, 3 if depth == 16 else 4), 90, f"uint{depth}")
    pixels[:4] = 0
    assert cv2.imwrite(str(tmp_path / "a.png"), pixels)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "cv2.py").write_text(module)
    command = ["stylize", "a.png", "waves", "--steps", "1", "--size", "0"]
    ended = subprocess.run(
        [sys.executable, "-m", "convnd", *command],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "broken"), "CONVND_TRACEBACK": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stderr == f"convnd: load cv2: {LINES[module]}\n"
    assert (ended.returncode, ended.stdout) == (2, "")
    assert not (tmp_path / "a_stylized.png").exists()
