"""Regions with styles of their own, in every kind of data that is one grid."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from command_line import Run
from convnd_tasks import samples
from convnd_tasks.modalities import modality_class, options_class
from convnd_tasks.modalities.images.color_labels import color_labels
from convnd_tasks.modalities.label_map import number_labels
from convnd_tasks.modalities.regions import parse_regions
from convnd_tasks.modalities.signals.intervals import (
    annotation_labels,
    is_interval_table,
    read_intervals,
    soft_ends,
)
from convnd_tasks.runtime.settings import JobSettings
from error_fields import check_error, raises
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

import convnd
from convnd import io
from convnd.errors import InputFileError, UsageError
from convnd.grid import Grid
from convnd.io.signals.signal import Annotation, describe

FAST = [
    *("--backbone", "compact", "--steps", "2", "--scales", "1", "--size", "0", "-q"),
    *("--style-layers", "relu1_1,relu2_1", "--content-layers", "relu2_2", "--no-figures"),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> Path:
    """A photograph of 40 x 32 pixels, two styles, and a map in three colours."""
    monkeypatch.chdir(tmp_path)
    for name in ("photo", "rough", "fine"):
        pixels = rng.integers(60, 200, (32, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(f"{name}.png")
    painted = Image.new("RGB", (40, 32), "red")
    draw = ImageDraw.Draw(painted)
    draw.rectangle((20, 0, 39, 31), "blue")
    draw.rectangle((8, 8, 15, 31), "white")
    painted.save("map.png")
    return tmp_path


def pixels_of(path: str) -> NDArray[Any]:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def test_each_region_of_a_picture_takes_its_style(folder: Path, run: Run) -> None:
    regions = ("--regions", "map.png", "--region", "red=rough.png,blue=fine.png,white=keep")
    code, _, err = run("stylize", "photo.png", *regions, "-o", "both.png", *FAST)
    assert code == 0, err
    assert "region white (15 %) keeps the content" in err
    assert "region red (35 %) takes rough.png" in err
    photo, both = pixels_of("photo.png"), pixels_of("both.png")
    np.testing.assert_array_equal(both[8:, 8:16], photo[8:, 8:16])
    assert np.abs(both - photo)[:, 20:].max() > 3
    assert np.abs(both - photo)[:8].max() > 3
    # The style of one region does not reach far into the other.
    one = ("--regions", "map.png", "--region", "red=rough.png,blue=keep,white=keep")
    assert run("stylize", "photo.png", *one, "-o", "one.png", *FAST)[0] == 0
    np.testing.assert_array_equal(pixels_of("one.png")[:, 20:], photo[:, 20:])


def test_the_edges_of_regions_are_blurred(folder: Path, run: Run) -> None:
    regions = ("--regions", "map.png", "--region", "red=keep,white=keep,blue=rough.png")
    assert run("stylize", "photo.png", *regions, "-o", "hard.png", *FAST)[0] == 0
    edge = ("--region-edge", "2", "-o", "soft.png")
    assert run("stylize", "photo.png", *regions, *edge, *FAST)[0] == 0
    photo, hard, soft = (pixels_of(f"{name}.png") for name in ("photo", "hard", "soft"))
    np.testing.assert_array_equal(hard[:, :20], photo[:, :20])
    assert np.abs(soft - photo)[:, 20:22].sum() < 0.8 * np.abs(hard - photo)[:, 20:22].sum()
    np.testing.assert_array_equal(soft[:, :10], photo[:, :10])
    for wrong in ((*regions, "--region-edge", "-1"), ("rough.png", "--region-edge", "2")):
        code, _, err = run("stylize", "photo.png", *wrong, "-o", "n.png")
        assert (code, err.count("\n")) == (2, 1), wrong


def test_blurred_edges_are_as_wide_along_all_axes_of_a_scan() -> None:
    labels = torch.zeros(1, 1, 9, 9, 9)
    labels[..., 4:, :, :] = 1
    labels[..., 4:] = 1
    modality = modality_class("volumes")(
        options_class("volumes")(), JobSettings(regions="map.nii", region_edge=2.0), 3
    )
    grid = Grid(values=labels, spacing=(2.0, 1.0, 1.0), units=("mm",) * 3)
    share = modality.region_shares(grid, [], "map")["1"][0, 0]
    expected = ndimage.gaussian_filter(labels[0, 0].numpy(), (1.0, 2.0, 2.0), mode="nearest")
    np.testing.assert_allclose(share.numpy(), expected, atol=1e-5)


def test_labels_without_a_style_take_those_given_besides(folder: Path, run: Run) -> None:
    arguments = ("fine.png", "--regions", "map.png", "--region", "white=keep")
    code, _, err = run("stylize", "photo.png", *arguments, "-o", "out.png", *FAST)
    assert code == 0, err
    assert "region red (35 %) takes fine.png" in err
    assert "region blue (50 %) takes fine.png" in err


def test_names_of_files_may_have_commas(folder: Path, run: Run) -> None:
    Path("rough.png").rename("night, 1889.png")
    regions = ("--regions", "map.png", "--region", "red=night, 1889.png,blue=fine.png,white=keep")
    code, _, err = run("stylize", "photo.png", *regions, "-o", "out.png", *FAST)
    assert code == 0, err
    assert "region red (35 %) takes night, 1889.png" in err
    assert run("rerun", "out.png", "-o", "again.png", "-q")[0] == 0
    np.testing.assert_array_equal(pixels_of("again.png"), pixels_of("out.png"))


def test_a_result_with_regions_is_made_again(folder: Path, run: Run) -> None:
    arguments = ("rough.png", "--regions", "map.png", "--region", "blue=fine.png,white=keep")
    maps = ("--style-regions", "map.png,map.png")
    code, _, err = run("stylize", "photo.png", *arguments, *maps, "-o", "out.png", *FAST)
    assert code == 0, err
    record = io.read_provenance(Path("out.png"))
    assert record["convnd:region_blue"] == "fine.png"
    assert record["convnd:region_white"] == "keep"
    code, out, err = run("rerun", "out.png")
    assert code == 0, err
    assert "the same bytes as" in out
    changed = {**record, "convnd:command": record["convnd:command"].replace("=keep", "=/etc/x")}
    grid = io.read(Path("photo.png"))
    io.write(Path("made_up.png"), grid, provenance=changed)
    code, _, err = run("rerun", "made_up.png")
    assert code == 3
    check_error(err, operation="rerun", remedy="made up")


def test_a_region_reads_the_part_of_its_style_with_its_label(folder: Path) -> None:
    """The left half of the style is dark, and the right half bright."""
    style = torch.full((1, 3, 32, 40), 0.1)
    style[..., 20:] = 0.9
    labels = torch.ones(32, 40)
    labels[:, 20:] = 2
    content = torch.rand(1, 3, 32, 40, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.4
    options: dict[str, Any] = {
        "backbone": "compact", "steps": 40, "scales": 1, "size": 0, "style_weight": 300.0,
        "style_layers": ("relu1_1", "relu2_1"), "content_layers": ("relu2_2",),
        "optimizer": "adam",  # with L-BFGS a change of a millionth here moves means by 0.3
    }  # fmt: skip
    result = convnd.stylize(content, style, dim=2, regions=labels, region={"1": "keep"}, **options)
    assert torch.equal(result.values[..., :20], content[..., :20])
    # Mirrored: label 1 is on the right of the style and on the left of the content.
    mirrored = convnd.stylize(
        content, style, dim=2, regions=labels, region={}, style_regions=[labels.flip(1)],
        **options,
    )  # fmt: skip
    left, right = (part.mean().item() for part in mirrored.values.split(20, -1))
    assert left > right + 0.2


def test_regions_of_a_scan(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    voxels = (rng.normal(size=(20, 18, 16)) * 300).astype(np.int16)
    labels = np.zeros(voxels.shape, np.uint8)
    labels[:10], labels[10:15] = 1, 2
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    nib.Nifti1Image(voxels, affine).to_filename("scan.nii")
    nib.Nifti1Image(labels, affine).to_filename("labels.nii")
    nib.Nifti1Image(labels, np.diag([3.0, 2.0, 2.0, 1.0])).to_filename("elsewhere.nii")
    region = ("--region", "1=waves,2=marble", "--transfer", "paint", "--no-figures", "-q")
    layers = ("--style-layers", "relu1_1", "--content-layers", "relu1_1", "--steps", "2")
    command = ("stylize-volume", "scan.nii", *region, *layers, "--backbone", "compact")
    code, _, err = run(*command, "--regions", "labels.nii", "-o", "out.nii")
    assert code == 0, err
    result = np.asarray(nib.load("out.nii").dataobj)
    np.testing.assert_array_equal(result[15:], voxels[15:])
    assert np.abs(result - voxels)[:10].max() > 1
    assert np.abs(result - voxels)[10:15].max() > 1
    code, _, err = run(*command, "--regions", "elsewhere.nii", "-o", "x.nii")
    assert code == 3
    check_error(err, operation="--regions", expected="positions")
    assert not Path("x.nii").exists()


@pytest.mark.slow
def test_looks_of_two_scans_in_one(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    scan = samples.content("chest", spatial_dims=3, seed=0)
    io.write(Path("scan.nii"), scan)
    image = nib.load("scan.nii")
    labels = np.zeros(image.shape, np.uint8)
    labels[:40], labels[40:80] = 1, 2
    nib.Nifti1Image(labels, image.affine).to_filename("labels.nii")
    regions = ("--regions", "labels.nii", "--region", "1=soft,2=sharp", "--no-figures")
    code, _, err = run("stylize-volume", "scan.nii", *regions, "-o", "out.nii")
    assert code == 0, err
    before, after = (np.asarray(nib.load(name).dataobj) for name in ("scan.nii", "out.nii"))
    np.testing.assert_array_equal(after[80:], before[80:])
    # Built-in styles only add noise: soft has less than the scan, and sharp has more.
    np.testing.assert_array_equal(after[:38], before[:38])
    assert np.diff(after[42:78], axis=0).std() > np.diff(before[42:78], axis=0).std()
    record = io.read_provenance(Path("out.nii"))
    assert {"convnd:region_1", "convnd:region_2"} <= set(record)


def recording(length: int = 1000, leads: int = 2) -> Grid:
    generator = torch.Generator().manual_seed(1)
    values = torch.rand(1, leads, length, generator=generator)
    names = ("I", "V1", "V2")[:leads]
    return Grid(values=values, spacing=(0.01,), units=("s",), axes=("t",), channels=names)


def test_intervals_of_a_recording(tmp_path: Path) -> None:
    path = tmp_path / "intervals.csv"
    path.write_text("label;start;end;lead\nnoise;0;4;\nartefact;3;5;v1\n")
    grid = read_intervals(path, recording())
    assert grid.values.shape == (1, 2, 1000)
    labels = number_labels(grid, [], "intervals.csv")
    assert list(labels) == ["noise", "artefact"]
    assert labels["noise"][0].sum(1).tolist() == [400, 300]
    assert labels["artefact"][0].sum(1).tolist() == [0, 200]


@pytest.mark.parametrize(
    "row", ["4,4,noise,", "5,2,noise,", "a,2,noise,", "0,1,,", "0,1,noise,V9", "0,inf,noise,", "0"]
)
def test_rows_that_are_no_intervals(tmp_path: Path, row: str) -> None:
    path = tmp_path / "intervals.csv"
    path.write_text(f"start,end,label,lead\n0,1,noise,\n{row}\n")
    with raises(InputFileError, got="row 3"):
        read_intervals(path, recording())


@pytest.mark.parametrize("header", ["from,to,name", "start,label", "1,2,noise"])
def test_a_table_without_the_columns_of_intervals(tmp_path: Path, header: str) -> None:
    path = tmp_path / "intervals.csv"
    path.write_text(f"{header}\n1,2,noise\n3,4,noise\n")
    with raises(InputFileError, expected="start, end, label", got=header.replace(",", ", ")):
        is_interval_table(path, recording())


def test_a_table_of_a_label_for_each_sample_is_no_table_of_intervals(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("time,label\n" + "".join(f"{n / 100},{n // 500}\n" for n in range(1000)))
    assert not is_interval_table(path, recording())


def test_annotations_are_regions() -> None:
    rhythms = [Annotation(seconds=1, text="(N"), Annotation(seconds=6, text="(AFIB")]
    labels = number_labels(annotation_labels(describe(recording(), annotations=rhythms)), [], "")
    assert {name: share.sum().item() for name, share in labels.items()} == {
        "(N": 500,
        "(AFIB": 400,
    }
    beats = [Annotation(seconds=time, text=text) for time, text in ((2, "N"), (4, "V"), (5, "N"))]
    labels = number_labels(annotation_labels(describe(recording(), annotations=beats)), [], "")
    assert {name: share.sum().item() for name, share in labels.items()} == {"N": 850, "V": 150}
    with raises(InputFileError, operation="--regions annotations"):
        annotation_labels(recording())


def test_spans_of_one_lead_keep_the_others(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("content", "style"):
        io.write(Path(f"{name}.csv"), recording(400))
    Path("spans.csv").write_text("start,end,label,lead\n1,3,noise,V1\n")
    regions = ("--regions", "spans.csv", "--region", "noise=style.csv")
    code, _, err = run("stylize", "content.csv", *regions, *FAST, "-o", "out.csv")
    assert code == 0, err
    before, after = (io.read(Path(f"{name}.csv")).values[0] for name in ("content", "out"))
    assert torch.equal(after[0], before[0])
    assert torch.equal(after[1, :100], before[1, :100])
    assert torch.equal(after[1, 300:], before[1, 300:])
    assert (after - before)[1, 100:300].abs().max() > 1e-3


def test_colours_of_a_map_with_smooth_edges() -> None:
    large = Image.new("RGB", (400, 400), "white")
    ImageDraw.Draw(large).ellipse((80, 80, 320, 320), "red")
    values = np.asarray(large.resize((50, 50), Image.Resampling.BOX)).astype(np.float32) / 255
    grid = Grid(values=torch.from_numpy(values).movedim(-1, 0)[None], channels=("R", "G", "B"))
    shares = color_labels(grid, ["red"], "map.png")
    assert list(shares) == ["red", "white"]
    total = shares["red"] + shares["white"]
    torch.testing.assert_close(total, torch.ones_like(total))
    assert shares["red"].sum().item() == pytest.approx(np.pi * 15**2, rel=0.01)


def test_noise_of_a_compressed_map_is_no_label(rng: np.random.Generator) -> None:
    values = torch.zeros(1, 3, 40, 40)
    values[:, 0, :, :20], values[:, 2, :, 20:] = 1, 1
    values = (values + torch.from_numpy(rng.normal(0, 0.03, values.shape)).float()).clamp(0, 1)
    shares = color_labels(Grid(values=values, channels=("R", "G", "B")), ["red", "blue"], "")
    assert list(shares) == ["red", "blue"]
    assert shares["red"][..., :20].min() > 0.9


def test_numbers_of_a_grey_map() -> None:
    values = torch.zeros(1, 3, 4, 4)
    values[..., :2], values[..., 2:3] = 1 / 255, 2 / 255
    grid = Grid(values=values, channels=("R", "G", "B"))
    assert {label: share.sum().item() for label, share in color_labels(grid, "12", "").items()} == {
        "1": 8,
        "2": 4,
    }
    with raises(InputFileError, expected="whole numbers"):
        number_labels(grid, [], "map.npy")


@pytest.mark.parametrize(
    ("arguments", "code", "fields"),
    [
        (["--region", "red=waves"], 2, {"operation": "--region", "expected": "a map"}),
        (["--regions", "none.png", "--region", "red=waves"], 3, {"operation": "read none.png"}),
        (["--regions", "map.png"], 2, {"operation": "--regions", "expected": "a style"}),
        (["--regions", "map.png", "--region", "red"], 2, {"expected": "LABEL=STYLE"}),
        (["--regions", "map.png", "--region", "red=keep,red=waves"], 2, {"got": "two for red"}),
        (["--regions", "map.png", "--region", "reddish=waves"], 2, {"expected": "a colour"}),
        (["--regions", "map.png", "--region", "lime=waves"], 3, {"expected": "red"}),
        (["--regions", "map.png", "--region", "red=none.jpg"], 3, {"operation": "read none.jpg"}),
        (["--regions", "map.png", "--region", "red=keep"], 3, {"got": "none"}),
        (
            ["--regions", "map.png", "--region", "red=waves,blue=fine.png", "--style-regions",
             "map.png"],
            2, {"operation": "--style-regions", "got": "1"},
        ),
    ],
)  # fmt: skip
def test_regions_that_make_no_sense(
    folder: Path, run: Run, arguments: list[str], code: int, fields: dict[str, str]
) -> None:
    result = run("stylize", "photo.png", *arguments, "-o", "out.png", *FAST)
    assert result[0] == code, result
    errors = [line for line in result[2].splitlines() if line.startswith("convnd:")]
    assert len(errors) == 1
    check_error(errors[0], **fields)
    assert not Path("out.png").exists()


def test_names_with_commas(folder: Path, run: Run) -> None:
    Path("rough.png").rename("night, x=9.png")
    Path("style, map.png").write_bytes(Path("map.png").read_bytes())
    regions = ("--regions", "map.png", "--region", r"red=night\, x=9.png,blue=keep")
    maps = ("--style-regions", r"style\, map.png")
    code, _, err = run("stylize", "photo.png", *regions, *maps, "-o", "out.png", *FAST)
    assert code == 0, err
    assert "region red" in err
    assert "takes night, x=9.png" in err
    code, out, err = run("rerun", "out.png", "-o", "again.png")
    assert code == 0, err
    assert "the same bytes as" in out


def test_words() -> None:
    assert parse_regions(["a = b=c", "x=keep"]) == {"a": "b=c", "x": "keep"}
    with raises(UsageError, expected="LABEL=STYLE"):
        parse_regions(["{0}=waves"])


def test_json_names_the_regions(folder: Path, run: Run) -> None:
    arguments = ("--regions", "map.png", "--region", "red=rough.png", "--json")
    code, out, err = run("stylize", "photo.png", *arguments, "-o", "out.png", *FAST)
    assert code == 0, err
    messages = json.loads(out)["results"][0]["messages"]
    assert "region white (15 %) keeps the content, since it has no style" in messages


def test_sizes_are_width_times_height(folder: Path, run: Run) -> None:
    Image.open("map.png").resize((80, 64), Image.Resampling.NEAREST).save("large.png")
    arguments = ("--regions", "large.png", "--region", "red=rough.png", "-o", "out.png")
    code, _, err = run("stylize", "photo.png", *arguments, *FAST)
    assert code == 0, err
    assert "large.png: resized from 80x64 to 40x32" in err


def test_a_change_of_a_signal_begins_and_ends_smoothly() -> None:
    mask = torch.zeros(1, 2, 1000)
    mask[0, 0, 300:600], mask[0, 1, 990:] = 1, 1
    soft = soft_ends(mask, 0.01, ("s",))
    assert torch.equal(soft == 0, mask == 0)
    assert torch.equal(soft[0, 0, 320:580], torch.ones(260))
    assert soft[0, 0].diff().abs().max() < 0.1
    torch.testing.assert_close(soft[0, 0, 300:600], soft[0, 0, 300:600].flip(0))
    assert soft[0, 1, -1] == 1  # the end of the recording is no edge
