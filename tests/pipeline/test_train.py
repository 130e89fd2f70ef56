"""Training of networks: every rank learns, a resumed run gives the same bytes, files are used."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import Run
from convnd_tasks.pipeline.train_api import train
from convnd_tasks.pipeline.training_job import open_job
from convnd_tasks.pipeline.training_options import TrainingOptions
from error_fields import check_error
from PIL import Image
from torch import Tensor

import convnd
from convnd import io
from convnd.errors import InputFileError, OutputExistsError, UnknownNameError, UsageError
from convnd.feedforward.network_file import read_network
from convnd.feedforward.network_shape import INPUT, NetworkShape
from convnd.feedforward.transform_net import TransformNet, field_statistics
from convnd.losses import tile_index
from convnd.transfer.crop_loss import CropLoss

SMALL: dict[str, Any] = {"width": 4, "levels": 1, "blocks": 1, "preview_every": 0}


def smooth(shape: Sequence[int], seed: int, channels: int = 1) -> Tensor:
    """Smooth noise ``(C, *S)`` in ``[0, 1]``."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, channels, *[5] * len(shape), generator=generator)
    return convnd.nn.resize_nd(coarse, shape, mode="linear")[0]


def pattern(shape: Sequence[int], channels: int = 1) -> Tensor:
    """Stripes along the last axis."""
    places = torch.arange(shape[-1]) * 1.3
    return (0.5 + 0.5 * places.sin()).expand(channels, *shape).contiguous()


def as_data(values: Tensor) -> Any:
    if values.ndim == 3 and values.shape[0] == 3:  # a picture
        return Image.fromarray((values * 255).byte().permute(1, 2, 0).numpy())
    return values[0]


CASES: dict[int, dict[str, Any]] = {
    1: {"size": (512,), "crop": 512, "batch": 1},
    2: {"size": (64, 56), "crop": 32, "batch": 1, "steps": 40, "learning_rate": 0.01},
    3: {"size": (16, 16, 16), "crop": 16, "batch": 1, "steps": 10, "learning_rate": 0.01},
    4: {"size": (1, 24, 1, 24), "crop": 24, "batch": 1, "steps": 40, "learning_rate": 0.003},
}


@pytest.mark.parametrize(
    "rank", [rank if rank == 2 else pytest.param(rank, marks=pytest.mark.slow) for rank in CASES]
)
def test_a_small_network_lowers_its_loss(rank: int) -> None:
    case = dict(CASES[rank])
    size = case.pop("size")
    channels = 3 if rank == 2 else 1
    losses: list[float] = []
    network = train(
        as_data(pattern(size, channels)),
        dim=rank,
        data=[as_data(smooth(size, 1, channels))],
        size=0,
        on_progress=lambda progress: losses.append(progress.loss),
        **SMALL,
        **{"steps": 16, "learning_rate": 0.03, **case},
    )
    assert len(losses) == case.get("steps", 16)
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])
    output = network(torch.rand(1, channels, *size))
    assert output.shape == (1, channels, *size)


def test_a_limit_of_time_counts_as_work_done() -> None:
    done: list[float] = []
    train(
        pattern((64,))[0],
        dim=1,
        data=[smooth((64,), 1)[0]],
        on_progress=lambda progress: done.append(progress.fraction_done),
        **SMALL,
        steps=1000,
        minutes=1e-3,
        crop=64,
    )
    assert len(done) < 500
    assert done == sorted(done)
    assert done[-1] == 1.0


def picture(path: Path, seed: int) -> Path:
    values = smooth((40, 48), seed, 3)
    Image.fromarray((values * 255).byte().permute(1, 2, 0).numpy()).save(path)
    return path


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for number in (1, 2, 3):
        picture(tmp_path / "photos" / f"{number}.png", number)
    picture(tmp_path / "style.png", 9)
    return tmp_path


OPTIONS = ("--width", "4", "--levels", "1", "--blocks", "1", "--crop", "16", "--size", "0")


@pytest.mark.slow
def test_train_then_stylize_then_rerun(run: Run, files: Path) -> None:
    words = ("train", "style.png", "--data", "photos", *OPTIONS, "--steps", "3", "-o")
    code, out, err = run(*words, "net.safetensors", "--preview-every", "3")
    assert (code, err) == (0, "")
    assert out.startswith("net.safetensors  0.0")
    with Image.open("net-preview.png") as preview:
        assert preview.width > 100
    assert Path("net-losses.svg").read_text().startswith("<?xml")
    assert not Path("net.safetensors.checkpoint").exists()
    record = read_network("net.safetensors").record
    assert record["convnd:steps_taken"] == "3"
    assert json.loads(record["convnd:styles"])[0]["name"] == "style.png"
    assert set(json.loads(record["convnd:losses"])) >= {"total", "content", "style"}

    code, out, err = run("stylize", "photos/1.png", "net.safetensors", "-o", "a.png")
    assert (code, err) == (0, "")
    assert "one pass" in out
    fields = io.read_provenance("a.png")
    assert "convnd:steps" not in fields
    assert "convnd:loss" not in fields
    code, out, err = run("rerun", "a.png", "--inputs", "photos")
    assert (code, err) == (0, "")
    assert "the same bytes" in out

    code, _, err = run("stylize", "photos/1.png", "net.safetensors", "-o", "b.png", "--tile", "16")
    assert code == 0
    assert "tiles" in err
    first, tiled = (np.asarray(Image.open(name), int) for name in ("a.png", "b.png"))
    assert np.abs(first - tiled).max() <= 1  # a value beside a half may round either way


def test_options_of_results_apply_to_networks(run: Run, files: Path) -> None:
    run("train", "style.png", "--data", "photos", *OPTIONS, "--steps", "2", "-o", "n.safetensors")
    style = ("photos/1.png", "n.safetensors", "--size", "0")
    mask = np.zeros((40, 48, 3), np.uint8)
    mask[:, 24:] = 255
    Image.fromarray(mask).save("where.png")
    for name, words in {
        "full": (),
        "none": ("--strength", "0"),
        "mask": ("--mask", "where.png"),
        "luminance": ("--colors", "luminance"),
    }.items():
        assert run("stylize", *style, *words, "-o", f"{name}.png")[::2] == (0, "")
    content = np.asarray(Image.open("photos/1.png"))
    results = {
        name: np.asarray(Image.open(f"{name}.png"))
        for name in ("full", "none", "mask", "luminance")
    }
    assert (results["none"] == content).all()
    assert (results["mask"][:, :24] == content[:, :24]).all()
    assert (results["mask"][:, 24:] == results["full"][:, 24:]).all()
    assert (results["luminance"] != results["full"]).any()
    code, out, _ = run("stylize", "photos", "n.safetensors", "-o", "folder/")
    assert code == 0
    assert out.count("one pass") == 3


def test_a_video_takes_a_network_for_pictures(run: Run, files: Path) -> None:
    run("train", "style.png", "--data", "photos", *OPTIONS, "--steps", "1", "-o", "n.safetensors")
    words = ("photos", "--rate", "5", "--no-figures", "-o")
    independent = ("clip", "--style", "n.safetensors", "--mode", "independent")
    code, out, _ = run("stylize-video", *words, *independent)
    assert code == 0
    assert "3 frames" in out
    frames = sorted(Path("clip").glob("*.png"))
    picture_result = run("stylize", "photos/2.png", "n.safetensors", "--size", "0", "-o", "2.png")
    assert picture_result[0] == 0
    frame, alone = (np.asarray(Image.open(path), float) for path in (frames[1], "2.png"))
    if frame.max() > 255:  # 16 bits
        frame = frame / 257
    assert np.abs(frame[..., :3] - alone).max() <= 1
    assert run("stylize-video", *words, "c", "n.safetensors", "--mode", "block")[0] == 2


def test_options_of_the_optimisation_are_refused(run: Run, files: Path) -> None:
    run("train", "style.png", "--data", "photos", *OPTIONS, "--steps", "1", "-o", "n.safetensors")
    for words in (
        ("--steps", "5"),
        ("--style-weight", "3"),
        ("--backbone", "compact"),
        ("--init", "random"),
        ("style.png",),
    ):
        code, _, err = run("stylize", "photos/1.png", "n.safetensors", *words)
        assert code == 2, words
        assert err.count("\n") == 1
    code, _, err = run("stylize", "n.safetensors", "--texture", "--dim", "2")
    assert code == 2


def test_a_network_for_other_data_is_refused(run: Run, files: Path) -> None:
    run("train", "style.png", "--data", "photos", *OPTIONS, "--steps", "1", "-o", "n.safetensors")
    code, _, err = run("stylize", "ecg", "n.safetensors")
    assert code == 2
    np.save("field.npy", np.random.default_rng(0).random((40, 40)))
    code, _, err = run("stylize", "field.npy", "n.safetensors")
    assert code != 0
    assert err.count("\n") == 1
    Path("other.safetensors").write_bytes(b"nothing of the kind")
    code, _, err = run("stylize", "photos/1.png", "other.safetensors")
    assert code != 0
    check_error(err, expected="convnd train")
    assert err.count("\n") == 1


class Stopped(Exception):  # noqa: N818
    """Ends a training between two steps."""


def test_a_resumed_training_gives_the_same_bytes(files: Path) -> None:
    style = Image.open(files / "style.png")
    data = [Image.open(files / "photos" / f"{number}.png") for number in (1, 2, 3)]

    def stop(progress: Any) -> None:
        if progress.step == 3:
            raise Stopped

    options: dict[str, Any] = {**SMALL, "steps": 4, "crop": 16, "size": 0, "checkpoint_every": 2}
    whole = train(style, dim=2, data=data, out=files / "a.safetensors", **options)
    with pytest.raises(Stopped):
        train(style, dim=2, data=data, out=files / "b.safetensors", on_progress=stop, **options)
    assert (files / "b.safetensors.checkpoint").exists()
    again = train(style, dim=2, data=data, out=files / "b.safetensors", resume=True, **options)
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name
    # The record, too: all steps are counted, and all losses are there.
    assert (files / "b.safetensors").read_bytes() == (files / "a.safetensors").read_bytes()
    with pytest.raises(Stopped):
        train(style, dim=2, data=data, out=files / "c.safetensors", on_progress=stop, **options)
    options["learning_rate"] = 0.1
    with pytest.raises(UsageError):  # the checkpoint is that of other options
        train(style, dim=2, data=data, out=files / "c.safetensors", resume=True, **options)


@pytest.mark.parametrize("name", ["a.safetensors", "a-preview.png", "a-losses.svg"])
def test_resume_without_a_checkpoint_replaces_nothing(run: Run, files: Path, name: str) -> None:
    (files / name).write_bytes(b"mine")
    more = ["--steps", "1", "--crop", "16", "--width", "4", "--preview-every", "1", "--resume"]
    code, _, err = run("train", "style.png", "--data", "photos", "-o", "a.safetensors", *more)
    assert code == OutputExistsError.exit_code
    check_error(err, expected="a new file")
    assert (files / name).read_bytes() == b"mine"
    code, _, err = run(
        "train", "style.png", "--data", "photos", "-o", "a.safetensors", *more, "--overwrite"
    )
    assert code == 0, err
    assert (files / name).read_bytes() != b"mine"


def test_a_foreign_file_in_the_place_of_the_checkpoint_stays(run: Run, files: Path) -> None:
    (files / "a.safetensors.checkpoint").write_bytes(b"mine")
    code, _, err = run("train", "style.png", "--data", "photos", "-o", "a.safetensors")
    assert code == OutputExistsError.exit_code
    check_error(err, expected="no such file or a checkpoint of an earlier run")
    assert (files / "a.safetensors.checkpoint").read_bytes() == b"mine"


def test_faults_of_the_caller(run: Run, files: Path) -> None:
    style = Image.open(files / "style.png")
    with pytest.raises(UnknownNameError):
        train(style, dim=2, stepz=3)
    with pytest.raises(UsageError):
        train(style, dim=2, steps=0)
    with pytest.raises(InputFileError):
        train(style, dim=2, data=[torch.rand(3, 4, 4)], steps=1)
    with pytest.raises(InputFileError):  # a folder is read, also with a style in memory
        train(style, dim=2, data="nowhere", steps=1)
    assert run("train", "style.png", "-o", "net.pth")[0] == 2
    assert run("train", "style.png", "--data", "style.png", "-o", "n.safetensors")[0] != 0
    assert run("train", "cells", "--dim", "2", "--data", "nowhere")[0] != 0
    Path("n.safetensors").write_bytes(b"mine")
    with pytest.raises(OutputExistsError):
        train(style, dim=2, data=[style], steps=1, out="n.safetensors")
    assert Path("n.safetensors").read_bytes() == b"mine"


def test_a_damaged_file_among_the_data_is_left_out(run: Run, files: Path) -> None:
    (files / "photos" / "0.png").write_bytes(b"not a picture")
    words = ("--data", "photos", *OPTIONS, "--steps", "2", "-o", "n.safetensors")
    code, _, err = run("train", "style.png", *words)
    assert code == 0
    assert "left out" in err
    assert "0.png" in err


def test_a_network_stylises_data_in_memory_as_a_file(files: Path) -> None:
    wave = torch.linspace(0, 99, 400).sin()
    network = files / "wave.safetensors"
    convnd.train(wave, dim=1, data=[wave.abs()], steps=1, width=4, out=network)
    io.write(files / "wave.npy", convnd.Grid(values=wave[None, None]))
    in_memory = convnd.stylize(wave, network, dim=1)
    from_file = convnd.stylize(files / "wave.npy", network, dim=1)
    assert torch.equal(in_memory.values, from_file.values)
    assert not torch.equal(in_memory.values[0, 0], wave)
    with pytest.raises(InputFileError):
        convnd.stylize(torch.rand(3, 20, 20), network, dim=2)
    for content, styles in ((wave, [network, wave]), (None, [network, wave])):
        with pytest.raises(UsageError, match="trained network alone"):
            convnd.stylize(content, styles, dim=1)


@pytest.mark.parametrize("shift", [(3, -2), (0, 0), (-5, 4)])
def test_the_motion_loss_is_zero_for_a_network_that_follows_shifts(shift: Sequence[int]) -> None:
    network = TransformNet(NetworkShape(spatial_dims=2, channels=3, width=4, levels=1, blocks=1))
    network.initialize(0)
    content = torch.rand(1, 3, 60, 70, generator=torch.Generator().manual_seed(0))
    statistics = {INPUT: field_statistics(content, network.basis)}
    loss = CropLoss(network, None, 32, 1.0)  # type: ignore[arg-type]
    window = [slice(10, 42), slice(12, 44)]
    shifted = [slice(s.start + n, s.stop + n) for s, n in zip(window, shift, strict=True)]

    def motion() -> float:
        still, moved = (
            network(content[tile_index(part)], statistics) for part in (window, shifted)
        )
        return float(loss._motion(still, moved, shift).detach())

    assert (motion() > 1e-4) == any(shift)  # the pattern stays where it is
    with torch.no_grad():
        network.last.weight.zero_()
    assert motion() < 1e-10


def test_the_motion_loss_is_a_term_of_its_own() -> None:
    parts: list[dict[str, float]] = []
    for weight in (0, 2):
        train(
            as_data(pattern((64, 56), 3)),
            data=[as_data(smooth((64, 56), 1, 3))],
            size=0,
            crop=32,
            steps=1,
            motion_weight=weight,
            on_progress=lambda progress: parts.append(dict(progress.parts)),
            **SMALL,
        )
    without, with_motion = parts
    assert with_motion.pop("motion") > 0
    assert with_motion == without


@pytest.mark.parametrize(
    ("style", "kind"), [("sharp", "volumes"), ("mr", "volumes"), ("waves", "arrays")]
)
def test_built_in_styles_of_scans_give_networks_for_scans(style: str, kind: str) -> None:
    job = open_job([style], 3, None, TrainingOptions(), None)
    assert job.kind == kind
    names = {str(name).partition("#")[0] for name in job.pool.contents}
    # Styles are resized to the voxels of contents, which those of other samples would multiply.
    assert (names == {"chest"}) == (kind == "volumes")
