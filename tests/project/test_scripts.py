"""Benchmarks and examples start, finish and say something, at the smallest sizes."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TINY = ["--size", "64", "--steps", "3", "--tries", "1", "--out", ".", "--json", "out.json"]
SCRIPTS = {
    "examples/any_rank.py": [],
    "examples/backbone_onnx.py": ["small.onnx", "--dim", "1", "--layers", "relu1_1,relu2_1"],
    "examples/four_axes.py": ["--steps", "1"],
    "examples/patches_in_python.py": ["photo.png", "painting.png"],
    "examples/stylize_in_python.py": ["photo.png", "painting.png", "out.png"],
    "benchmarks/performance/augmentation.py": ["--steps", "2", "--json", "out.json"],
    "benchmarks/performance/step.py": ["--size", "32", "--repeats", "1", "--json", "out.json"],
    "benchmarks/performance/features.py": [
        *["--backbones", "compact", "--extent", "32", "--repeats", "1", "--json", "out.json"],
    ],
    "benchmarks/performance/decoder_process.py": [
        *["--frames", "2", "--starts", "1", "--json", "out.json"],
    ],
    "benchmarks/performance/layers.py": ["--size", "32", "--repeats", "1", "--json", "out.json"],
    "benchmarks/performance/gpu.py": [
        *["--device", "cpu", "--tiny", "--only", "2", "--json", "out.json"],
    ],
    "benchmarks/performance/kill_and_resume.py": ["--kills", "1", "--steps", "3"],
    "benchmarks/experiments/moving_textures.py": [".", "--frames", "2"],
    "benchmarks/performance/scaling.py": [
        *["--sizes", "80", "--tile", "32", "off", "--backbone", "compact"],
        *["--repeats", "1", "--json", "out.json"],
    ],
    "benchmarks/performance/compact_backbone.py": [*TINY, "--pair", "town", "cells"],
    "benchmarks/experiments/precision.py": [
        *["--size", "64", "--steps", "3", "--backbone", "compact"],
        *["--pair", "town", "cells", "--json", "out.json", "--plot", "out.png"],
    ],
    "benchmarks/performance/patch_search.py": [
        "--size",
        "48",
        "--inputs",
        "2",
        "--repeats",
        "1",
        "--json",
        "out.json",
    ],
    "benchmarks/performance/video_flicker.py": [
        *[
            "--frames",
            "2",
            "--size",
            "48",
            "--steps",
            "2",
            "--style",
            "cells",
            "--json",
            "out.json",
        ],
    ],
    "benchmarks/performance/neighbours.py": [
        *["--size", "32", "--steps", "0", "--backbone", "compact", "--jobs", "1", "--repeats", "1"],
        *["--json", "out.json"],
    ],
    "benchmarks/performance/start_up.py": [
        *["--repeats", "1", "--commands=--help", "--json", "out.json"],
    ],
    "benchmarks/performance/soak.py": ["--jobs", "1", "--json", "out.json"],
    "benchmarks/experiments/malformed_files.py": ["broken", "--json", "out.json"],
    "benchmarks/performance/whole_job.py": [*TINY, "--their-steps", "1"],
    "benchmarks/training/train_ranks.py": [
        *("train", "--dim", "2", "--work", "work", "--learn", "slices"),
        *("--steps", "1", "--batch", "2", "--extent", "32"),
    ],
    "benchmarks/performance/scan_boxes.py": [
        *["D0.nii", "--styles", "white", "--json", "out.json"],
    ],
    "benchmarks/performance/known_answer_volumes.py": [
        "--size",
        "96",
        "--json",
        "out.json",
    ],
}


def run_script(script: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs a script of the repository in a folder, on one thread."""
    module = script.removesuffix(".py").replace("/", ".")
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        check=False,
    )


def write_scan(folder: Path) -> None:
    """Writes a scan of air and soft tissue, in HU."""
    import nibabel as nib
    import numpy as np

    values = np.full((40, 40, 16), 40.0, np.float32)
    values[:10] = -1000
    values += np.random.default_rng(0).normal(0, 5, values.shape).astype(np.float32)
    nib.save(nib.Nifti1Image(values, np.eye(4)), folder / "D0.nii")


def write_pictures(folder: Path) -> None:
    """Writes the content and the style that scripts get."""
    from convnd_tasks import samples

    from convnd import io

    io.write(folder / "photo.png", samples.content(spatial_dims=2, size=64))
    io.write(folder / "painting.png", samples.style("cells", spatial_dims=2, size=64))


@pytest.mark.parametrize("script", ["examples/any_rank.py", "examples/patches_in_python.py"])
def test_example_runs(
    script: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_pictures(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [script, *SCRIPTS[script]])
    runpy.run_path(str(ROOT / script), run_name="__main__")
    assert capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("script", list(SCRIPTS))
def test_script_runs(script: str, tmp_path: Path) -> None:
    write_pictures(tmp_path)
    write_scan(tmp_path)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes((tmp_path / "photo.png").read_bytes()[:-9])
    done = run_script(script, *SCRIPTS[script], folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    if "--json" in SCRIPTS[script]:
        report = json.loads((tmp_path / "out.json").read_text())
        assert report["machine"]["cpu"]
        assert script.removesuffix(".py").replace("/", ".") in report["command"]
        assert report["tables"][0]["rows"]


def test_the_page_of_figures_is_made_of_the_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["page.py", "--check"])
    runpy.run_path(str(ROOT / "benchmarks" / "page.py"), run_name="__main__")


@pytest.mark.parametrize("reader", ["a.nii", "a.mp4"])
def test_fuzzing_finds_nothing_in_a_few_turns(reader: str, tmp_path: Path) -> None:
    """Coverage guides it: at least one input is kept for the lines that it reached."""
    pytest.importorskip("atheris")
    done = run_script("benchmarks/experiments/fuzz.py", reader, "--runs", "150", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Done 150 runs" in done.stderr
    assert "NEW" in done.stderr
    assert not list((tmp_path / "findings").iterdir())


def test_fuzzing_every_reader_finds_nothing(tmp_path: Path) -> None:
    pytest.importorskip("atheris")
    done = run_script("benchmarks/experiments/fuzz.py", "--runs", "150", folder=tmp_path)
    assert done.returncode == 0, done.stdout
    *rows, last = done.stdout.splitlines()
    held, _, count = last.split()[:3]
    assert held == count
    inputs = [int(row.split()[1]) for row in rows]
    assert len(inputs) == int(count) > 20
    assert min(inputs) >= 150, done.stdout


# Modules that scripts import; they are not scripts themselves.
MODULES = {
    "__init__",
    "attack_commands",
    "attack_containers",
    "attack_jobs",
    "attack_pictures",
    "attack_signals",
    "attack_volumes",
    "band_matching",
    "batched_matching",
    "common",
    "distill_networks",
    "measurement",
    "distill_optimiser",
    "distill_pictures",
    "energies",
    "fuzz_parsers",
    "gpu_steps",
    "gpu_tasks",
    "networks_1d",
    "networks_3d",
    "procedural",
    "scan_box_tables",
    "scan_figures",
    "scan_truths",
}


@pytest.mark.filterwarnings("ignore:scipy.misc is deprecated:DeprecationWarning")  # neurokit2
@pytest.mark.parametrize(
    "script",
    [path for path in sorted((ROOT / "benchmarks").rglob("*.py")) if path.stem not in MODULES],
    ids=lambda path: path.stem,
)
def test_every_benchmark_explains_itself(
    script: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert ended.value.code == 0
    assert "usage" in capsys.readouterr().out
