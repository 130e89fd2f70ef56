"""Where the walk of a scan begins: with the noise that its tissues lack."""

import numpy as np
import pytest
import torch
from convnd_tasks.modalities.volumes.beginning import LackingNoise
from convnd_tasks.modalities.volumes.grain import Grain, square_pixels
from convnd_tasks.modalities.volumes.sight import Eye, Look, Sight
from scipy import ndimage

from convnd.backbones import VGG, VGG19, Precision

SOFT, LUNG = (0.4, 0.6), (0.1, 0.3)


def slices(rng, deviation, sigma=0.8, level=0.5, n=6, size=96):
    noise = rng.normal(size=(n, size, size))
    noise = ndimage.gaussian_filter(noise, (0, sigma, sigma), mode="wrap")
    values = level + deviation * noise / noise.std()
    return torch.from_numpy(values).float()[:, None]


def grain(flat=(0.05,), tissues=(SOFT, LUNG)):
    return Grain(0.7, 2.8, tissues, flat)


def bands(values):
    """Power of whole slices in eight rings, by numpy alone."""
    power = (np.abs(np.fft.fft2(values - values.mean())) ** 2).mean(0)
    radius = np.hypot(*np.meshgrid(*[np.fft.fftfreq(n) for n in values.shape[1:]]))
    ring = np.digitize(radius, np.linspace(0.08, 0.5, 9))
    return np.array([power[ring == n].mean() for n in range(1, 9)])


def drawn(content, styles, *, weights=None, by=None, seed=0):
    by = grain() if by is None else by
    lacking = LackingNoise.between(by, [content], styles, weights or [1.0] * len(styles))
    return lacking, lacking.drawn(content, torch.Generator().manual_seed(seed))


def test_content_and_drawn_noise_have_the_spectrum_of_the_style(rng):
    style, content = slices(rng, 0.02), slices(rng, 0.01, sigma=1.6)
    _, noise = drawn(content, [style])
    wanted = bands(style[:, 0].numpy())
    before = bands(content[:, 0].numpy())
    after = bands((content + noise)[:, 0].numpy())
    assert np.abs(before / wanted - 1).max() > 0.7
    assert np.abs(after / wanted - 1)[:5].max() < 0.25  # in the rings behind there is nothing
    # Half of each of two styles.
    _, noise = drawn(content, [style, 0.5 + 2 * (style - 0.5)])
    after = bands((content + noise)[:, 0].numpy())
    assert np.abs(after / wanted / 2.5 - 1)[:5].max() < 0.25


def test_each_tissue_gets_its_own_noise_and_what_is_none_gets_none(rng):
    parts = [(0.2, 0.03), (0.5, 0.01), (0.9, 0.05)]
    style = torch.cat([slices(rng, noise, level=level) for level, noise in parts], 3)
    content = torch.cat([slices(rng, 0.001, level=level) for level, _ in parts], 3)
    _, noise = drawn(content, [style])
    lung, soft, bone = (noise[..., each : each + 64] for each in (16, 112, 208))
    assert float(lung.std()) == pytest.approx(0.03, rel=0.15)
    assert float(soft.std()) == pytest.approx(0.01, rel=0.15)
    assert float(bone.abs().max()) < 1e-6


def test_noise_is_never_taken_away_and_needs_flat_regions(rng):
    lacking, noise = drawn(slices(rng, 0.02), [slices(rng, 0.005)])
    assert lacking.kernels[1] is None  # of which tissue there is nothing
    assert not noise.any()
    steep = slices(rng, 0.02) + 0.1 * torch.sin(torch.arange(96) / 4)
    lacking, noise = drawn(steep, [steep + 0.1 * torch.randn(steep.shape)], by=grain(flat=(0.01,)))
    assert lacking.kernels == (None, None)
    assert not noise.any()
    small = slices(rng, 0.02, size=16)
    assert drawn(small, [small])[0].kernels == (None, None)


def test_the_noise_is_that_of_the_seed(rng):
    style, content = slices(rng, 0.02), slices(rng, 0.005)
    one, same, other = (drawn(content, [style], seed=seed)[1] for seed in (3, 3, 4))
    assert torch.equal(one, same)
    assert abs(float(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1])) < 0.02


def test_flat_and_sloping_places_of_a_tissue_are_classes_of_it():
    ramp = torch.full((1, 1, 40, 90), 0.42)
    ramp[..., 30:60] += torch.arange(30) * 0.001
    ramp[..., 60:] += 0.029 + torch.arange(30) * 0.004
    by = Grain(1.0, 2.0, [LUNG, SOFT], [0.001, 0.004])
    found = by.tissues(by.blurred(ramp))
    assert found is not None
    assert [int(found[0, 0, 20, each]) for each in (10, 45, 80)] == [2, 3, 4]
    assert by.many == 4


def test_a_class_of_a_tissue_has_the_noise_that_it_lacks(rng):
    """Flat places of the style are quiet, and those that slope are not."""
    slope = torch.cat([torch.zeros(48), torch.arange(96) * 0.001, torch.full((48,), 0.096)])
    quiet, loud = slices(rng, 0.004, size=192), slices(rng, 0.02, size=192)
    inside = slice(48, 144)
    style = quiet.clone()
    style[..., inside] = loud[..., inside]
    content = slices(rng, 0.0001, size=192, level=0.45) + slope
    _, noise = drawn(content, [style - 0.05 + slope], by=grain(flat=(0.002, 0.05)))
    assert float(noise[..., 10:38].std()) == pytest.approx(0.004, rel=0.15)
    assert float(noise[..., 70:120].std()) == pytest.approx(0.02, rel=0.15)


@pytest.mark.parametrize(("vessels", "kept"), [(False, {"0", "1"}), (True, {"0"})])
def test_sloping_places_are_style_where_noise_makes_them_alike(rng, vessels, kept):
    slope = torch.cat([torch.zeros(96), torch.arange(96) * 0.002])
    style, content = (slices(rng, 0.01, level=0.4, n=4, size=192) + slope for _ in range(2))
    if vessels:
        content[..., 102::8] += 0.1
    net = VGG(VGG19.truncate(["relu1_1"]), spatial_dims=2, in_channels=1)
    (view,) = square_pixels((4, 192, 192), (5.0, 0.7, 0.7))
    look = Look(
        style_layers=("relu1_1",),
        content_layer=None,
        style_weight=1.0,
        content_weight=1.0,
        fine=2.8,
        tissues=((0.2, 0.8),),
        flat=(0.003, 0.05),
    )
    eye = Eye(net, look, Precision(torch.float32))
    sight = Sight(eye, look, view, pictures=[style], weights=[1.0], content=[content])
    assert {name.partition("/")[2] for name in sight.styles} == {"0", "1"}
    sight.leave_out_structure(sight.sums(content, content))
    assert {name.partition("/")[2] for name in sight.styles} == kept
