"""`convnd.ScanLook`: known noise arrives, and pipelines of training can use it."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from convnd_tasks.modalities.volumes.scan_look import ScanLook
from convnd_tasks.modalities.volumes.smoothing import gaussian
from error_fields import raises
from torch import Tensor
from torch.utils.data import DataLoader

import convnd
from convnd.errors import InputFileError, ShapeError, UsageError

STEPS = (1.0, 1.0, 3.0)
SHAPE = (56, 52, 16)


def anatomy() -> Tensor:
    """Two tissues of a CT in HU, without noise."""
    values = torch.full(SHAPE, 40.0)
    values[16:40, 10:40] = -850.0
    return gaussian(values, (0.8, 0.8, 0.0))


def noise(seed: int, blur: float = 0.0) -> Tensor:
    values = torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))
    values = gaussian(values, (blur, blur, 0.0))
    return values / values.std()


@pytest.fixture(scope="module")
def quiet() -> Tensor:
    return anatomy() + 4 * noise(0)


@pytest.fixture(scope="module")
def look() -> ScanLook:
    """The noise of 20 HU of a soft kernel, of the mirrored scan."""
    style = anatomy().flip(0) + 20 * noise(1, blur=1.0)
    return ScanLook(style, spacing=STEPS, modality="ct", strength=1.0)


def soft(values: Tensor) -> Tensor:
    """Deep in soft tissue."""
    return values[:12, :, :]


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_the_noise_of_the_style_arrives(look: ScanLook, quiet: Tensor, strength: float) -> None:
    torch.manual_seed(0)
    result = look.apply(quiet, strength=strength)
    lacking = math.sqrt(20**2 - 4**2)
    # Noise of a kernel has about 600 independent values in the 9,984 voxels here: a deviation
    # spreads by 3 %, and so does the style's, from which it was measured.
    expected = math.hypot(4, strength * lacking)
    assert float(soft(result).std()) == pytest.approx(expected, rel=0.12)
    assert float(soft(result - quiet).mean()) == pytest.approx(0, abs=2.0)
    neighbours = soft(result - quiet)
    first, second = neighbours[:, :-1].flatten(), neighbours[:, 1:].flatten()
    # Voxels behind a Gaussian of sigma 1 correlate by exp(-1 / 4 sigma^2).
    correlation = float(torch.corrcoef(torch.stack([first, second]))[0, 1])
    # Local means within the tissue are subtracted, and with them the coarsest noise.
    assert correlation == pytest.approx(math.exp(-0.25), abs=0.08)


def test_a_volume_as_noisy_as_the_style_does_not_change(look: ScanLook) -> None:
    loud = anatomy() + 23 * noise(2)  # five standard errors above the 20 of the style
    assert torch.equal(look.apply(loud), loud)


@pytest.mark.slow
def test_evaluate_finds_the_noise_nearer_to_the_style(look: ScanLook, quiet: Tensor) -> None:
    torch.manual_seed(0)
    grids = [
        convnd.Grid(values=values[None, None], spacing=STEPS, units=("mm",) * 3)
        for values in (quiet, look.apply(quiet), anatomy().flip(0) + 20 * noise(1, blur=1.0))
    ]
    measures = convnd.evaluate(grids[0], grids[1], grids[2])
    distance = measures["noise_distance_soft"]
    assert distance.value < 0.25 * distance.before


def test_padding_and_missing_values_do_not_change(look: ScanLook, quiet: Tensor) -> None:
    values = quiet.clone()
    values[:8] = -2000
    values[30, 30, 8] = math.nan
    result = look(values)
    assert torch.equal(result[:8], values[:8])
    assert bool(result[30, 30, 8].isnan())
    assert not torch.equal(result[8:].nan_to_num(), values[8:].nan_to_num())


def test_no_value_falls_below_that_of_air(look: ScanLook) -> None:
    values = torch.where(anatomy() < -400, -1015.0, 40.0) + 4 * noise(0)
    result = look.apply(values)
    assert -1034 < float(values.min()) <= float(result.min())
    floor = min(-1024.0, float(values.min()))
    air = result[20:36, 14:36]
    assert float(air.min()) >= floor
    assert float(air.std()) < 13  # noise of 20 HU is limited to the room of 9 HU above the floor


def test_shapes_types_and_dictionaries(quiet: Tensor) -> None:
    style = anatomy() + 20 * noise(1)
    look = ScanLook(style, spacing=STEPS, modality="ct", keys=["image"])
    batch = torch.stack([quiet, quiet])[:, None]
    item: dict[str, Any] = {"image": batch, "label": torch.ones(3), "name": "a"}
    changed = look(item)
    assert changed["image"].shape == batch.shape
    assert changed["label"] is item["label"]
    assert torch.equal(item["image"][0, 0], quiet)
    assert not torch.equal(changed["image"][0], changed["image"][1])  # noise of their own
    array = look.apply(quiet.numpy())
    assert isinstance(array, np.ndarray)
    assert look.apply(quiet.to(torch.int16)).dtype == torch.float32
    with raises(UsageError, operation="ScanLook", got="Tensor"):
        look(quiet)


def test_torchs_seed_chooses_style_strength_and_noise(quiet: Tensor) -> None:
    styles = [anatomy() + deviation * noise(1) for deviation in (10, 40)]
    look = ScanLook(styles, spacing=STEPS, modality="ct", strength=(0.2, 1.0))

    def draw(seed: int) -> Tensor:
        torch.manual_seed(seed)
        result: Tensor = look(quiet)
        return result

    assert torch.equal(draw(3), draw(3))
    deviations = [float(soft(draw(seed)).std()) for seed in range(8)]
    assert min(deviations) < 11
    assert max(deviations) > 15
    never = ScanLook(styles, spacing=STEPS, modality="ct", probability=0.0)
    assert never(quiet) is quiet


def test_volumes_of_mr_take_the_noise_in_their_own_scale(quiet: Tensor) -> None:
    levels = torch.full(SHAPE, 100.0)
    levels[16:40, 10:40] = 300.0
    levels = gaussian(levels, (0.8, 0.8, 0.0))
    look = ScanLook(levels + 9 * noise(1), spacing=STEPS, modality="mr", strength=1.0)
    for scale in (1.0, 0.01):
        result = look.apply(scale * (levels + noise(0)))
        assert float(soft(result).std()) == pytest.approx(9 * scale, rel=0.1)


class Patches(torch.utils.data.Dataset[Tensor]):
    """The same patch again and again, with a look."""

    def __init__(self, look: ScanLook, patch: Tensor) -> None:
        self.look, self.patch = look, patch

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Tensor:
        result: Tensor = self.look(self.patch)
        return result


@pytest.mark.slow
def test_workers_of_a_loader_draw_other_noise(look: ScanLook, quiet: Tensor) -> None:
    loader = DataLoader(Patches(look, quiet), batch_size=1, num_workers=2)
    results = [batch[0] for batch in loader]
    for index, one in enumerate(results):
        assert all(not torch.equal(one, other) for other in results[:index])


def test_a_scan_look_can_be_pickled(look: ScanLook, quiet: Tensor) -> None:
    again = pickle.loads(pickle.dumps(look))
    torch.manual_seed(1)
    first = look(quiet)
    torch.manual_seed(1)
    assert torch.equal(first, again(quiet))


@pytest.mark.slow  # importing MONAI takes seconds
def test_a_pipeline_of_monai_keeps_its_affine(quiet: Tensor) -> None:
    transforms: Any = pytest.importorskip("monai.transforms")
    meta: Any = pytest.importorskip("monai.data.meta_tensor")
    affine = torch.diag(torch.tensor([-1.0, 1.0, 3.0, 1.0], dtype=torch.float64))
    image = meta.MetaTensor(quiet[None], affine=affine)
    style = meta.MetaTensor(anatomy()[None] + 20 * noise(1), affine=affine)
    look = ScanLook(style, modality="ct", keys=["image"], strength=1.0)
    pipeline = transforms.Compose([look, transforms.RandFlipd(["image"], prob=1.0, spatial_axis=1)])
    result = pipeline({"image": image})["image"]
    assert isinstance(result, meta.MetaTensor)
    assert tuple(result.shape) == (1, *SHAPE)
    assert float(soft(result[0].as_tensor()).std()) == pytest.approx(20, rel=0.1)
    # With the coarse axis first, the affine says so, and the noise is along the same axes.
    turned = meta.MetaTensor(
        image.as_tensor().permute(0, 3, 1, 2),
        affine=affine[:, [2, 0, 1, 3]],
    )
    torch.manual_seed(5)
    first = look.apply(image)
    torch.manual_seed(5)
    second = look.apply(turned)
    torch.testing.assert_close(
        second.as_tensor().permute(0, 2, 3, 1), first.as_tensor(), rtol=0, atol=1e-3
    )


def test_wrong_arguments_are_refused(quiet: Tensor, tmp_path: Any) -> None:
    look = ScanLook(quiet, spacing=STEPS)
    with raises(ShapeError, operation="ScanLook", expected="(C, I, J, K)"):
        look(torch.ones(4, 4))
    with raises(UsageError, operation="ScanLook", got="none", remedy="spacing=(1, 1, 1)"):
        ScanLook(quiet)
    convnd.write(tmp_path / "a.png", convnd.Grid(values=torch.rand(1, 3, 4, 5)))
    refused: list[tuple[dict[str, Any], str]] = [
        ({"strength": 2.0}, "strength from 0 to 1"),
        ({"probability": -1}, "probability from 0 to 1"),
        ({"modality": "pet"}, "ct, mr, other or auto"),
        ({"spacing": (1, 1)}, "three numbers above 0"),
    ]
    for options, line in refused:
        with pytest.raises(UsageError, match=line):
            ScanLook(quiet, **{"spacing": STEPS, **options})
    with raises(UsageError, operation="ScanLook", got="none"):
        ScanLook([], spacing=STEPS)
    with raises(InputFileError, operation="ScanLook", got="2"):
        ScanLook(tmp_path / "a.png", spacing=STEPS)
    with raises(InputFileError, operation="ScanLook", expected="a flat tissue of 400 voxels"):
        ScanLook(quiet[:8, :8, :4], spacing=STEPS, modality="ct")
    for value in (0.0, math.nan):
        with raises(InputFileError, operation="ScanLook", got="constant regions only"):
            ScanLook(torch.full((24, 24, 24), value), spacing=STEPS)
    with raises(InputFileError, operation="ScanLook", got="constant regions only"):
        ScanLook((anatomy() > 0).float(), spacing=STEPS, modality="mr")


def test_flipped_and_big_endian_arrays_are_volumes(look: ScanLook, quiet: Tensor) -> None:
    """A view and its copy give the same; a flip is the most common augmentation."""
    for view in (np.flip(quiet.numpy(), 0), quiet.numpy()[:, ::-1], quiet.numpy().astype(">f4")):
        results = []
        for data in (view, torch.tensor(np.array(view, np.float32, order="C"))):
            torch.manual_seed(0)
            results.append(torch.as_tensor(look.apply(data)))
        assert torch.equal(*results)
    style = np.flip(quiet.numpy(), 0)
    assert ScanLook(style, spacing=STEPS, modality="ct").apply(quiet, strength=0.0).equal(quiet)
