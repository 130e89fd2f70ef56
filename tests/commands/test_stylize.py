from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Run
from convnd_tasks import samples
from error_fields import check_error
from PIL import Image

import convnd.io
from convnd import cli
from convnd.transfer.style_transfer import StyleTransfer

QUICK = ("--backbone", "compact", "--steps", "3", "--size", "48", "--scales", "2")


def picture(path: Path, size: tuple[int, int] = (60, 40), mode: str = "RGB", seed: int = 0) -> Path:
    channels = len(Image.new(mode, (1, 1)).getbands())
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (5, 5, channels), dtype=np.uint8).squeeze()
    Image.fromarray(coarse, mode=None).resize(size, Image.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return picture(tmp_path / "photo.png"), picture(tmp_path / "painting.png", seed=1)


def test_a_photo_and_a_painting_give_a_picture(
    run: Run, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    code, out, err = run("stylize", *pair, *QUICK)
    assert (code, err) == (0, "")
    assert out.startswith("photo_stylized.png  48x32, 3 steps, loss ")
    with Image.open(tmp_path / "photo_stylized.png") as result:
        assert (result.size, result.mode) == ((48, 32), "RGB")
        text = result.text  # type: ignore[attr-defined]
    assert text["Software"].startswith("convnd ")
    assert text["convnd:backbone"] == "compact"
    entries = json.loads(text["convnd:inputs"])
    assert [entry["name"] for entry in entries] == [path.name for path in pair]


def test_the_same_seed_gives_the_same_bytes(
    run: Run, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        arguments = ("--init", "random", "--seed", str(seed), "--no-metadata")
        assert run("stylize", *pair, *QUICK, *arguments, "-o", f"{name}.png")[0] == 0
    first, again, other = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert first == again
    assert first != other


@pytest.mark.slow
def test_demo_twice_gives_two_pictures(run: Run, tmp_path: Path) -> None:
    for _ in range(2):
        assert run("stylize", "--dim", "2", *QUICK)[0] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stylized-2.png", "stylized.png"]


@pytest.mark.slow
def test_demo_of_a_signal(run: Run, tmp_path: Path) -> None:
    arguments = ("--backbone", "compact", "--steps", "1", "--size", "32", "--scales", "1")
    code, out, _ = run("stylize", "--dim", "1", *arguments)
    assert code == 0
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["stylized-ecg.png", "stylized.csv", "stylized.csv.json"]
    assert out.startswith("stylized.csv")


@pytest.mark.slow
def test_demo_of_a_scan_takes_the_noise_of_its_style(run: Run, tmp_path: Path) -> None:
    code, out, err = run("stylize", "--dim", "3")
    assert code == 0, err
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["stylized-montage.png", "stylized.nii.gz"]
    assert out.startswith("stylized.nii.gz")
    result = convnd.io.read(tmp_path / "stylized.nii.gz")
    scan = samples.content("chest", spatial_dims=3)
    assert result.shape == scan.shape
    liver = (0, 0, slice(60, 70), slice(44, 56), slice(3, 10))
    assert result.values[liver].std() > 3 * scan.values[liver].std()


@pytest.mark.slow
def test_scan_to_scan(run: Run, tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    values = np.random.default_rng(0).normal(0, 300, (20, 18, 16)).astype(np.int16)
    affine = np.diag([-2.5, 2.5, 5.0, 1.0])  # so large that the built-in scan has few voxels
    affine[:3, 3] = 10, -20, 30
    nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / "scan.nii")
    code, out, err = run("stylize-volume", "scan.nii", "--steps", "1", "--style-layers", "relu1_1")
    assert code == 0, err
    assert "no style given, using the built-in one: " in err
    assert out.startswith("scan_stylized.nii.gz  ")
    result = nibabel.load(tmp_path / "scan_stylized.nii.gz")
    np.testing.assert_allclose(result.affine, affine)
    assert result.shape == values.shape
    assert abs(float(np.median(result.get_fdata())) - float(np.median(values))) < 150


def test_alpha_is_kept(run: Run, pair: tuple[Path, Path], tmp_path: Path) -> None:
    cut = picture(tmp_path / "cut.png", mode="RGBA")
    assert run("stylize", cut, pair[1], *QUICK, "-o", "out.png")[0] == 0
    with Image.open(cut) as before, Image.open(tmp_path / "out.png") as after:
        assert after.mode == "RGBA"
        expected = before.getchannel("A").resize((48, 32), Image.Resampling.BOX)
        difference = np.abs(np.subtract(after.getchannel("A"), expected, dtype=float))  # type: ignore[call-overload]
    assert difference.mean() < 4


def test_luminance_only_keeps_the_chroma(run: Run, pair: tuple[Path, Path], tmp_path: Path) -> None:
    arguments = ("--colors", "luminance", "--size", "0", "-o", "out.png")
    assert run("stylize", *pair, *QUICK, *arguments)[0] == 0
    with Image.open(pair[0]) as before, Image.open(tmp_path / "out.png") as after:
        one, other = (np.asarray(image, dtype=float) for image in (before, after))
    assert np.abs(one - other).max() > 5
    inside = ((other > 1) & (other < 254)).all(-1)  # where nothing was clipped
    for a, b in ((0, 1), (1, 2)):
        difference = (one[..., a] - one[..., b]) - (other[..., a] - other[..., b])
        assert np.abs(difference[inside]).max() <= 1.01  # rounding


def test_matched_colors_are_the_contents(tmp_path: Path) -> None:
    import torch
    from convnd_tasks.modalities.images.codec import color_moments, match_colors

    generator = torch.Generator().manual_seed(0)
    style = torch.rand(1, 3, 40, 40, generator=generator) * 0.2
    content = torch.rand(1, 3, 30, 50, generator=generator) * 0.3 + 0.3
    matched = match_colors(style, color_moments(content))[0].flatten(1).numpy()
    colors = content[0].flatten(1).numpy()
    np.testing.assert_allclose(matched.mean(1), colors.mean(1), atol=1e-3)
    np.testing.assert_allclose(np.cov(matched), np.cov(colors), atol=1e-3)


def test_texture_without_content(run: Run, pair: tuple[Path, Path], tmp_path: Path) -> None:
    assert run("stylize", "--texture", pair[1], *QUICK, "-o", "t.png")[0] == 0
    with Image.open(tmp_path / "t.png") as result:
        assert result.size == (48, 48)


def test_every_saved_step_and_start_from_a_file(
    run: Run, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    assert run("stylize", *pair, *QUICK, "--save-every", "2", "-o", "a.png")[0] == 0
    assert (tmp_path / "a-000002.png").exists()
    assert run("stylize", *pair, *QUICK, "--init", "a.png", "--steps", "0", "-o", "b.png")[0] == 0
    with Image.open(tmp_path / "a.png") as a, Image.open(tmp_path / "b.png") as b:
        assert b.text["convnd:init"] == "a.png"  # type: ignore[attr-defined]
        assert np.abs(np.subtract(a, b, dtype=float)).mean() < 12  # type: ignore[call-overload]


def test_several_styles_blend(run: Run, pair: tuple[Path, Path]) -> None:
    arguments = ("--style-weights", "3,1", "-o", "both.png")
    assert run("stylize", *pair, "cells", *QUICK, *arguments)[0] == 0
    code, _, err = run("stylize", *pair, *QUICK, "--style-weights", "3,1")
    assert (code, err.count("\n")) == (2, 1)
    check_error(err, operation="style_weights", expected="one weight for each of 1 styles", got="2")


def test_a_folder_reports_what_failed(run: Run, pair: tuple[Path, Path], tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    picture(folder / "a.png")
    (folder / "b.png").write_text("no picture")
    picture(folder / "c.png", seed=3)
    (folder / "notes.txt").touch()
    code, out, err = run("stylize", "in", pair[1], *QUICK)
    assert code == 1
    names = sorted(path.name for path in (tmp_path / "in_stylized").iterdir())
    assert names == ["a_stylized.png", "c_stylized.png"]
    assert out.count("\n") == 2
    assert "b.png" in err
    assert err.endswith("convnd: 1 of 3 failed\n")


def test_scales_share_numbered_pictures(run: Run, tmp_path: Path) -> None:
    photo = picture(tmp_path / "photo.png", (128, 128))
    arguments = ("--backbone", "compact", "--steps", "4", "--size", "128", "--scales", "2")
    arguments += ("--save-every", "1", "-o", "a.png")  # type: ignore[assignment]
    assert run("stylize", photo, "cells", *arguments)[0] == 0
    names = sorted(path.name for path in tmp_path.glob("a-*.png"))
    assert names == [f"a-00000{step}.png" for step in (1, 2, 3, 4)]
    (tmp_path / "a.png").unlink()
    code, _, err = run("stylize", photo, "cells", *arguments)
    assert (code, err.count("\n")) == (2, 1)
    check_error(err, operation="a-000001.png")
    assert not (tmp_path / "a.png").exists()


def test_two_contents_of_one_name_keep_apart(
    run: Run, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    picture(folder / "x.png")
    picture(folder / "x.jpg", seed=5)
    assert run("stylize", "in", pair[1], *QUICK)[0] == 0
    names = sorted(path.name for path in (tmp_path / "in_stylized").iterdir())
    assert names == ["x.jpg_stylized.png", "x.png_stylized.png"]


def test_a_folder_with_a_wrong_option_leaves_nothing(
    run: Run, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    picture(folder / "a.png")
    for arguments in ((pair[1], "--style-layers", "relu9"), (tmp_path / "gone.png",)):
        code, _, err = run("stylize", "in", *arguments, *QUICK)
        assert code in (2, 3)
        assert err.count("\n") == 1
        assert not (tmp_path / "in_stylized").exists()


def test_a_format_that_cannot_hold_the_result_says_so_first(run: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(size=(3, 16, 16, 16)))
    code, _, err = run("stylize", "a.npy", "a.npy", "--dim", "3", "-o", "a.nii.gz", "--steps", "0")
    assert (code, err.count("\n")) == (2, 1), err
    assert not (tmp_path / "a.nii.gz").exists()


def test_arrays_keep_units_gaps_and_start(run: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(500, 200, (2, 256)).astype(np.float32)
    values[0, 40:60] = np.nan
    np.savez(tmp_path / "a.npz", values=values, spacing=[0.004])
    np.save(tmp_path / "b.npy", rng.normal(0, 1, (1, 300)).astype(np.float32))
    arguments = ("--dim", "1", "--backbone", "compact", "--steps", "2", "--scales", "1")
    code, out, err = run("stylize", "a.npz", "b.npy", *arguments)
    untimed = (
        "content {} names no sampling rate: its samples are used as they are; "
        "--rate N sets the rate"
    )
    assert (code, err) == (0, f"{untimed.format('a.npz')}\n")
    assert out.startswith("a_stylized.npz  256,")
    with np.load(tmp_path / "a_stylized.npz") as result:
        stored = result["values"]
        assert result["spacing"].tolist() == [0.004]
    assert np.isnan(stored[0, 40:60]).all()
    assert np.isfinite(stored[1]).all()
    assert 300 < np.nanmean(stored) < 700
    np.save(tmp_path / "c.npy", np.full((2, 256), 450.0, np.float32))
    arguments = ("--dim", "1", "--backbone", "compact", "--steps", "0", "--init", "c.npy")
    assert run("stylize", "a.npz", "b.npy", *arguments, "-o", "d.npy")[0] == 0
    np.testing.assert_allclose(np.load(tmp_path / "d.npy")[1], 450, rtol=1e-4)
    arguments = ("--backbone", "compact", "--steps", "1", "--scales", "1")  # type: ignore[assignment]
    code, _, err = run("stylize", "b.npy", "a.npz", "--dim", "1", *arguments)
    assert (code, err) == (
        0,
        f"{untimed.format('b.npy')}\n"
        "style a.npz has gaps: using its longest whole stretch, 196 samples\n",
    )


def huge(path: Path) -> Path:
    """A PNG whose header declares 30,000 x 30,000 pixels."""
    small = picture(path, (8, 8)).read_bytes()
    import zlib

    header = b"IHDR" + (30_000).to_bytes(4, "big") * 2 + small[24:29]
    path.write_bytes(small[:12] + header + zlib.crc32(header).to_bytes(4, "big") + small[33:])
    return path


BAD = {
    "missing file": (3, ["gone.png", "painting.png"], "gone.png"),
    "missing style": (3, ["photo.png", "gone.png"], "gone.png"),
    "text named jpg": (3, ["text.jpg", "painting.png"], "text.jpg"),
    "one pixel": (3, ["dot.png", "painting.png"], "content dot.png: expected a picture of"),
    "too wide": (3, ["wide.png", "painting.png"], "result: expected at least 16 pixels along"),
    "declares too much": (3, ["huge.png", "painting.png"], "huge.png"),
    "a folder as style": (3, ["photo.png", "empty"], "empty"),
    "empty folder": (3, ["empty", "painting.png"], "expected files of a known kind"),
    "empty folder, built-in style": (3, ["empty", "waves"], "expected files whose names tell"),
    "no such folder": (4, ["photo.png", "painting.png", "-o", "none/out.png"], "none"),
    "a file as folder": (4, ["photo.png", "painting.png", "-o", "text.jpg/out.png"], "text.jpg"),
    "existing output": (
        2,
        ["photo.png", "painting.png", "-o", "photo.png"],
        "another file than the input",
    ),
    "unknown layer": (2, ["photo.png", "painting.png", "--style-layers", "relu3"], "'relu3"),
    "unknown backbone": (2, ["photo.png", "painting.png", "--backbone", "vgg"], "did you mean"),
    "unknown colors": (2, ["photo.png", "painting.png", "--colors", "red"], "colors: expected"),
    "other dimension": (2, ["photo.png", "painting.png", "--dim", "3"], "--dim: expected 2"),
    "no dimension": (2, ["bodies"], "--dim: expected 1 for signals"),
    "nan": (2, ["photo.png", "painting.png", "--style-weight", "nan"], "style_weight: expected 0"),
    "negative": (2, ["photo.png", "painting.png", "--steps", "-1"], "steps: expected 0 <= steps"),
    "no number": (
        2,
        ["photo.png", "painting.png", "--style-weights", "a"],
        "--style-weights: expected numbers",
    ),
    "nothing to do": (
        2,
        ["photo.png", "painting.png", "--style-weight", "0", "--content-weight", "0"],
        "one of them above 0",
    ),
    "texture of nothing": (2, ["--texture"], "--texture: expected at least one style"),
    "texture and colors": (
        2,
        ["--texture", "photo.png", "--colors", "match"],
        "--colors: expected",
    ),
    "no layers": (2, ["photo.png", "painting.png", "--style-layers", ""], "at least one layer"),
    "misspelt style": (2, ["photo.png", "wavs"], "did you mean 'waves'"),
    "unknown optimizer": (2, ["photo.png", "painting.png", "--optimizer", "sgd"], "lbfgs, adam"),
    "unknown output": (2, ["photo.png", "painting.png", "-o", "out.xyz"], "out.xyz"),
    "too large": (
        4,
        ["photo.png", "painting.png", "--size", "200000"],
        "which is free, got a job",
    ),
}


@pytest.mark.parametrize("case", list(BAD))
def test_bad_input_gets_one_line_and_leaves_nothing(
    run: Run, pair: tuple[Path, Path], tmp_path: Path, case: str
) -> None:
    (tmp_path / "text.jpg").write_text("a text")
    picture(tmp_path / "dot.png", (1, 1))
    picture(tmp_path / "wide.png", (3000, 20))
    huge(tmp_path / "huge.png")
    (tmp_path / "empty").mkdir()
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    expected, arguments, message = BAD[case]
    code, out, err = run("stylize", "--backbone", "compact", "--steps", "1", *arguments)
    assert code == expected, err
    assert out == ""
    assert err.startswith("convnd: ")
    assert err.count("\n") == 1
    assert message in err
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_a_signal_between_two_steps_keeps_the_picture(
    run: Run, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    transfer = StyleTransfer.run

    def interrupted(self: StyleTransfer, *arguments: Any, **named: Any) -> Any:
        for progress in transfer(self, *arguments, **named):
            yield progress
            if progress.step == 2:
                os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(StyleTransfer, "run", interrupted)
    code, out, err = run("stylize", *pair, *QUICK, "--steps", "9", "-o", "out.png")
    assert (code, err) == (130, "convnd: stopped by SIGINT\n")
    assert out.startswith("stopped early, kept: out.png")
    assert convnd.io.read("out.png").shape == (32, 48)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_keeps_the_picture(
    pair: tuple[Path, Path], tmp_path: Path, number: signal.Signals, expected: int
) -> None:
    command = [sys.executable, "-m", "convnd", "stylize", *map(str, pair), "--backbone", "compact"]
    command += ["--size", "48", "--steps", "1000000", "--save-every", "2", "-o", "out.png"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for _ in range(600):
        if list(tmp_path.glob("out-*.png")) or process.poll() is not None:
            break
        time.sleep(0.1)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == expected, err
    assert out.startswith("stopped early, kept: out.png")
    assert err == f"convnd: stopped by {number.name}\n"
    with Image.open(tmp_path / "out.png") as result:
        assert result.size == (48, 32)


@pytest.mark.slow
def test_numbers_that_go_wrong_keep_the_last_good_picture(
    run: Run, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    arguments = ("--optimizer", "adam", "--learning-rate", "1e12", "-o", "out.png")
    code, out, err = run("stylize", *pair, *QUICK, *arguments)
    assert (code, out) == (5, "")
    assert err.startswith("convnd: minimize: expected a finite loss that falls, got ")
    assert err.endswith("; the last good result is in out-last-good.png\n")
    assert not (tmp_path / "out.png").exists()
    with Image.open(tmp_path / "out-last-good.png") as result:
        assert result.size == (48, 32)


def test_a_job_that_does_not_fit_is_refused_before_it_starts(
    run: Run, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from types import SimpleNamespace

    from convnd.transfer import memory

    few = SimpleNamespace(virtual_memory=lambda: SimpleNamespace(available=1 << 20))
    monkeypatch.setattr(memory, "psutil", few)
    code, out, err = run("stylize", *pair, *QUICK, "-o", "out.png")
    assert (code, out, err.count("\n")) == (4, "", 1)
    check_error(err, expected="MiB, which is free", got="a job of about")
    assert not (tmp_path / "out.png").exists()


def test_help_does_not_wait_for_torch() -> None:
    code = (
        "import sys\nfrom convnd.cli import app\nroot = app()\n"
        "try:\n    root(['stylize', '--help'])\nexcept SystemExit:\n    pass\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules, sorted(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "painting" in done.stdout


@pytest.mark.parametrize(
    "words", ["stylize town.jgp waves", "stylize town a.jgp", "evaluate a.jgp town"]
)
def test_a_mistyped_name_does_not_wait_for_torch(words: str) -> None:
    code = (
        "import sys\nfrom convnd.cli import run\nfrom convnd.errors import InputFileError\n"
        f"try:\n    run({words.split()})\nexcept InputFileError:\n    pass\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_no_work_waits_for_torchs_compiler() -> None:
    code = (
        "import sys, torch\n"
        "from convnd.backbones import load\n"
        "from convnd.optimize import OPTIMIZERS\n"
        "from convnd_tasks.modalities.signals.options import SignalOptions\n"
        "from convnd_tasks.inspect.maximize import maximize_activation\n"
        "from convnd.transfer.problem import TransferProblem\n"
        "from convnd.transfer.style_transfer import StyleTransfer\n"
        "x = torch.rand(1, 1, 64)\n"
        "for optimizer in OPTIMIZERS:\n"
        "    options = SignalOptions(steps=1, optimizer=optimizer)\n"
        "    transfer = StyleTransfer(options, spatial_dims=1, in_channels=1)\n"
        "    list(transfer.run(TransferProblem(x, [x])))\n"
        "net = load('compact', spatial_dims=1, in_channels=1)\n"
        "maximize_activation(net, 'relu1_1', [0], steps=1)\n"
        "assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_listings(run: Run) -> None:
    code, out, _ = run("backbones")
    assert code == 0
    assert "vgg19 " in out
    assert "compact " in out
    code, out, _ = run("backbones", "vgg19")
    assert "relu5_1" in out
    code, out, _ = run("samples")
    assert "waves" in out
    code, _, err = run("backbones", "vgg")
    assert (code, err.count("\n")) == (2, 1)


def test_a_broken_task_leaves_the_others_alone(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import EntryPoint

    broken = EntryPoint("broken", "no_such_module:f", "convnd.tasks")
    monkeypatch.setattr(cli, "entry_points", lambda **_: [broken])
    code, _, err = run("broken")
    assert code == 2
    assert err == (
        "convnd: broken: expected its package to import, got No module named 'no_such_module'; "
        "install what is missing\n"
    )
