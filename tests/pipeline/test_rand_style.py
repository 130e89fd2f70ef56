"""`convnd.RandStyle`: styles arrive, pixels stay in place, and pipelines of training can use it."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from convnd_tasks import samples
from convnd_tasks.pipeline.rand_style import RandStyle
from error_fields import raises
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from convnd.errors import InputFileError, ShapeError, UnknownNameError, UsageError


@pytest.fixture(scope="module")
def picture() -> Tensor:
    return samples.content(spatial_dims=2, size=(72, 96)).values[0]


@pytest.fixture(scope="module")
def augment() -> RandStyle:
    return RandStyle(["ink", "marble"], strength=(0.2, 1.0))


def edges(picture: Tensor) -> Tensor:
    grey = picture.mean(0)
    steep = (grey[1:, 1:] - grey[:-1, 1:]).abs() + (grey[1:, 1:] - grey[1:, :-1]).abs()
    return steep - steep.mean()


@pytest.mark.parametrize("style", [0, 1])
def test_the_colours_of_the_style_arrive(augment: RandStyle, picture: Tensor, style: int) -> None:
    torch.manual_seed(0)
    result = augment.apply(picture, style)
    assert float(result.min()) > -1e-6
    assert float(result.max()) < 1 + 1e-6
    target = samples.style(["ink", "marble"][style], spatial_dims=2).values[0].mean((1, 2))
    before, after = ((values.mean((1, 2)) - target).norm() for values in (picture, result))
    assert after < 0.6 * before  # not 0: values beyond black and white are cut


@pytest.mark.parametrize("style", ["waves", "cells"])
def test_edges_stay_in_place(picture: Tensor, style: str) -> None:
    """Edges of picture and result agree best without a shift; strokes add others."""
    torch.manual_seed(0)
    old, new = edges(picture), edges(RandStyle(style).apply(picture))
    likeness = {
        shift: float((old * new.roll(shift, (0, 1))).mean())
        for shift in [(y, x) for y in range(-4, 5) for x in range(-4, 5)]
    }
    assert max(likeness, key=lambda shift: likeness[shift]) == (0, 0)


def test_strength_is_the_share_of_the_change(augment: RandStyle, picture: Tensor) -> None:
    results = []
    for strength in (0.0, 0.25, 1.0):
        torch.manual_seed(5)
        results.append(augment.apply(picture, strength=strength))
    torch.testing.assert_close(results[0], picture)
    torch.testing.assert_close(results[1], picture + (results[2] - picture) / 4)


def test_torchs_seed_chooses_style_strength_and_noise(augment: RandStyle, picture: Tensor) -> None:
    def draw(seed: int) -> Tensor:
        torch.manual_seed(seed)
        result: Tensor = augment(picture)
        return result

    before = picture.clone()
    assert torch.equal(draw(3), draw(3))
    results = [draw(seed) for seed in range(4)]
    for index, one in enumerate(results):
        assert all(not torch.allclose(one, other, atol=0.01) for other in results[:index])
    assert torch.equal(picture, before)
    never = RandStyle("ink", probability=0.0)
    assert never(picture) is picture


def test_shapes_and_types(augment: RandStyle, picture: Tensor) -> None:
    def draw(data: Any, style: RandStyle = augment) -> Any:
        torch.manual_seed(1)
        return style.apply(data)

    expected = draw(picture)
    codes = (picture * 255).round().to(torch.uint8)
    result = draw(codes)
    assert result.dtype == torch.uint8
    torch.testing.assert_close(result / 255, draw(codes / 255), atol=0.003, rtol=0)
    array = draw(picture.numpy())
    assert isinstance(array, np.ndarray)
    np.testing.assert_array_equal(array, expected.numpy())
    assert draw(picture.double()).dtype == torch.float64
    batch = draw(torch.stack([picture, picture]))
    torch.testing.assert_close(batch[0], expected)
    assert not torch.equal(batch[0], batch[1])  # noise of their own
    turned = draw(picture.mT[..., None])  # as TorchIO has pictures
    torch.testing.assert_close(turned[..., 0].mT, expected)
    grey = picture.mean(0)
    assert draw(grey).shape == grey.shape
    torch.testing.assert_close(draw(grey[None])[0], draw(grey))
    hundred = RandStyle(["ink"], value_range=(-100, 100))
    one = RandStyle(["ink"])
    torch.testing.assert_close(
        draw(200 * grey - 100, hundred), 200 * draw(grey, one) - 100, atol=1e-3, rtol=1e-4
    )


def test_styles_of_every_kind(picture: Tensor, tmp_path: Path) -> None:
    style = samples.style("marble", spatial_dims=2, size=(64, 64)).values[0]
    codes = (style * 255).round().to(torch.uint8)
    image = Image.fromarray(codes.movedim(0, -1).contiguous().numpy())
    image.save(tmp_path / "style.png")
    results = []
    for one in (codes, codes.numpy(), image, tmp_path / "style.png", codes / 255):
        torch.manual_seed(2)
        results.append(RandStyle(one).apply(picture))
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], atol=1e-4, rtol=0)
    assert RandStyle(style.mean(0)).apply(picture).shape == picture.shape


def test_dictionaries(picture: Tensor) -> None:
    augment = RandStyle("ink", keys=["image", "second"])
    item: dict[str, Any] = {"image": picture, "second": picture, "label": torch.ones(3)}
    changed = augment(item)
    assert changed["label"] is item["label"]
    assert item["image"] is picture
    assert not torch.equal(changed["image"], picture)
    with raises(UsageError, operation="RandStyle", got="Tensor"):
        augment(picture)


def test_it_can_be_pickled_without_what_it_computed(augment: RandStyle, picture: Tensor) -> None:
    augment.apply(picture)
    again = pickle.loads(pickle.dumps(augment))
    assert not again._targets
    torch.manual_seed(1)
    first = augment(picture)
    torch.manual_seed(1)
    assert torch.equal(first, again(picture))


def test_styles_at_few_sizes_stay_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convnd_tasks.pipeline.rand_style._MOST_TARGETS", 2)
    augment = RandStyle("ink")
    for size in (16, 17, 18):
        augment.apply(torch.rand(3, size, 16))
    assert list(augment._targets) == [(0, 17, 16), (0, 18, 16)]


def test_what_is_refused(augment: RandStyle, picture: Tensor) -> None:
    for shape in [(4, 32, 32), (32, 32, 3), (32,), (1, 3, 4, 32, 32), (3, 0, 32)]:
        with raises(ShapeError, operation="RandStyle", expected="of one or three channels"):
            augment.apply(torch.zeros(shape))
    with raises(ShapeError, operation="RandStyle", expected="at least 16 pixels"):
        augment.apply(picture[:, :8])
    with raises(UsageError, operation="RandStyle", expected="values from 0 to 1", got="0 to 255"):
        augment.apply(torch.linspace(0, 255, 768).view(3, 16, 16))
    with raises(UsageError, operation="RandStyle", got="nan"):
        augment.apply(torch.full((3, 32, 32), torch.nan))
    with raises(UsageError, expected="a style from 0 to 1", got="2"):
        augment.apply(picture, style=2)
    with pytest.raises(UsageError, match="strength from 0 to 1, got 3"):
        augment.apply(picture, strength=3)
    with raises(UsageError, expected="a tensor or an array", got="dict"):
        augment.apply({"image": picture})
    with raises(UsageError, expected="from 0 to 1", got="(0.5, 2)"):
        RandStyle("ink", strength=(0.5, 2))
    with raises(UsageError, expected="from black to white"):
        RandStyle("ink", value_range=(1, 0))
    with pytest.raises(UsageError, match="at least one style"):
        RandStyle([])
    with raises(UnknownNameError, remedy="marble"):
        RandStyle("marbel")
    with pytest.raises(InputFileError):
        RandStyle("missing.png")


class Pictures(Dataset[Tensor]):
    """The same picture again and again, with a style."""

    def __init__(self, augment: RandStyle, picture: Tensor) -> None:
        self.augment, self.picture = augment, picture

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Tensor:
        result: Tensor = self.augment(self.picture)
        return result


@pytest.mark.slow
def test_workers_of_a_loader_draw_other_styles(augment: RandStyle, picture: Tensor) -> None:
    loader = DataLoader(Pictures(augment, picture), batch_size=1, num_workers=2)
    results = [batch[0] for batch in loader]
    for index, one in enumerate(results):
        assert all(not torch.equal(one, other) for other in results[:index])


@pytest.mark.slow  # importing MONAI takes seconds
def test_a_pipeline_of_monai(picture: Tensor) -> None:
    transforms: Any = pytest.importorskip("monai.transforms")
    meta: Any = pytest.importorskip("monai.data.meta_tensor")
    augment = RandStyle(["ink", "marble"], keys=["image"])
    flip = transforms.RandFlipd(["image", "label"], prob=1.0, spatial_axis=1)
    item = {"image": meta.MetaTensor(picture), "label": torch.ones(1, 72, 96)}
    plain, result = flip(item)["image"], transforms.Compose([augment, flip])(item)["image"]
    assert isinstance(result, meta.MetaTensor)
    assert result.shape == picture.shape
    assert torch.equal(result.affine, plain.affine)
    assert not torch.allclose(result.as_tensor(), plain.as_tensor(), atol=0.05)


@pytest.mark.slow  # importing TorchIO takes seconds
def test_a_pipeline_of_torchio(picture: Tensor) -> None:
    tio: Any = pytest.importorskip("torchio")
    subject = tio.Subject(
        image=tio.ScalarImage(tensor=picture.mT[..., None]),
        label=tio.LabelMap(tensor=torch.ones(1, 96, 72, 1)),
    )
    transform = tio.Lambda(RandStyle("ink", strength=1.0), types_to_apply=[tio.INTENSITY])
    result = transform(subject)
    assert not torch.allclose(result.image.data, subject.image.data, atol=0.05)
    assert torch.equal(result.label.data, subject.label.data)
