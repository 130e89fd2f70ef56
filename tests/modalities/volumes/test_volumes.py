"""Volumes: what a result keeps, what is refused, and that other programs can read the result."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from convnd_tasks import samples
from convnd_tasks.modalities.volumes import memory, slabs
from convnd_tasks.modalities.volumes.features import FeatureExtractor, VolumeLossConfig
from convnd_tasks.modalities.volumes.noise_texture import NoiseTexture
from convnd_tasks.modalities.volumes.objective import SliceObjective
from convnd_tasks.modalities.volumes.options import parse_window
from convnd_tasks.modalities.volumes.slabs import square_pixel_views
from convnd_tasks.modalities.volumes.tissues import gather_by_label
from convnd_tasks.modalities.volumes.view_loss import ViewLoss
from PIL import Image
from scipy.ndimage import gaussian_filter

import convnd.io
from convnd.backbones import VGG, VGG19, Precision, VGGPlan
from convnd.errors import UsageError
from convnd.grid import Grid
from convnd.optimize import ProcessGroup

Run = Callable[..., tuple[int, str, str]]
QUICK = ("--steps", "2", "-q")
SHALLOW = ("--style-layers", "relu1_1")  # built-in scans are large
AFFINE = np.array([[0, -1.5, 0, 12], [0, 0, -2.0, -7], [1.5, 0, 0, 100], [0, 0, 0, 1.0]])


def hounsfield(rng, shape=(20, 18, 17), noise=20.0):
    """A ball of soft tissue in lung, with air around."""
    index = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    radius = np.sqrt((index**2).sum(0))
    data = np.where(radius < 0.5, 40.0, np.where(radius < 1.2, -820.0, -1000.0))
    return data + rng.normal(size=shape) * noise


def save(path, data, affine=AFFINE):
    image = nib.Nifti1Image(data, affine)
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, path)
    return path


@pytest.fixture
def scan(tmp_path, rng):
    return save(tmp_path / "scan.nii", hounsfield(rng, noise=5).astype(np.int16))


@pytest.fixture
def style(tmp_path, rng):
    return save(tmp_path / "style.nii.gz", hounsfield(rng, noise=60).astype(np.int16))


def test_a_scan_comes_back_where_it_was(run, scan, style, tmp_path):
    code, out, err = run("stylize-volume", scan, "--style", style, *QUICK, "--window", "-400,1100")
    assert code == 0, err
    assert out.startswith("scan_stylized.nii.gz  20 x 18 x 17, 2 steps")
    assert "window -950 to 150; what lies outside stays as it is" in err
    assert "optimizer: lbfgs (chosen by size: 6,120 voxels)" in err
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
    assert "expected a new file" in err


def test_mask_strength_and_integers(run, scan, style, tmp_path, rng):
    region = np.zeros((20, 18, 17), np.uint8)
    region[5:15, 5:12] = 1
    save(tmp_path / "mask.nii", region)
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
    np.testing.assert_allclose(half - old, (full - old) / 2, atol=1e-3)
    np.testing.assert_array_equal(part[region == 0], old[region == 0])
    np.testing.assert_allclose(part[region == 1], full[region == 1], atol=0.501)
    assert nib.load(tmp_path / "part.nii").get_data_dtype() == np.int16
    assert not (tmp_path / "full-montage.png").exists()


def test_a_mask_may_be_an_array_on_the_grid_of_the_scan(run, scan, style, tmp_path):
    region = np.zeros((20, 18, 17), np.uint8)
    region[5:15, 5:12] = 1
    np.save(tmp_path / "mask.npy", region)
    masked = ("--style", style, "--mask", "mask.npy", "--no-figures", *QUICK)
    code, _, err = run("stylize-volume", scan, *masked, "-o", "part.nii")
    assert (code, "--spacing" in err) == (0, False)
    before, part = (nib.load(tmp_path / name).get_fdata() for name in ("scan.nii", "part.nii"))
    np.testing.assert_array_equal(part[region == 0], before[region == 0])
    assert not np.array_equal(part, before)


def test_a_series_is_done_frame_by_frame(run, style, tmp_path, rng):
    frames = np.stack([hounsfield(rng, noise=n) for n in (5, 9)], -1).astype(np.float32)
    save(tmp_path / "series.nii.gz", frames)
    assert run("stylize-volume", "series.nii.gz", "--style", style, *QUICK)[0] == 0
    save(tmp_path / "second.nii", frames[..., 1])
    back = nib.load(tmp_path / "series_stylized.nii.gz").get_fdata()
    assert back.shape == frames.shape
    options = {"steps": 2, "window": "-400,1100", "dim": 3}
    alone = convnd.stylize(tmp_path / "second.nii", style, **options)
    together = convnd.stylize(tmp_path / "series.nii.gz", style, **options)
    torch.testing.assert_close(together.values[:, 1:], alone.values)
    assert (alone.steps, together.steps) == (2, 4)


def test_gaps_stay_gaps_and_do_not_spread(run, style, tmp_path, rng):
    data = hounsfield(rng).astype(np.float32)
    data[3:6, 4, 4] = np.nan
    save(tmp_path / "a.nii", data)
    assert run("stylize-volume", "a.nii", "--style", style, *QUICK, "--no-figures")[0] == 0
    back = nib.load(tmp_path / "a_stylized.nii.gz").get_fdata()
    np.testing.assert_array_equal(np.isnan(back), np.isnan(data))


@pytest.mark.slow
def test_other_formats_pictures_and_arrays(run, scan, tmp_path, rng):
    Image.fromarray(rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(tmp_path / "p.png")
    np.save(tmp_path / "a.npy", hounsfield(rng))
    convnd.io.write(tmp_path / "b.nrrd", convnd.io.read(scan))
    array = ("--spacing", "1,1,1.5", "--no-figures", *QUICK)
    assert run("stylize-volume", "a.npy", "--style", "p.png", *array)[0] == 0
    assert nib.load(tmp_path / "a_stylized.nii.gz").header.get_zooms() == (1, 1, 1.5)
    np.save(tmp_path / "s.npy", hounsfield(rng, noise=60))
    code, _, err = run("stylize-volume", "a.npy", "--style", "s.npy", *array, "-o", "n.nii")
    assert code == 0, err
    code, _, err = run("stylize-volume", "b.nrrd", *QUICK, *SHALLOW, "--no-figures", "-o", "c.mha")
    assert code == 0
    assert "window -1200 to 800 (auto)" in err  # percentiles would cut the noise of lungs
    assert "no style given, using the built-in one: sharp" in err
    written = sitk.ReadImage(str(tmp_path / "c.mha"))
    assert written.GetOrigin() == sitk.ReadImage(str(scan)).GetOrigin()
    code, _, err = run("stylize-volume", "a.npy", "-o", "d.nii", *QUICK)
    assert (code, "--spacing: expected millimetres" in err) == (2, True)


BAD = [
    ("constant", np.full((20, 18, 17), 7.0), "values that differ, got 7 everywhere"),
    ("empty", np.full((20, 18, 17), np.nan), "expected finite voxels"),
    ("tiny", np.random.default_rng(0).normal(size=(9, 9, 9)), "at least 16 x 16 square pixels"),
]


@pytest.mark.parametrize(("name", "data", "message"), BAD)
def test_bad_scans_are_refused_in_one_line(run, tmp_path, name, data, message):
    nib.save(nib.Nifti1Image(data.astype(np.float32), np.eye(4)), tmp_path / f"{name}.nii")
    code, out, err = run("stylize-volume", f"{name}.nii", "--style", "sharp", *QUICK)
    assert code == 3
    assert message in err
    assert err.startswith("convnd: ")
    assert err.count("\n") == 1
    assert out == ""
    assert [path.name for path in tmp_path.iterdir()] == [f"{name}.nii"]


def test_styles_and_masks_that_do_not_fit(run, scan, style, tmp_path, rng):
    save(tmp_path / "m.nii", np.ones((20, 18, 16), np.uint8))
    code, _, err = run("stylize-volume", scan, "--style", style, "--mask", "m.nii", *QUICK)
    assert (code, "--mask: expected the scan's shape 20 x 18 x 17" in err) == (3, True)
    save(tmp_path / "n.nii", np.ones((20, 18, 17), np.uint8), np.eye(4))
    code, _, err = run("stylize-volume", scan, "--style", style, "--mask", "n.nii", *QUICK)
    assert (code, "voxels where the scan's are, got voxels up to" in err) == (3, True)
    code, _, err = run("stylize-volume", scan, "--style", style, "--window", "wide", *QUICK)
    assert (code, "--window: expected auto, lung" in err) == (2, True)
    code, _, err = run("stylize-volume", scan, "--style", "nothing", *QUICK)
    assert (code, "sharp" in err) == (2, True)


def test_what_cannot_be_done_is_found_before_the_work(run, scan, style, tmp_path, monkeypatch):
    before = sorted(tmp_path.iterdir())
    command = ("stylize-volume", scan, "--style", style, *QUICK)
    code, _, err = run(*command, "--report", "r.pdf")
    assert (code, "report: expected a name ending in .html" in err) == (2, True)
    code, _, err = run(*command, "--style-loss", "spectrum")
    assert (code, "expected one that adds up over slices, such as gram" in err) == (2, True)
    # Several processes on a machine share its memory.
    needed = 2**24  # more than L-BFGS takes
    monkeypatch.setattr(memory, "needed", lambda *_, **__: needed)
    free = psutil.virtual_memory()._replace(available=3 * needed - 1)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    monkeypatch.setattr(ProcessGroup, "local_size", 3)
    code, _, err = run(*command)
    assert (code, "which is free for each of 3 processes" in err) == (4, True)
    assert sorted(tmp_path.iterdir()) == before
    monkeypatch.setattr(ProcessGroup, "local_size", 2)
    assert run(*command, "--no-figures")[0] == 0


def test_options_of_every_kind_of_data_work_for_scans(run, scan, style, tmp_path, rng):
    save(tmp_path / "third.nii", hounsfield(rng, noise=90).astype(np.int16))
    command = ("stylize-volume", scan, "--steps", 1, "-q", "--no-figures", "--precision", "float32")

    def result(*options):
        code, _, err = run(*command, *options, "-o", "o.nii", "--overwrite")
        assert code == 0, err
        return nib.load(tmp_path / "o.nii").get_fdata()

    plain = result(style)
    # A style without weight changes nothing, and neither does the size of the slabs.
    np.testing.assert_allclose(
        result(style, "third.nii", "--style-weights", "1,0"), plain, atol=1e-2
    )
    np.testing.assert_allclose(result(style, "--tile", 4), plain, atol=0.1)
    others = (
        ("--style-weights", "1,3", "third.nii"),
        ("--normalization", "mean"),
        ("--learning-rate", 0.1),
        ("--tv-weight", 100),
        ("--pooling", "avg"),
        ("--value-statistics-weight", 100),
        ("--style-layers", "relu1_1,relu2_1", "--style-layer-weights", "3,1"),
        ("--detail-sigma-mm", 2),
        ("--transfer", "paint", "--content-layers", "relu3_1,relu2_1"),
    )
    for options in others:
        assert np.abs(result(style, *options) - plain).max() > 0.01, options
    for options, message in (
        (("--style-weights", "1,2,3"), "one weight for each of 1 styles, got 3"),
        (("--content-layers", "relu2_1"), "--content-layers: expected --transfer paint"),
        (("--style-layer-weights", "1,2"), "expected style_layers as well"),
        (("--init", "random"), "--init has no meaning for volumes"),
        (("--size", 64), "--size has no meaning for volumes"),
    ):
        code, _, err = run(*command, style, *options, "-o", "none.nii")
        assert (code, message in err) == (2, True), err
    code, _, err = run(*command, style, "--memory", "1MiB", "-o", "none.nii")
    assert (code, "MiB, which is allowed by --memory" in err) == (4, True), err
    assert not (tmp_path / "none.nii").exists()


def test_windows():
    assert parse_window("lung") == (-1350, 150)
    for text in ("40", "40,0", "40,-5", "a,b", "1,2,3", "nan,4"):
        with pytest.raises(UsageError, match="LEVEL,WIDTH"):
            parse_window(text)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("flips", [(), (0, 2)])
def test_however_the_file_stores_it_the_patient_gets_the_same(rng, order, flips):
    data = torch.from_numpy(hounsfield(rng).astype(np.float32))
    style = Grid(
        values=torch.from_numpy(hounsfield(rng, noise=60).astype(np.float32))[None, None],
        units=("mm",) * 3,
        spacing=(1.0, 1.0, 2.0),
    )
    affine = np.diag([1.0, 1.0, 2.0, 1.0])

    def stylised(values, affine):
        spacing = tuple(np.linalg.norm(affine[:3, :3], axis=0))
        grid = Grid(
            values=values[None, None],
            spacing=spacing,
            units=("mm",) * 3,
            header={"affine": affine},
        )
        return convnd.stylize(grid, style, steps=2).values[0, 0]

    expected = stylised(data, affine)
    turned = affine[:, [*order, 3]].copy()
    for axis in flips:
        turned[:3, 3] += turned[:3, axis] * (data.shape[order[axis]] - 1)
        turned[:3, axis] *= -1
    result = stylised(data.permute(order).flip(flips), turned)
    torch.testing.assert_close(result.flip(flips).permute(*np.argsort(order)), expected)


def test_slices_enter_in_millimetres():
    views = square_pixel_views((48, 512, 512), (5.0, 0.6, 0.6))
    assert [(view.axis, view.size, view.pixel) for view in views] == [
        (0, (512, 512), 0.6),
        (1, (48, 61), 5.0),
        (2, (48, 61), 5.0),
    ]
    # The same ball of 24 mm, sampled finely along one axis or not: as wide in the slice.
    z, y = np.meshgrid(np.arange(24) * 2.0 - 23, np.arange(96) * 0.5 - 23.75, indexing="ij")
    ball = torch.from_numpy((z**2 + y**2 < 144).astype(np.float32))[None, None, :, :, None]
    views = square_pixel_views((24, 96, 20), (2.0, 0.5, 0.5))
    view = next(view for view in views if view.axis == 2)
    picture = view.extract(ball.expand(-1, -1, -1, -1, 20))[0, 0]
    assert picture.shape == (24, 24)
    wide, high = (picture > 0.5).sum(1).max().item(), (picture > 0.5).sum(0).max().item()
    assert abs(wide - high) <= 1


EVERYTHING = {
    "style_layer_weights": (2.0, 1.0),
    "normalization": "lecture",
    "tv_weight": 0.5,
}


@pytest.mark.parametrize("slices", [None, 3])
@pytest.mark.parametrize(
    "config",
    [
        {"content_layers": None},
        {"content_layers": ("relu2_1",)},
        {"content_layers": ("relu1_1", "relu2_1"), **EVERYTHING},
        {
            "content_layers": None,
            "value_statistics": ("spectrum",),
            "value_statistics_weight": 2.0,
            **EVERYTHING,
        },
    ],
)
def test_slab_by_slab_is_exact(monkeypatch, generator, config, slices):
    net = VGG(VGG19.truncate(["relu2_1"]), spatial_dims=2, in_channels=1, generator=generator)
    net = net.double()
    content, x = torch.rand(2, 1, 1, 18, 17, 20, generator=generator).double()
    views = square_pixel_views((18, 17, 20), (1.0, 1.0, 1.3))
    styles = [[torch.rand(3, 1, *view.size, generator=generator).double()] for view in views]
    config = VolumeLossConfig(
        style_layers=("relu1_1", "relu2_1"),
        style_weight=3.0,
        content_weight=1.0,
        detail_sigma_mm=1.2,
        tissues=((0.0, 0.5),),
        **config,
    )

    def evaluate(slices=None):
        objective = SliceObjective(
            net,
            config,
            content,
            views=views,
            styles=styles,
            weights=[1.0],
            precision=Precision(torch.float64),
            slices=slices,
        )
        return objective.evaluate(x)

    whole = evaluate()
    if slices is None:
        monkeypatch.setattr(slabs, "ONE_PASS_PIXELS", 0)
        monkeypatch.setattr(slabs, "SLAB_PIXELS", 1100)
    cut = evaluate(slices)
    assert cut.loss == pytest.approx(whole.loss, rel=1e-5)
    assert cut.loss == pytest.approx(sum(cut.parts.values()), rel=1e-6)
    scale = float(whole.gradient.abs().max())
    torch.testing.assert_close(cut.gradient, whole.gradient, rtol=1e-4, atol=1e-5 * scale)


def test_projected_sums_are_those_of_projected_features(monkeypatch, generator):
    plan = VGGPlan(widths=((8, 8), (12,)), projections={"relu1_1": 6, "relu2_1": 5})
    net = VGG(plan, spatial_dims=2, in_channels=1, generator=generator)
    content, x = torch.rand(2, 1, 1, 3, 20, 24, generator=generator)
    views = square_pixel_views((3, 20, 24), (5.0, 1.0, 1.0))
    styles = [[torch.rand(3, 1, *view.size, generator=generator)] for view in views]
    config = VolumeLossConfig(
        style_layers=("relu1_1", "relu2_1"),
        content_layers=None,
        style_weight=3.0,
        content_weight=1.0,
        detail_sigma_mm=1.2,
        tissues=((0.0, 0.5),),
    )

    def evaluate():
        precision = Precision(torch.float32)
        common = {"views": views, "styles": styles, "weights": [1.0], "precision": precision}
        return SliceObjective(net, config, content, **common).evaluate(x)

    before = evaluate()
    monkeypatch.setattr(VGG, "projection", lambda *_: None)  # features are projected then
    after = evaluate()
    assert before.loss == pytest.approx(after.loss, rel=1e-4)
    torch.testing.assert_close(before.gradient, after.gradient, rtol=1e-3, atol=1e-6)


def test_a_scan_in_other_units_than_the_style_changes(run, tmp_path, rng):
    """Magnetic resonance has no fixed scale: the built-in style, in HU, must still reach it."""
    values = (hounsfield(rng) + 1200) * 6  # about 1,000 to 8,000
    save(tmp_path / "mr.nii", values.astype(np.int16))
    code, _, err = run("stylize-volume", tmp_path / "mr.nii", *QUICK, *SHALLOW, "--no-figures")
    assert code == 0, err
    assert "the style's units are others" in err
    after = nib.load(tmp_path / "mr_stylized.nii.gz").get_fdata()
    assert np.abs(after - values).std() > 0.005 * np.ptp(values)


@pytest.mark.slow
def test_stylize_takes_a_scan_as_stylize_volume_does(run, scan, style, tmp_path):
    code, out, err = run("stylize", "--dim", 3, scan, style, *QUICK, "-o", "a.nii.gz")
    assert (code, "window " in err) == (0, True), err
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
    code, out, err = run("stylize", "scans", style, "--dim", 3, "--steps", 1)
    assert (code, out.count("20 x 18 x 17, 1 steps"), "1 of 3 failed" in err) == (1, 2, True)
    command = ("stylize", "scans", style, "--dim", 3, "--steps", 1)
    code, out, _ = run(*command, "--skip-existing", "--json")
    output = json.loads(out)
    assert (code, len(output["skipped"]), len(output["failed"])) == (1, 2, 1)
    code, out, _ = run(*command, "--overwrite", "--shard", "3/3", "--json")
    (result,) = json.loads(out)["results"]
    assert [Path(path).name for path in result["figures"]] == ["q_stylized-montage.png"]
    assert run(*command, "--shard", "4/4", "-o", "none")[0] == 0  # of three files none is left
    assert not (tmp_path / "none").exists()


def test_noise_is_measured_in_each_tissue_beside_its_edges(rng):
    """Two tissues of other noise, one with an edge a hundred times as strong, and a slope."""
    lower = 0.3 + 0.002 * rng.normal(size=(60, 100))
    upper = 0.7 + 0.01 * rng.normal(size=(60, 100))
    lower[30, 40] += 0.3  # a vessel
    slices = torch.from_numpy(np.concatenate([lower, upper])).float()[None, None]
    texture = NoiseTexture(1.0, 2.0, [(0.25, 0.35), (0.65, 0.75)], slope_limits=[0.02])
    texture.fit([slices])
    labels = texture.label(texture.blur(slices))
    assert labels is not None
    shares = [
        float((part == n).float().mean())
        for n, part in ((0, labels[..., :50, :]), (1, labels[..., 70:, :]))
    ]
    assert min(shares) > 0.9
    assert labels[0, 0, 60, 50] == 2  # the border belongs to neither
    scale = texture.step_scale(labels)
    assert float(scale[0, 0, 5, 5]) == pytest.approx(0.002, rel=0.1)
    assert float(scale[0, 0, 110, 50]) == pytest.approx(0.01, rel=0.1)
    assert float(scale.max()) <= 0.0105


def test_sums_of_a_tissue_and_their_gradient_are_those_of_its_positions(generator):
    features = torch.rand(3, 4, 10, 12, generator=generator, dtype=torch.float64)
    features.requires_grad_()
    fine = torch.randint(0, 4, (3, 1, 10, 12), generator=generator)  # 3 is left out
    weights = torch.rand(3, 4, 4, generator=generator, dtype=torch.float64)
    parts = gather_by_label(features, fine, 3)
    actual = sum((w * (part[0] @ part[0].mT)).sum() for w, part in zip(weights, parts, strict=True))
    masks = [(fine == n).double() for n in range(3)]
    flat = [(features * mask).movedim(1, 0).flatten(1) for mask in masks]
    expected = sum((w * (part @ part.mT)).sum() for w, part in zip(weights, flat, strict=True))
    torch.testing.assert_close(actual, expected)
    one, two = (torch.autograd.grad(total, features)[0] for total in (actual, expected))
    torch.testing.assert_close(one, two)
    # Of four pixels, three say of which tissue a position is.
    coarse = torch.tensor([[1, 1, 0, 2], [1, 0, 0, 0]]).view(1, 1, 2, 4)
    sizes = [part.shape[2] for part in gather_by_label(torch.ones(1, 1, 1, 2), coarse, 3)]
    assert sizes == [1, 1, 0]


def test_a_tissue_too_scattered_for_a_deep_layer_is_no_term_of_it():
    """It has pixels enough, but is nowhere most of what a position sees."""

    def two(noise: float, seed: int) -> Grid:
        generator = torch.Generator().manual_seed(seed)
        values = torch.where(torch.arange(20) < 10, -850.0, 40.0).view(1, 1, -1, 1, 1)
        values = values + noise * torch.randn((1, 1, 20, 40, 40), generator=generator)
        return Grid(values=values, spacing=(1.0,) * 3, units=("mm",) * 3)

    result = convnd.stylize(two(10, 1), two(30, 2), steps=1, precision="float32")
    assert np.isfinite(result.losses["total"]).all()


def test_smoothing_is_a_gaussian_with_its_ends_repeated(rng):
    values = rng.normal(size=(2, 1, 30, 17))
    expected = gaussian_filter(values, (0, 0, 1.7, 1.7), mode="nearest", truncate=3.5)
    actual = NoiseTexture(1.0, 1.7).blur(torch.from_numpy(values))
    np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_thick_slices_are_seen_where_their_noise_is(rng, monkeypatch):
    """Slices of 5 mm show no noise texture; structures that coarse are anatomy."""
    from convnd_tasks.modalities.volumes import objective as volume_objective

    views_of_calls = []
    make = SliceObjective.__init__

    def note(self, *args, views, **others):
        views_of_calls.append([(view.axis, view.pixel) for view in views])
        make(self, *args, views=views, **others)

    monkeypatch.setattr(volume_objective.SliceObjective, "__init__", note)
    values = torch.from_numpy(hounsfield(rng, (64, 64, 17)).astype(np.float32))[None, None]
    for thick in (5.0, 2.0):
        grid = Grid(values=values, spacing=(0.9, 0.9, thick), units=("mm",) * 3)
        convnd.stylize(grid, grid, steps=0)
    # Axis 0 of the work runs to the head, the file's last.
    assert views_of_calls == [[(0, 0.9)], [(0, 0.9), (1, 2.0), (2, 2.0)]]


def test_built_in_scans_have_voxels_like_the_scans(run, tmp_path, rng, monkeypatch):
    samples_made = []
    style = samples.style

    def note(name, **options):
        samples_made.append(style(name, **options))
        raise UsageError("the rest of the work is not needed")

    monkeypatch.setattr(samples, "style", note)
    # Of the file's axes the second runs to the head, and is coarse.
    affine = np.array([[-0.8, 0, 0, 0], [0, 0, 0.8, 0], [0, 4.0, 0, 0], [0, 0, 0, 1.0]])
    data = hounsfield(rng, (48, 16, 48))
    save(tmp_path / "fine.nii", data.astype(np.int16), affine)
    assert run("stylize-volume", "fine.nii", "--steps", 0, "-q", "--no-figures")[0] == 2
    x, y, z = samples_made[0].spacing
    assert x == pytest.approx(y, rel=0.02)
    assert z / x == pytest.approx(5, rel=0.05)
    assert x < 3  # its own has 4 mm


@pytest.mark.parametrize(("darker", "labels"), [(0.0, {"0", "1"}), (0.25, {"2"})])
def test_the_rest_is_style_only_where_scans_share_no_tissue(generator, darker, labels):
    """How many edges a style has, and how much air, is its anatomy."""
    net = VGG(VGG19.truncate(["relu1_1"]), spatial_dims=2, in_channels=1, generator=generator)
    values = torch.full((1, 1, 4, 40, 48), 0.2)
    values[..., 24:] = 0.8
    values += 0.01 * torch.randn(values.shape, generator=generator)
    (view,) = square_pixel_views((4, 40, 48), (5.0, 1.0, 1.0))
    config = VolumeLossConfig(
        style_layers=("relu1_1",),
        content_layers=None,
        style_weight=3.0,
        content_weight=1.0,
        detail_sigma_mm=1.2,
        tissues=((0.1, 0.3), (0.7, 0.9)),
        slope_limits=(0.1,),
    )
    view_loss = ViewLoss(
        FeatureExtractor(net, config, Precision(torch.float32)),
        config,
        view,
        pictures=[view.extract(values - darker)],
        weights=[1.0],
        content=[view.extract(values)],
    )
    assert {name.partition("/")[2] for name in view_loss.style_losses} == labels


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_the_plan_of_each_process_falls_with_their_number(optimizer):
    net = VGG(VGG19.truncate(["relu1_1"]), spatial_dims=2, in_channels=1)
    plans = [
        memory.needed(net, ["relu1_1"], (512, 512, 512), (1.0,) * 3, optimizer, processes=count)
        for count in (1, 2, 3, 4)
    ]
    fields = {"lbfgs": 50, "adam": 10}[optimizer]
    whole = 4 * 512**3
    assert plans[0] - fields * whole < 2**31  # a slab of slices
    assert all(
        plan - (fields + 5) * whole / count < 2**31 / count + 60 * 4 * 512**2
        for count, plan in enumerate(plans[1:], 2)
    )
    assert plans == sorted(plans, reverse=True)
