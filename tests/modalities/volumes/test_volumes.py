"""Volumes: what a result keeps, what is refused, and that other programs can read the result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from command_line import Run
from convnd_tasks.modalities.volumes.options import parse_window
from error_fields import check_error, raises
from numpy.typing import NDArray
from PIL import Image

import convnd.io
from convnd.errors import UsageError
from convnd.feedforward.network_file import StyleNetwork, write_network
from convnd.feedforward.network_shape import NetworkShape
from convnd.feedforward.transform_net import TransformNet
from convnd.grid import Grid

QUICK = ("-q",)
PAINT = ("--transfer", "paint", "--steps", "2", "-q")
AFFINE = np.array([[0, -1.5, 0, 12], [0, 0, -2.0, -7], [1.5, 0, 0, 100], [0, 0, 0, 1.0]])


def hounsfield(
    rng: np.random.Generator, shape: tuple[int, ...] = (32, 30, 28), noise: float = 20.0
) -> Any:
    """A ball of soft tissue in lung, with air around."""
    index = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    radius = np.sqrt((index**2).sum(0))
    data = np.where(radius < 0.5, 40.0, np.where(radius < 1.2, -820.0, -1000.0))
    return data + rng.normal(size=shape) * noise


def save(path: Path, data: Any, affine: NDArray[Any] = AFFINE) -> Path:
    image = nib.Nifti1Image(data, affine)
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, path)
    return path


@pytest.fixture
def scan(tmp_path: Path, rng: np.random.Generator) -> Any:
    return save(tmp_path / "scan.nii", hounsfield(rng, noise=5).astype(np.int16))


@pytest.fixture
def style(tmp_path: Path, rng: np.random.Generator) -> Any:
    return save(tmp_path / "style.nii.gz", hounsfield(rng, noise=60).astype(np.int16))


def test_a_result_has_the_affine_of_the_scan(
    run: Run, scan: Any, style: Any, tmp_path: Path
) -> None:
    code, out, err = run("stylize-volume", scan, "--style", style, *QUICK, "--window", "-400,1100")
    assert code == 0, err
    assert out.startswith("scan_stylized.nii.gz  32 x 30 x 28, 4 steps")
    assert "scan: CT, in HU" in err
    assert "anatomy: mean change of " in err
    before, after = nib.load(scan), nib.load(tmp_path / "scan_stylized.nii.gz")
    assert after.get_data_dtype() == np.float32
    np.testing.assert_array_equal(after.affine, before.affine)
    for name in ("qform_code", "sform_code", "xyzt_units", "pixdim"):
        np.testing.assert_array_equal(after.header[name], before.header[name])
    one, two = sitk.ReadImage(str(scan)), sitk.ReadImage(str(tmp_path / "scan_stylized.nii.gz"))
    for name in ("Spacing", "Origin", "Direction", "Size"):
        assert getattr(one, f"Get{name}")() == getattr(two, f"Get{name}")()
    # Outside the window nothing moves by a bit; inside something does.
    old, new = before.get_fdata(), after.get_fdata()
    outside = (old < -950) | (old > 150)
    assert outside.any()
    np.testing.assert_array_equal(new[outside], old[outside])
    assert np.abs(new - old)[~outside].mean() > 0.1
    record = json.loads(after.header.extensions[0].get_content())
    assert [entry["name"] for entry in json.loads(record["convnd:inputs"])] == [
        "scan.nii",
        "style.nii.gz",
    ]
    with Image.open(tmp_path / "scan_stylized-montage.png") as picture:
        assert min(picture.size) > 500
    code, _, err = run("stylize-volume", scan, "--style", style, *QUICK)
    assert (code, err.count("\n")) == (2, 1)
    check_error(err, expected="a new file")


@pytest.mark.slow
def test_mask_strength_and_integers(
    run: Run, scan: Any, tmp_path: Path, rng: np.random.Generator
) -> None:
    region = np.zeros((32, 30, 28), np.uint8)
    region[5:15, 5:12] = 1
    save(tmp_path / "mask.nii", region)
    # Of noise this weak, the mean over a tissue is far below its limit, and nothing is taken back.
    style = save(tmp_path / "weak.nii", hounsfield(rng, noise=25))
    some = ("--style", style, *QUICK, "--no-figures")
    assert run("stylize-volume", scan, *some, "-o", "full.nii")[0] == 0
    assert run("stylize-volume", scan, *some, "-o", "half.nii", "--strength", 0.5)[0] == 0
    masked = ("--mask", tmp_path / "mask.nii", "--dtype", "input")
    code, _, err = run("stylize-volume", scan, *some, *masked, "-o", "part.nii")
    assert code == 0
    assert "rounded to the scan's integers: error at most 0." in err
    old, full, half, part = (
        nib.load(tmp_path / name).get_fdata()
        for name in ("scan.nii", "full.nii", "half.nii", "part.nii")
    )
    inner = (full > old.min() + 1) & (full < old.max() - 1)  # nothing was cut at the range's ends
    np.testing.assert_allclose((half - old)[inner], (full - old)[inner] / 2, atol=1e-3)
    np.testing.assert_array_equal(part[region == 0], old[region == 0])
    np.testing.assert_allclose(part[region == 1], full[region == 1], atol=0.501)
    assert nib.load(tmp_path / "part.nii").get_data_dtype() == np.int16
    assert not (tmp_path / "full-montage.png").exists()


def test_a_mask_may_be_an_array_on_the_grid_of_the_scan(
    run: Run, scan: Any, style: Any, tmp_path: Path
) -> None:
    region = np.zeros((32, 30, 28), np.uint8)
    region[5:15, 5:12] = 1
    np.save(tmp_path / "mask.npy", region)
    masked = ("--style", style, "--mask", "mask.npy", "--no-figures", *QUICK)
    code, _, err = run("stylize-volume", scan, *masked, "-o", "part.nii")
    assert (code, "--spacing" in err) == (0, False)
    before, part = (nib.load(tmp_path / name).get_fdata() for name in ("scan.nii", "part.nii"))
    np.testing.assert_array_equal(part[region == 0], before[region == 0])
    assert not np.array_equal(part, before)


@pytest.mark.slow
def test_a_series_is_changed_frame_by_frame(
    run: Run, style: Any, tmp_path: Path, rng: np.random.Generator
) -> None:
    frames = np.stack([hounsfield(rng, noise=n) for n in (5, 9)], -1).astype(np.float32)
    save(tmp_path / "series.nii.gz", frames)
    assert run("stylize-volume", "series.nii.gz", "--style", style, *QUICK)[0] == 0
    save(tmp_path / "second.nii", frames[..., 1])
    back = nib.load(tmp_path / "series_stylized.nii.gz").get_fdata()
    assert back.shape == frames.shape
    # So little that no safety figure lowers the strength of one of them.
    options = {"window": "-400,1100", "dim": 3, "strength": 0.4}
    alone = convnd.stylize(tmp_path / "second.nii", style, **options)
    together = convnd.stylize(tmp_path / "series.nii.gz", style, **options)
    # Every frame has noise of its own, of the same look.
    frame = torch.from_numpy(frames[..., 1])
    one, other = alone.values[0, 0] - frame, together.values[0, 1] - frame
    assert not torch.equal(one, other)
    assert float(other.std()) == pytest.approx(float(one.std()), rel=0.05)
    assert (alone.steps, together.steps) == (4, 8)


def test_missing_values_do_not_spread(
    run: Run, style: Any, tmp_path: Path, rng: np.random.Generator
) -> None:
    data = hounsfield(rng).astype(np.float32)
    data[3:6, 4, 4] = np.nan
    save(tmp_path / "a.nii", data)
    assert run("stylize-volume", "a.nii", "--style", style, *QUICK, "--no-figures")[0] == 0
    back = nib.load(tmp_path / "a_stylized.nii.gz").get_fdata()
    np.testing.assert_array_equal(np.isnan(back), np.isnan(data))


@pytest.mark.slow
def test_other_formats_pictures_and_arrays(
    run: Run, scan: Any, tmp_path: Path, rng: np.random.Generator
) -> None:
    Image.fromarray(rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(tmp_path / "p.png")
    np.save(tmp_path / "a.npy", hounsfield(rng))
    convnd.io.write(tmp_path / "b.nrrd", convnd.io.read(scan))
    array = ("--spacing", "1,1,1.5", "--no-figures", *QUICK)
    assert run("stylize-volume", "a.npy", "--style", "p.png", "--steps", 2, *array)[0] == 0
    assert nib.load(tmp_path / "a_stylized.nii.gz").header.get_zooms() == (1, 1, 1.5)
    np.save(tmp_path / "s.npy", hounsfield(rng, noise=60))
    code, _, err = run("stylize-volume", "a.npy", "--style", "s.npy", *array, "-o", "n.nii")
    assert code == 0, err
    code, _, err = run("stylize-volume", "b.nrrd", *QUICK, "--no-figures", "-o", "c.mha")
    assert code == 0, err
    assert "style: built-in sharp, of the scan's modality" in err
    written = sitk.ReadImage(str(tmp_path / "c.mha"))
    assert written.GetOrigin() == sitk.ReadImage(str(scan)).GetOrigin()
    code, _, err = run("stylize-volume", "a.npy", "-o", "d.nii", *QUICK)
    assert code == 2, err
    check_error(err, operation="--spacing", expected="millimetres")


BAD = [
    ("constant", np.full((32, 30, 28), 7.0), "at least two different values, got 7 everywhere"),
    ("empty", np.full((32, 30, 28), np.nan), "expected finite voxels"),
]


@pytest.mark.parametrize(("name", "data", "message"), BAD)
def test_bad_scans_are_refused_in_one_line(
    run: Run, tmp_path: Path, name: str, data: Any, message: str
) -> None:
    nib.save(nib.Nifti1Image(data.astype(np.float32), np.eye(4)), tmp_path / f"{name}.nii")
    code, out, err = run("stylize-volume", f"{name}.nii", "--style", "sharp", *QUICK)
    assert code == 3
    assert message in err
    assert err.startswith("convnd: ")
    assert err.count("\n") == 1
    assert out == ""
    assert [path.name for path in tmp_path.iterdir()] == [f"{name}.nii"]


def test_styles_and_masks_that_do_not_fit(
    run: Run, scan: Any, style: Any, tmp_path: Path, rng: np.random.Generator
) -> None:
    save(tmp_path / "m.nii", np.ones((32, 30, 27), np.uint8))
    code, _, err = run("stylize-volume", scan, "--style", style, "--mask", "m.nii", *QUICK)
    assert code == 3, err
    check_error(err, operation="--mask", expected="the scan's shape 32 x 30 x 28")
    save(tmp_path / "n.nii", np.ones((32, 30, 28), np.uint8), np.eye(4))
    code, _, err = run("stylize-volume", scan, "--style", style, "--mask", "n.nii", *QUICK)
    assert code == 3
    check_error(err, expected="voxels at the positions of the scan's", got="mm away")
    code, _, err = run("stylize-volume", scan, "--style", style, "--window", "wide", *QUICK)
    assert code == 2, err
    check_error(err, operation="--window", expected="auto, lung")
    code, _, err = run("stylize-volume", scan, "--style", "nothing", *QUICK)
    assert code == 2
    check_error(err, got="nothing", expected="sharp")
    Image.new("RGB", (20, 20)).save(tmp_path / "p.png")
    code, _, err = run("stylize-volume", scan, "--style", "p.png", "--transfer", "look", *QUICK)
    assert code == 2, err
    check_error(err, operation="--transfer", expected="paint for pictures", got="look")
    save(tmp_path / "coarse.nii", nib.load(style).get_fdata(), np.diag([9.0, 9.0, 9.0, 1.0]))
    code, out, err = run("stylize-volume", scan, "--style", "coarse.nii", *QUICK)
    assert (code, out, (tmp_path / "scan_stylized.nii.gz").exists()) == (3, "", False)
    check_error(err, operation="style", got="9 mm", remedy="resample")


def test_wrong_reports_and_thin_scans_are_refused_before_the_work(
    run: Run, scan: Any, style: Any, tmp_path: Path
) -> None:
    before = sorted(tmp_path.iterdir())
    code, _, err = run("stylize-volume", scan, "--style", style, *QUICK, "--report", "r.pdf")
    assert code == 2, err
    check_error(err, operation="report", expected="a name ending in .html")
    thin = save(tmp_path / "thin.nii", hounsfield(np.random.default_rng(0), (12, 12, 40)))
    code, _, err = run("stylize-volume", thin, "--style", style, *PAINT)
    assert code == 3, err
    check_error(err, expected="at least 16 x 16 square pixels")
    thin.unlink()
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.slow
def test_options_of_every_kind_of_data_work_for_scans(
    run: Run, scan: Any, style: Any, tmp_path: Path, rng: np.random.Generator
) -> None:
    save(tmp_path / "third.nii", hounsfield(rng, noise=90).astype(np.int16))
    command = ("stylize-volume", scan, "-q", "--no-figures", "--precision", "float32")

    def result(*options: Any) -> Any:
        code, _, err = run(*command, *options, "-o", "o.nii", "--overwrite")
        assert code == 0, err
        return nib.load(tmp_path / "o.nii").get_fdata()

    plain = result(style)
    # A style without weight changes nothing.
    np.testing.assert_array_equal(result(style, "third.nii", "--style-weights", "1,0"), plain)
    assert np.abs(result(style, "--style-weights", "1,3", "third.nii") - plain).max() > 1
    assert np.abs(result(style, "--seed", 1) - plain).max() > 1
    paint = ("--transfer", "paint", "--steps", 2)
    painted = result(style, *paint)
    np.testing.assert_allclose(result(style, *paint, "--tile", 16), painted, atol=0.1)
    others = (
        ("--normalization", "mean"),
        ("--learning-rate", 0.1),
        ("--tv-weight", 100),
        ("--pooling", "avg"),
        ("--style-layers", "relu1_1,relu2_1", "--style-layer-weights", "3,1"),
        ("--content-layers", "relu2_1", "--content-weight", 1000),
    )
    for options in others:
        assert np.abs(result(style, *paint, *options) - painted).max() > 0.01, options
    code, _, err = run(*command, style, "--steps", 9, "--tv-weight", 1, "-o", "n.nii")
    assert (code, "ignores --tv-weight, --steps; --transfer paint uses them" in err) == (0, True)
    for options, message in (
        (("--style-weights", "1,2,3"), "one weight for each of 1 styles, got 3"),
        (("--init", "random"), "--init has no meaning for volumes"),
        (("--size", 64), "--size has no meaning for volumes"),
        (("--modality", "xr"), "modality"),
        (("--style-window", "40,400"), "expected also --window"),
    ):
        code, _, err = run(*command, style, *options, "-o", "none.nii")
        assert (code, message in err) == (2, True), err
    assert not (tmp_path / "none.nii").exists()


@pytest.mark.slow
def test_a_picture_paints_the_slices_of_every_axis(
    run: Run, scan: Any, tmp_path: Path, rng: np.random.Generator
) -> None:
    stripes = np.tile(rng.integers(0, 255, (1, 8, 3), dtype=np.uint8).repeat(4, 1), (40, 2, 1))
    Image.fromarray(stripes).save(tmp_path / "p.png")
    code, out, err = run("stylize-volume", scan, "--style", "p.png", *PAINT, "--no-figures")
    assert (code, "2 steps" in out, "transfer: paint" in err) == (0, True, True), err
    before = nib.load(scan).get_fdata()
    after = nib.load(tmp_path / "scan_stylized.nii.gz").get_fdata()
    # Every plane is looked at, so the change varies along every axis.
    change = after - before
    assert all(np.abs(np.diff(change, axis=axis)).mean() > 0.1 for axis in range(3))


def test_windows() -> None:
    assert parse_window("lung") == (-1350, 150)
    for text in ("40", "40,0", "40,-5", "a,b", "1,2,3", "nan,4"):
        with raises(UsageError, operation="--window", expected="LEVEL,WIDTH"):
            parse_window(text)


@pytest.mark.parametrize(
    ("order", "flips"),
    [
        pytest.param((0, 1, 2), (0, 2), marks=pytest.mark.slow),
        pytest.param((2, 0, 1), (), marks=pytest.mark.slow),
        ((1, 2, 0), (1,)),
    ],
)
def test_the_order_of_axes_in_a_file_does_not_change_the_result(
    rng: np.random.Generator, order: tuple[int, ...], flips: Any
) -> None:
    data = torch.from_numpy(hounsfield(rng, (22, 20, 18)).astype(np.float32))
    style = Grid(
        values=torch.from_numpy(hounsfield(rng, (20, 18, 16), noise=60).astype(np.float32))[
            None, None
        ],
        units=("mm",) * 3,
        spacing=(1.0, 1.0, 2.0),
    )
    affine = np.diag([1.0, 1.0, 2.0, 1.0])

    def stylised(values: torch.Tensor, affine: NDArray[Any]) -> torch.Tensor:
        spacing = tuple(np.linalg.norm(affine[:3, :3], axis=0))
        grid = Grid(
            values=values[None, None],
            spacing=spacing,
            units=("mm",) * 3,
            header={"affine": affine},
        )
        return convnd.stylize(grid, style).values[0, 0]  # type: ignore[no-any-return]

    expected = stylised(data, affine)
    turned = affine[:, [*order, 3]].copy()
    for axis in flips:
        turned[:3, 3] += turned[:3, axis] * (data.shape[order[axis]] - 1)
        turned[:3, axis] *= -1
    result = stylised(data.permute(order).flip(flips), turned)
    torch.testing.assert_close(result.flip(flips).permute(*np.argsort(order)), expected)


@pytest.mark.slow
def test_stylize_takes_a_scan_as_stylize_volume_does(
    run: Run, scan: Any, style: Any, tmp_path: Path
) -> None:
    code, out, err = run("stylize", "--dim", 3, scan, style, *QUICK, "-o", "a.nii.gz")
    assert (code, "scan: CT" in err) == (0, True), err
    assert run("stylize-volume", scan, "--style", style, *QUICK, "-o", "b.nii.gz")[0] == 0
    one, other = nib.load(tmp_path / "a.nii.gz"), nib.load(tmp_path / "b.nii.gz")
    np.testing.assert_array_equal(one.get_fdata(), other.get_fdata())
    np.testing.assert_array_equal(one.affine, nib.load(scan).affine)
    code, _, err = run("stylize", scan, style, "--inflation", "acs", "-o", "c.nii")
    assert (code, "--inflation has no meaning for volumes" in err) == (2, True)
    (tmp_path / "scans").mkdir()
    for name in ("p.nii", "q.nii"):
        (tmp_path / "scans" / name).write_bytes(scan.read_bytes())
    (tmp_path / "scans" / "bad.nii").write_bytes(b"x")
    code, out, err = run("stylize", "scans", style, "--dim", 3)
    assert (code, out.count("32 x 30 x 28, 4 steps"), "1 of 3 failed" in err) == (1, 2, True)
    command = ("stylize", "scans", style, "--dim", 3)
    code, out, _ = run(*command, "--skip-existing", "--json")
    output = json.loads(out)
    assert (code, len(output["skipped"]), len(output["failed"])) == (1, 2, 1)
    code, out, _ = run(*command, "--overwrite", "--shard", "3/3", "--json")
    (result,) = json.loads(out)["results"]
    assert [Path(path).name for path in result["figures"]] == ["q_stylized-montage.png"]
    assert run(*command, "--shard", "4/4", "-o", "none")[0] == 0  # of three files none is left
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_a_trained_network_shows_the_safety_figures(
    run: Run, scan: Any, tmp_path: Path, strength: float
) -> None:
    shape = NetworkShape(spatial_dims=3, channels=1, width=2, levels=1, blocks=1)
    network = TransformNet(shape)
    network.initialize(0)
    network.style_mean.fill_(0.5)
    style = Grid(values=torch.rand(1, 1, 16, 16, 16), spacing=(1.0,) * 3, units=("mm",) * 3)
    trained = StyleNetwork(network=network, kind="volumes", styles=[style])
    write_network(tmp_path / "net.safetensors", trained, overwrite=False)
    words = ("--style", "net.safetensors", "--strength", strength, "--no-figures", "-o", "out.nii")
    code, _, err = run("stylize-volume", scan, *words)
    assert code == 0, err
    assert ("anatomy: outside of the safe limits: " in err) == (strength == 1)
    assert "anatomy: " in err
    record = json.loads(nib.load(tmp_path / "out.nii").header.extensions[0].get_content())
    figures = record["convnd:measured_anatomy"]
    assert "mean change of " in figures
    assert "largest change " in figures
