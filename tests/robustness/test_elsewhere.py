"""Commands on a system without what only Linux has: they work, and ``-v`` says what is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from convnd_tasks import samples
from convnd_tasks.runtime.elsewhere import missing_on_this_system

from convnd import io

SUPPORT = Path(__file__).parents[1] / "support" / "elsewhere"
COMMANDS = {
    "picture": "stylize photo.png style.png --size 32 --steps 2 --backbone compact -o out.png",
    "instant": "stylize photo.png style.png --size 32 --instant -o out.png",
    "signal": "stylize ecg ambulatory --steps 2 -o out.csv",
    "measures": "evaluate photo.png style.png",
    "scan": "stylize chest sharp --steps 2 -o out.nii.gz",
}


def pretend(system: str, *words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command as if it were on another system."""
    search = os.pathsep.join([str(SUPPORT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": search, "CONVND_PRETEND": system}
    return subprocess.run(
        [sys.executable, "-m", "convnd", *words],
        cwd=folder,
        env={**environment, "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(sys.platform != "linux", reason="pretends to be elsewhere")
@pytest.mark.parametrize(
    ("system", "kind"),
    [
        ("win32", "picture"),
        pytest.param("darwin", "picture", marks=pytest.mark.slow),
        *[
            pytest.param(system, kind, marks=pytest.mark.slow)
            for kind in ("instant", "signal", "measures", "scan")
            for system in ("win32", "darwin")
        ],
    ],
)
def test_commands_work_without_what_linux_has(system: str, kind: str, tmp_path: Path) -> None:
    io.write(tmp_path / "photo.png", samples.content(spatial_dims=2, size=64))
    io.write(tmp_path / "style.png", samples.style("cells", spatial_dims=2, size=64))
    done = pretend(system, *COMMANDS[kind].split(), "-v", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "this system has no" in line]
    assert "limit" in line
    assert ("locks" in line) == (system == "win32")
    if kind != "measures":
        assert list(tmp_path.glob("out.*"))


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux")
def test_linux_lacks_nothing() -> None:
    assert missing_on_this_system() == []


@pytest.mark.skipif(sys.platform != "linux", reason="pretends to be elsewhere")
@pytest.mark.slow
def test_the_result_is_that_of_linux(tmp_path: Path) -> None:
    io.write(tmp_path / "photo.png", samples.content(spatial_dims=2, size=64))
    io.write(tmp_path / "style.png", samples.style("cells", spatial_dims=2, size=64))
    results = []
    for system in ("linux", "win32"):
        words = COMMANDS["picture"].replace("out.png", f"{system}.png").split()
        assert pretend(system, *words, folder=tmp_path).returncode == 0
        results.append(io.read(tmp_path / f"{system}.png").values.numpy())
    first, second = results
    np.testing.assert_allclose(first, second, atol=1.5 / 255)
