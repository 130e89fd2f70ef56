"""Several processes give what one gives, and a lost one ends the job so that it can go on."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import convnd.io

ROOT = Path(__file__).parents[2]
KEEP = ("--checkpoint-every", "1", "--resume", "--steps", "100000")
# What is worked on, the command, and what it makes.
JOBS = {
    "signal": (
        (2000,),
        ("stylize", "--dim", "1", "a.npy", "b.npy", "--size", "0", "--backbone", "compact",
         "--precision", "float32", "--scales", "1", "--value-statistics", "none", *KEEP,
         "-o", "out.npy"),
        "out.npy",
    ),
    "scan": (
        (24, 22, 20),
        ("stylize-volume", "a.npy", "--style", "b.npy", "--spacing", "2,2,2", "--optimizer", "adam",
         "--style-layers", "relu1_1", "--transfer", "paint", "--no-figures", *KEEP,
         "-o", "out.nii"),
        "out.nii",
    ),
}  # fmt: skip


def start(folder: Path, count: int, command: tuple[str, ...]) -> list[subprocess.Popen[str]]:
    """What torchrun does, without its own report."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [
        subprocess.Popen(
            [sys.executable, "-m", "convnd", *command], cwd=folder, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **common, "RANK": str(rank)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for rank in range(count)
    ]  # fmt: skip


@pytest.mark.slow
def test_groups_of_two_three_and_four_equal_one(tmp_path: Path) -> None:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tasks")])
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "support" / "several_processes.py"), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("job", JOBS)
def test_a_lost_process_leaves_one_line_and_a_checkpoint_for_any_number(
    job: str, tmp_path: Path
) -> None:
    size, command, output = JOBS[job]
    rng = np.random.default_rng(0)
    for name in "ab":
        np.save(tmp_path / f"{name}.npy", rng.normal(size=size).astype(np.float32))
    first, second = start(tmp_path, 2, command)
    checkpoint = tmp_path / f"{output}.checkpoint"
    began = time.monotonic()
    while not checkpoint.exists() and first.poll() is None and time.monotonic() - began < 120:
        time.sleep(0.05)
    second.kill()
    out, errors = first.communicate(timeout=120)
    second.communicate(timeout=120)
    assert first.returncode == 4, errors
    line = errors.strip().splitlines()[-1]
    assert line.startswith("convnd: processes: expected all 2 to go on, lost one")
    assert "Traceback" not in errors
    assert out == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npy", "b.npy", checkpoint.name]
    # Three go on where two were; a signal to one of them stops all at one step.
    before = checkpoint.stat().st_mtime_ns
    several = start(tmp_path, 3, command)
    began = time.monotonic()
    while checkpoint.stat().st_mtime_ns == before and time.monotonic() - began < 120:
        time.sleep(0.05)
    several[2].send_signal(signal.SIGTERM)
    outputs = [process.communicate(timeout=120) for process in several]
    assert [process.returncode for process in several] == [143] * 3, outputs
    # Libraries may warn in lines of their own.
    assert [bool(out) or "convnd:" in err for out, err in outputs] == [True, False, False]
    assert outputs[0][0].startswith(f"stopped early, kept: {output}")
    assert convnd.io.read(tmp_path / output).values.isfinite().all()
    record = convnd.io.read_provenance(tmp_path / output)
    assert json.loads(record["convnd:versions"])["processes"] == "3"
    assert checkpoint.exists()
