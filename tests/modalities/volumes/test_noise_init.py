"""The initial values of a scan: the content plus the noise that its tissues lack."""

import numpy as np
import pytest
import torch
from convnd_tasks.modalities.volumes.features import FeatureExtractor, VolumeLossConfig
from convnd_tasks.modalities.volumes.noise_init import NoiseInitializer
from convnd_tasks.modalities.volumes.noise_texture import NoiseTexture
from convnd_tasks.modalities.volumes.slabs import square_pixel_views
from convnd_tasks.modalities.volumes.view_loss import ViewLoss
from scipy import ndimage

from convnd.backbones import VGG, VGG19, Precision

SOFT, LUNG = (0.4, 0.6), (0.1, 0.3)


def make_slices(rng, deviation, sigma=0.8, level=0.5, n=6, size=96):
    noise = rng.normal(size=(n, size, size))
    noise = ndimage.gaussian_filter(noise, (0, sigma, sigma), mode="wrap")
    values = level + deviation * noise / noise.std()
    return torch.from_numpy(values).float()[:, None]


def make_texture(slope_limits=(0.05,), tissues=(SOFT, LUNG)):
    return NoiseTexture(0.7, 2.8, tissues, slope_limits)


def band_power(values):
    """Power of whole slices in eight rings, by numpy alone."""
    power = (np.abs(np.fft.fft2(values - values.mean())) ** 2).mean(0)
    radius = np.hypot(*np.meshgrid(*[np.fft.fftfreq(n) for n in values.shape[1:]]))
    ring = np.digitize(radius, np.linspace(0.08, 0.5, 9))
    return np.array([power[ring == n].mean() for n in range(1, 9)])


def draw(content, styles, *, weights=None, texture=None, seed=0):
    texture = make_texture() if texture is None else texture
    fitted = NoiseInitializer.fit(texture, [content], styles, weights or [1.0] * len(styles))
    return fitted, fitted.sample(content, torch.Generator().manual_seed(seed))


def test_content_and_drawn_noise_have_the_spectrum_of_the_style(rng):
    style, content = make_slices(rng, 0.02), make_slices(rng, 0.01, sigma=1.6)
    _, noise = draw(content, [style])
    expected = band_power(style[:, 0].numpy())
    before = band_power(content[:, 0].numpy())
    after = band_power((content + noise)[:, 0].numpy())
    assert np.abs(before / expected - 1).max() > 0.7
    assert np.abs(after / expected - 1)[:5].max() < 0.25  # the outer rings have no power
    # Half of each of two styles.
    _, noise = draw(content, [style, 0.5 + 2 * (style - 0.5)])
    after = band_power((content + noise)[:, 0].numpy())
    assert np.abs(after / expected / 2.5 - 1)[:5].max() < 0.25


def test_each_tissue_gets_its_own_noise_and_other_places_get_none(rng):
    parts = [(0.2, 0.03), (0.5, 0.01), (0.9, 0.05)]
    style = torch.cat([make_slices(rng, noise, level=level) for level, noise in parts], 3)
    content = torch.cat([make_slices(rng, 0.001, level=level) for level, _ in parts], 3)
    _, noise = draw(content, [style])
    lung, soft, bone = (noise[..., start : start + 64] for start in (16, 112, 208))
    assert float(lung.std()) == pytest.approx(0.03, rel=0.15)
    assert float(soft.std()) == pytest.approx(0.01, rel=0.15)
    assert float(bone.abs().max()) < 1e-6


def test_noise_is_never_removed_and_needs_flat_regions(rng):
    fitted, noise = draw(make_slices(rng, 0.02), [make_slices(rng, 0.005)])
    assert fitted.kernels[1] is None  # there is none of this tissue
    assert not noise.any()
    steep = make_slices(rng, 0.02) + 0.1 * torch.sin(torch.arange(96) / 4)
    texture = make_texture(slope_limits=(0.01,))
    fitted, noise = draw(steep, [steep + 0.1 * torch.randn(steep.shape)], texture=texture)
    assert fitted.kernels == (None, None)
    assert not noise.any()
    small = make_slices(rng, 0.02, size=16)
    assert draw(small, [small])[0].kernels == (None, None)


def test_the_seed_decides_the_noise(rng):
    style, content = make_slices(rng, 0.02), make_slices(rng, 0.005)
    one, same, other = (draw(content, [style], seed=seed)[1] for seed in (3, 3, 4))
    assert torch.equal(one, same)
    assert abs(float(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1])) < 0.02


def test_flat_and_sloping_places_of_a_tissue_are_separate_classes():
    ramp = torch.full((1, 1, 40, 90), 0.42)
    ramp[..., 30:60] += torch.arange(30) * 0.001
    ramp[..., 60:] += 0.029 + torch.arange(30) * 0.004
    texture = NoiseTexture(1.0, 2.0, [LUNG, SOFT], [0.001, 0.004])
    labels = texture.label(texture.blur(ramp))
    assert labels is not None
    assert [int(labels[0, 0, 20, column]) for column in (10, 45, 80)] == [2, 3, 4]
    assert texture.n_classes == 4


def test_each_class_of_a_tissue_gets_the_noise_that_it_lacks(rng):
    """Flat places of the style have little noise, and those that slope have more."""
    slope = torch.cat([torch.zeros(48), torch.arange(96) * 0.001, torch.full((48,), 0.096)])
    quiet, loud = make_slices(rng, 0.004, size=192), make_slices(rng, 0.02, size=192)
    inside = slice(48, 144)
    style = quiet.clone()
    style[..., inside] = loud[..., inside]
    content = make_slices(rng, 0.0001, size=192, level=0.45) + slope
    texture = make_texture(slope_limits=(0.002, 0.05))
    _, noise = draw(content, [style - 0.05 + slope], texture=texture)
    assert float(noise[..., 10:38].std()) == pytest.approx(0.004, rel=0.15)
    assert float(noise[..., 70:120].std()) == pytest.approx(0.02, rel=0.15)


@pytest.mark.parametrize("normalization", ["balanced", "lecture"])
@pytest.mark.parametrize(("vessels", "expected"), [(False, {"0", "1"}), (True, {"0"})])
def test_sloping_places_are_style_where_noise_makes_them_alike(
    rng, vessels, expected, normalization
):
    slope = torch.cat([torch.zeros(96), torch.arange(96) * 0.002])
    style, content = (make_slices(rng, 0.01, level=0.4, n=4, size=192) + slope for _ in range(2))
    if vessels:
        content[..., 102::8] += 0.1
    net = VGG(VGG19.truncate(["relu1_1"]), spatial_dims=2, in_channels=1)
    (view,) = square_pixel_views((4, 192, 192), (5.0, 0.7, 0.7))
    config = VolumeLossConfig(
        style_layers=("relu1_1",),
        content_layers=None,
        style_weight=1.0,
        content_weight=1.0,
        detail_sigma_mm=2.8,
        tissues=((0.2, 0.8),),
        slope_limits=(0.003, 0.05),
        normalization=normalization,
    )
    extractor = FeatureExtractor(net, config, Precision(torch.float32))
    loss = ViewLoss(extractor, config, view, pictures=[style], weights=[1.0], content=[content])
    assert {name.partition("/")[2] for name in loss.style_losses} == {"0", "1"}
    loss.drop_structure_terms(loss.sums(content, content))
    assert {name.partition("/")[2] for name in loss.style_losses} == expected
