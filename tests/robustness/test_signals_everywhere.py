"""SIGINT and SIGTERM in every phase of every command: prompt, one line, nothing left behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil
import pytest
import stopped
import torch
from PIL import Image

from convnd.io import VideoFrame, VideoInfo, write_video

pytestmark = pytest.mark.slow  # each command is started and stopped many times

FAST = ["--backbone", "compact", "--steps", "2", "--scales", "1", "-q"]
PICTURE = ["stylize", "a.png", "waves", *FAST, "--size", "32"]
SIGNAL = ["stylize", "a.csv", "a.csv", "--rate", "100", *FAST, "--report", "r.html"]
VOLUME = ["stylize-volume", "a.nii", "--style", "a.nii", *FAST, "--transfer", "paint",
          "--report", "r.html"]  # fmt: skip
CLIP = ["stylize-video", "frames", "waves", *FAST, "--size", "64", "-o", "o.mp4"]
FILM = ["stylize-video", "a.mp4", "waves", *FAST, "--size", "64", "-o", "o.mp4"]
PATCHES = ["patches", "a.png", "--layer", "relu2_1", "--units", "0-1", "--optimal", "-q"]

READ, WRITTEN = "convnd.io.files:read", "convnd.io.atomic:sync"
PHASES: dict[str, tuple[list[str], str, set[str]]] = {
    # What may be there afterwards besides the inputs: work that was promised to be kept.
    "picture, reading": (PICTURE, "convnd_tasks.pipeline.job:Job.open", set()),
    "picture, weights": (PICTURE, "convnd.transfer.network:load", set()),
    "picture, targets": (PICTURE, "convnd.losses.style:StyleLoss.__init__", set()),
    "picture, first step": (PICTURE, "convnd.losses.objective:Objective.value", set()),
    "picture, later step": (
        PICTURE,
        "convnd.losses.objective:Objective.value@3",
        {"a_stylized.png"},
    ),
    "picture, writing": (PICTURE, f"{WRITTEN}@2", set()),
    "signal, reading": (SIGNAL, "convnd.io.signals.delimited_text:_cells", set()),
    "signal, drawing": (
        SIGNAL,
        "convnd_tasks.pipeline.transfer_report:write_report",
        {"a_stylized.csv", "a_stylized.csv.json"},
    ),
    "volume, targets": (VOLUME, "convnd.losses.style:StyleLoss.__init__", set()),
    "volume, its look": (
        ["stylize-volume", "a.nii", "--style", "a.nii", "-q"],
        "convnd_tasks.modalities.volumes.look_transfer:LookTransfer._open_styles",
        set(),
    ),
    "volume, drawing": (
        VOLUME,
        "convnd_tasks.modalities.volumes.figures:montage",
        {"a_stylized.nii.gz"},
    ),
    "volume, writing": (VOLUME, f"{WRITTEN}@2", set()),
    "clip, decoding": (CLIP, "convnd_tasks.modalities.video.frames:iter_frames", set()),
    "clip, flow": (CLIP, "convnd_tasks.modalities.video.input:estimate_flow", {"o.mp4.frames"}),
    "clip, encoding": (CLIP, "convnd.io.video.encoder:_codes", {"o.mp4.frames"}),
    "clip file, decoding": (FILM, "convnd_tasks.modalities.video.frames:iter_frames", set()),
    "clip file, its child": (
        ["evaluate", "a.mp4", "a.mp4"],
        "convnd.io.worker.client:_receive@9",
        set(),
    ),
    "block, step": (
        [*CLIP, "--mode", "block"],
        "convnd.losses.objective:Objective.value@2",
        set(),
    ),
    "texture, step": (
        ["stylize", "--texture", "a.png", *FAST, "--size", "32"],
        "convnd.losses.objective:Objective.value@2",
        {"a_stylized.png"},
    ),
    "patches, reading": (PATCHES, "convnd_tasks.inspect.job:resolve_inputs", set()),
    "patches, search": (PATCHES, "convnd_tasks.inspect.job:find_patches", set()),
    "patches, optimal": (PATCHES, "convnd_tasks.inspect.maximize:_frequencies", set()),
    "patches, writing": (PATCHES, f"{WRITTEN}@2", set()),
    "evaluate": (
        ["evaluate", "a.csv", "a.csv"],
        "convnd_tasks.modalities.inputs:TransferInputs.compared_content",
        set(),
    ),
    "trace": (["trace", "14x1", "conv:5:2"], "convnd_tasks.commands.trace:as_table", set()),
    "samples": (["samples"], "convnd_tasks.samples:styles", set()),
    "backbones": (["backbones"], "convnd_tasks.commands.backbones:_description", set()),
    "weights": (["weights", "verify", "compact"], "convnd.backbones.weights:verify", set()),
    "rerun": (["rerun", "a.png"], "convnd_tasks.commands.rerun:parse_record", set()),
}

KINDS = ("images", "signals", "volumes", "video")
"""Packages of `convnd_tasks.modalities` that the commands here use."""


@pytest.fixture(scope="module")
def server() -> multiprocessing.context.ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    modules = [place.partition(":")[0] for _, place, _ in PHASES.values()]
    kinds = [f"convnd_tasks.modalities.{name}.modality" for name in KINDS]
    context.set_forkserver_preload(
        ["stopped", "convnd.cli", "convnd_tasks.pipeline.run", *modules, *kinds]
    )
    return context


def make_inputs(folder: Path) -> None:
    (folder / "frames").mkdir(parents=True)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (64, 64, 3), np.uint8)
    for number, name in enumerate(("a.png", "frames/1.png", "frames/2.png")):
        Image.fromarray(np.roll(pixels, number, 1)).save(folder / name)
    frames = (VideoFrame(n, torch.rand(1, 3, 64, 64)) for n in range(6))
    info = VideoInfo(path=folder, size=(64, 64), time_base=Fraction(1, 25), rate=Fraction(25))
    write_video(folder / "a.mp4", info, frames)
    scan = rng.normal(size=(18, 17, 16)).astype(np.float32)
    nib.Nifti1Image(scan, np.eye(4)).to_filename(folder / "a.nii")
    rows = "\n".join(f"{value:.6g}" for value in scan.flat)
    (folder / "a.csv").write_text(f"I (mV)\n{rows}\n")


@pytest.mark.parametrize("phase", PHASES)
def test_a_signal_ends_it_at_once(
    phase: str, server: multiprocessing.context.ForkServerContext, tmp_path: Path
) -> None:
    command, place, leftover = PHASES[phase]
    # One of the two for each phase: both end in the same handler.
    number = [signal.SIGINT, signal.SIGTERM][list(PHASES).index(phase) % 2]
    work = tmp_path / "work"
    make_inputs(work)
    before = {path.name for path in work.iterdir()}
    process = server.Process(target=stopped.command, args=(command, place, str(tmp_path)))
    process.start()
    while not (tmp_path / "here").exists() and process.is_alive():
        time.sleep(0.01)
    assert (tmp_path / "here").exists(), (tmp_path / "err").read_text()
    assert process.pid is not None
    os.kill(process.pid, number)
    process.join(30)
    err = (tmp_path / "err").read_text()
    assert process.exitcode == 128 + number, err
    *_, last = err.splitlines()
    assert last == f"convnd: stopped by {number.name}"
    assert "Traceback" not in err
    assert "ignored" not in err
    names = {path.name for path in work.iterdir()} - before
    # The flow is looked for while the first frame is worked on, which may be finished or not.
    assert names == leftover or (phase == "clip, flow" and not names)
    assert not list(work.rglob(".convnd-*"))
    # Children that nobody took leave of are ended by the system, which may take it a moment.
    deadline = time.monotonic() + 10
    while (left := _left(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left


def _left(session: int) -> list[int]:
    return [
        process.pid
        for process in psutil.process_iter(["status"])
        if _session(process.pid) == session and process.info["status"] != psutil.STATUS_ZOMBIE
    ]


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


@pytest.mark.parametrize(("name", "number"), [("typer", signal.SIGINT), ("torch", signal.SIGTERM)])
def test_a_signal_while_importing(name: str, number: signal.Signals, tmp_path: Path) -> None:
    """The command line itself, in a process of its own, held where it imports."""
    make_inputs(tmp_path / "work")
    code = f"""
import pathlib, runpy, sys, time
class Hold:
    def find_spec(self, name, *_):
        if name == {name!r}:
            pathlib.Path('../here').touch()
            time.sleep(60)
sys.meta_path.insert(0, Hold())
sys.argv = ['convnd', *{PICTURE!r}]
runpy.run_module('convnd', run_name='__main__')
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path / "work", stderr=subprocess.PIPE, text=True
    )
    while not (tmp_path / "here").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert err == f"convnd: stopped by {number.name}\n"
    assert process.returncode == 128 + number
