"""What scans are compared with, in which unit, and which of them can be read at all."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import nibabel as _nibabel
import numpy as np
import pytest
import torch
from command_line import Run
from convnd_tasks.modalities.volumes.geometry import placement_difference, value_unit
from convnd_tasks.modalities.volumes.metrics import measure_all
from convnd_tasks.modalities.volumes.options import VolumeOptions
from convnd_tasks.modalities.volumes.units import StyleUnits
from error_fields import check_error, raises

import convnd
import convnd.io
from convnd.errors import InputFileError, UsageError
from convnd.grid import Grid
from convnd.io.volumes import dicom

nibabel: Any = _nibabel  # its type hints are incomplete

QUICK = ("--steps", "1", "-q", "--no-figures", "--style-layers", "relu1_1")


def save(path: Path, data: np.ndarray, *, shift: float = 0.0, step: float = 2.0) -> Path:
    affine = np.diag([1.0, 1.0, step, 1.0])
    affine[2, 3] = shift
    nibabel.save(nibabel.Nifti1Image(data, affine), path)
    return path


def speckle(shape: tuple[int, ...] = (20, 18, 16), seed: int = 0, mean: float = 300) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 40, shape).astype(np.float32)


def test_scans_in_different_places_are_not_compared(tmp_path: Path) -> None:
    first = convnd.io.read(save(tmp_path / "a.nii", speckle()))
    for name, place in {"far": {"shift": 50.0}, "thick": {"step": 5.0}}.items():
        other = convnd.io.read(save(tmp_path / f"{name}.nii", speckle(), **place))
        with raises(InputFileError, operation="evaluate", got="voxels"):
            measure_all(first, other, [])
    again = convnd.io.read(save(tmp_path / "same.nii", speckle(), shift=1e-4))
    assert {m.name: m.value for m in measure_all(first, again, [])}["rmse"] == 0


def test_rotated_scans_are_not_compared(tmp_path: Path) -> None:
    data = speckle((18, 18, 18))
    nibabel.save(nibabel.Nifti1Image(data, np.diag([1.0, 1.0, 1.0, 1.0])), tmp_path / "a.nii")
    nibabel.save(nibabel.Nifti1Image(data, np.diag([-1.0, 1.0, 1.0, 1.0])), tmp_path / "b.nii")
    difference = placement_difference(
        convnd.io.read(tmp_path / "a.nii"), convnd.io.read(tmp_path / "b.nii")
    )
    assert difference == "voxels up to 34 mm away"


def test_evaluate_refuses_scans_in_different_places(run: Run, tmp_path: Path) -> None:
    save(tmp_path / "a.nii", speckle())
    save(tmp_path / "b.nii", speckle(), shift=50)
    code, _, err = run("evaluate", "a.nii", "b.nii")
    assert code == 3
    check_error(err, got="voxels up to 50 mm away")
    np.save(tmp_path / "c.npy", speckle())  # lies wherever the scan does
    assert run("evaluate", "a.nii", "c.npy")[0] == 0


def test_only_ct_is_measured_in_hounsfield_units(tmp_path: Path) -> None:
    mr = convnd.io.read(save(tmp_path / "mr.nii", speckle()))
    ct = convnd.io.read(save(tmp_path / "ct.nii", speckle(mean=-600)))
    assert (value_unit(mr), value_unit(ct)) == ("", "HU")
    for grid, unit in ((mr, ""), (ct, "HU")):
        measures = {m.name: m.unit for m in measure_all(grid, grid, [])}
        assert {measures["bias"], measures["rmse"], measures["anatomy_error"]} == {unit}
    said = Grid(values=ct.values, spacing=ct.spacing, header={"value_unit": "Bq/ml"})
    assert value_unit(said) == "Bq/ml"


def test_the_spacing_is_that_of_the_array_beside_a_scan(run: Run, tmp_path: Path) -> None:
    save(tmp_path / "scan.nii", speckle())
    np.save(tmp_path / "style.npy", speckle(seed=1))
    typed = ("stylize-volume", "scan.nii", "--style", "style.npy", *QUICK)
    code, _, err = run(*typed)
    assert code == 2
    check_error(err, remedy="--spacing 0.6,0.6,5")
    np.save(tmp_path / "mask.npy", np.ones((20, 18, 16)))
    code, _, err = run(*typed, "--spacing", "0.6,0.6,5", "--mask", "mask.npy")
    assert code == 0, err
    back = nibabel.load(tmp_path / "scan_stylized.nii.gz")
    assert back.header.get_zooms() == pytest.approx((1, 1, 2))
    nibabel.save(nibabel.load(tmp_path / "scan.nii"), tmp_path / "style.nii")
    with raises(UsageError, operation="--spacing", expected="an array"):
        convnd.stylize(
            tmp_path / "scan.nii", tmp_path / "style.nii", dim=3, spacing="1,1,1", steps=1
        )


@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_the_result_of_an_array_has_its_shape(run: Run, tmp_path: Path, dtype: str) -> None:
    scan = speckle().astype(dtype)
    np.save(tmp_path / "scan.npy", scan)
    np.save(tmp_path / "style.npy", speckle(seed=1))
    typed = ("stylize-volume", "scan.npy", "style.npy", "--spacing", "1,1,2", "-o", "result.npy")
    code, _, err = run(*typed, *QUICK)
    assert code == 0, err
    assert np.load(tmp_path / "result.npy").shape == scan.shape


def test_one_slice_is_a_volume(run: Run, tmp_path: Path) -> None:
    save(tmp_path / "slice.nii", speckle((24, 20, 1)))
    save(tmp_path / "other.nii", speckle((24, 20, 3), seed=1))
    code, _, err = run("stylize-volume", "slice.nii", "--style", "other.nii", *QUICK)
    assert code == 0, err
    back = nibabel.load(tmp_path / "slice_stylized.nii.gz")
    assert back.shape == (24, 20, 1)
    assert "noise: left as it is, since no tissue is large enough" in err
    assert run("evaluate", "slice.nii", "slice_stylized.nii.gz")[0] == 0


def test_unchanged_voxels_keep_large_integers(run: Run, tmp_path: Path) -> None:
    data = np.full((20, 18, 16), 36_540_001, np.int32)
    data[4:16, 4:16] = np.random.default_rng(0).integers(0, 1000, (12, 12, 16))
    nibabel.save(nibabel.Nifti1Image(data, np.eye(4), dtype=np.int32), tmp_path / "large.nii")
    mask = np.zeros(data.shape, np.float32)
    mask[6:10, 6:10] = 1
    np.save(tmp_path / "mask.npy", mask)
    typed = ("stylize-volume", "large.nii", "--style", "large.nii", "--mask", "mask.npy", *QUICK)
    code, _, err = run(*typed, "--dtype", "input", "-o", "b.nii")
    assert code == 0, err
    back = np.asarray(nibabel.load(tmp_path / "b.nii").dataobj)
    assert back.dtype == np.int32
    np.testing.assert_array_equal(back[mask == 0], data[mask == 0])
    code, _, err = run(*typed, "-o", "c.nii")
    assert (code, "--dtype input" in err) == (0, True)


def test_an_output_that_is_the_scan_is_refused(run: Run, tmp_path: Path) -> None:
    save(tmp_path / "scan.nii", speckle())
    before = (tmp_path / "scan.nii").read_bytes()
    typed = ("stylize-volume", "scan.nii", "--style", "scan.nii", *QUICK)
    assert run(*typed, "-o", "scan.nii", "--overwrite")[0] == 2
    assert (tmp_path / "scan.nii").read_bytes() == before


def test_arrays_with_a_spacing_are_scans() -> None:
    rng = np.random.default_rng(0)
    scan = np.full((40, 36, 12), 300.0, np.float32)
    scan[:8], scan[20:34, 10:24] = 20.0, 600.0
    content, style = (scan + rng.normal(0, noise, scan.shape) for noise in (5, 20))
    spacing = (0.7, 0.8, 3)
    result = convnd.stylize(content, torch.from_numpy(style[::-1].copy()), spacing=spacing)
    assert result.values.shape == (1, 1, *scan.shape)
    assert result.result.spacing == pytest.approx(spacing)
    measures = convnd.evaluate(content, result.values, style, spacing=spacing)
    noise = measures["noise"]
    assert noise.before == pytest.approx(5, rel=0.1)  # low quantiles, the quietest of three tissues
    assert noise.value > 2 * noise.before
    assert convnd.evaluate(content, result.values, dim=3).keys() != measures.keys()  # an array
    with raises(UsageError, operation="--spacing", expected="three numbers above 0"):
        convnd.stylize(content, style, spacing=(1, 1))


def test_uptake_values_are_named_and_not_scaled() -> None:
    units = [dicom._value_unit({"Modality": "PT", "Units": unit}) for unit in ("GML", "BQML")]
    assert units == ["SUV", "Bq/ml"]

    def grid(level: float, unit: str) -> Grid:
        values = torch.from_numpy(speckle(mean=level)) / 100
        header = {"value_unit": unit} if unit else {}
        return Grid(values=values[None, None], units=("mm",) * 3, header=header)

    for unit, factor in (("SUV", 1.0), ("", 0.5)):
        units_of_style = StyleUnits(grid(300, unit), [grid(600, unit)], VolumeOptions())
        assert units_of_style.factors == [pytest.approx(factor, rel=0.05)], unit
    messages = StyleUnits(grid(300, "SUV"), [], VolumeOptions()).messages
    assert messages == ("scan: values in SUV; use --modality if this is wrong",)


def blank_series(blank: float) -> np.ndarray:
    """Three frames, of which the second has one value."""
    frames = [speckle(seed=1), np.full((20, 18, 16), blank, np.float32), speckle(seed=2)]
    return np.stack(frames, -1)


@pytest.mark.parametrize("blank", [0.0, 7.0, math.nan])
def test_a_blank_frame_of_a_series_stays_as_it_is(run: Run, tmp_path: Path, blank: float) -> None:
    data = blank_series(blank)
    save(tmp_path / "series.nii", data)
    save(tmp_path / "style.nii", 3 * (speckle(seed=3) - 300) + 300)
    code, _, err = run("stylize-volume", "series.nii", "--style", "style.nii", *QUICK)
    assert code == 0, err
    assert "frame 2: left as it is, since it is blank" in err
    back = np.asarray(nibabel.load(tmp_path / "series_stylized.nii.gz").dataobj)
    np.testing.assert_array_equal(back[..., 1], data[..., 1])
    code, out, err = run("evaluate", "series.nii", "series_stylized.nii.gz")
    assert code == 0, err
    assert "without blank ones: 2" in out


def test_measures_of_a_series_are_means_over_frames_that_are_not_blank(tmp_path: Path) -> None:
    data = blank_series(0)
    scan = convnd.io.read(save(tmp_path / "a.nii", data))
    shifted = scan.with_values(scan.values + 2)
    rows = {m.name: m for m in measure_all(scan, shifted, [])}
    assert rows["bias"].value == pytest.approx(2, abs=1e-4)
    assert math.isnan(rows["bias"].parts["frame 2"])
    assert rows["changed_background"].parts["frame 2"] == 100


@pytest.mark.parametrize("kind", ["mask", "series", "array"])
def test_a_scan_of_constant_regions_is_refused(run: Run, tmp_path: Path, kind: str) -> None:
    mask = np.zeros((20, 18, 16), np.uint8)
    mask[5:15, 5:15, 4:12] = 1
    more: tuple[str, ...] = ()
    name = f"{kind}.nii"
    if kind == "array":
        name, more = "mask.npy", ("--spacing", "1,1,1")
        np.save(tmp_path / name, mask.astype(bool))
    else:
        data = mask if kind == "mask" else np.stack([mask * 0, mask * 0 + 5], -1)
        save(tmp_path / name, data)
    save(tmp_path / "scan.nii", speckle())
    code, _, err = run("stylize-volume", name, "--style", "scan.nii", *more, *QUICK)
    assert code == 3, err
    check_error(err, got="constant regions only")
    if kind == "mask":
        code, _, err = run("stylize-volume", "scan.nii", "--style", name, *QUICK)
        assert code == 3, err
        check_error(err, got="constant regions only")
        code, _, err = run("evaluate", "scan.nii", "scan.nii", "--style", name)
        assert code == 3, err


def test_the_level_of_a_series_is_that_of_a_frame_that_is_not_blank(tmp_path: Path) -> None:
    """The style has values four times as large; the first frame of the scan shows nothing."""
    scan = convnd.io.read(save(tmp_path / "a.nii", np.roll(blank_series(0), -1, -1)))
    style = convnd.io.read(save(tmp_path / "b.nii", 4 * speckle(seed=4)))
    factors = StyleUnits(scan, [style], VolumeOptions()).factors
    assert factors == pytest.approx([0.25], rel=0.05)


@pytest.mark.parametrize("suffix", ["nii.gz", "mgz"])
def test_an_array_of_several_volumes_becomes_a_series(
    run: Run, tmp_path: Path, suffix: str
) -> None:
    np.save(tmp_path / "series.npy", np.stack([speckle(seed=seed) for seed in range(3)]))
    mask = np.zeros((20, 18, 16), np.uint8)
    mask[:10] = 1
    np.save(tmp_path / "mask.npy", mask)
    typed = ("stylize-volume", "series.npy", "--spacing", "1,1,2", "--mask", "mask.npy", *QUICK)
    code, _, err = run(*typed, "-o", f"r.{suffix}")
    assert code == 0, err
    back = nibabel.load(tmp_path / f"r.{suffix}")
    assert back.shape == (20, 18, 16, 3)
    assert back.header.get_zooms()[:3] == pytest.approx((1, 1, 2))
    data = np.asarray(back.dataobj)
    for frame in range(3):
        np.testing.assert_array_equal(data[10:, ..., frame], speckle(seed=frame)[10:])
    code, _, err = run(*typed, "-o", "r.nrrd")
    assert code != 0
    check_error(err, remedy=".npy")


@pytest.mark.parametrize("name", ["x.mp4", "x.png"])
def test_a_scan_is_no_video(run: Run, tmp_path: Path, name: str) -> None:
    save(tmp_path / "scan.nii", speckle())
    code, _, err = run("stylize-volume", "scan.nii", "-o", name, *QUICK)
    assert code == 2
    check_error(err, expected=".nii.gz")
    assert ".mkv" not in err


def test_the_remedy_for_huge_values_names_them(run: Run, tmp_path: Path) -> None:
    """Their squares are beyond float32."""
    values = speckle((40, 40, 16), mean=200) / 10
    values[10:30, 10:30] += 300
    save(tmp_path / "huge.nii", values * np.float32(1e30))
    code, _, err = run("stylize-volume", "huge.nii", *QUICK)
    assert code == 5
    check_error(err.splitlines()[-1], remedy="divide huge values")


def test_voxels_outside_a_mask_keep_all_digits_of_an_array(run: Run, tmp_path: Path) -> None:
    scan = np.random.default_rng(0).normal(100, 5, (40, 40, 16))
    scan[4:36, 10:30] += 300
    np.save(tmp_path / "scan.npy", scan)
    noise = np.random.default_rng(1).normal(0, 10, scan.shape)
    save(tmp_path / "style.nii", (scan + noise).astype(np.float32))
    mask = np.zeros(scan.shape, np.uint8)
    mask[:20] = 1
    np.save(tmp_path / "mask.npy", mask)
    typed = ("stylize-volume", "scan.npy", "--spacing", "1,1,2", "--style", "style.nii", *QUICK)
    code, _, err = run(*typed, "--mask", "mask.npy", "-o", "result.npy")
    assert code == 0, err
    result = np.load(tmp_path / "result.npy")
    np.testing.assert_array_equal(result[20:], scan[20:])
    assert np.abs(result - scan)[:20].max() > 1
