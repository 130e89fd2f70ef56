"""Measures against cases worked by hand, and against scikit-image where it has the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from convnd_tasks.modalities.volumes import metrics as volumes
from convnd_tasks.modalities.volumes import noise_spectra as ours
from convnd_tasks.modalities.volumes.noise import band_matched, noise_spectrum, spectrum_distance
from skimage.feature import graycomatrix, graycoprops
from skimage.metrics import structural_similarity as theirs

from convnd.errors import InputFileError
from convnd.grid import Grid


def test_white_noise_has_a_flat_spectrum_of_its_variance(rng):
    volume = 50 + 10 * rng.normal(size=(120, 120, 12))
    found = noise_spectrum(volume, (0.5, 0.5, 5.0))
    # Variance is the integral of the power: white, it is power / pixel area.
    np.testing.assert_allclose(found.power[3:], 100 * 0.25, rtol=0.15)
    assert spectrum_distance(found, found) == 0
    other = noise_spectrum(50 + 20 * rng.normal(size=(120, 120, 12)), (0.5, 0.5, 5.0))
    assert spectrum_distance(found, other) == pytest.approx(0.75, abs=0.05)
    with pytest.raises(InputFileError, match="flat regions of lung tissue, got 0"):
        noise_spectrum(volume, (0.5, 0.5, 5.0), tissue="lung")


def test_bands_of_the_reference(rng):
    quiet, loud = rng.normal(size=(2, 64, 64, 6)) * np.array([3.0, 12.0])[:, None, None, None]
    matched = band_matched(quiet, loud, (1, 1, 5))
    assert matched.std() == pytest.approx(loud.std(), rel=0.05)


def test_similarity_is_scikit_images(rng):
    one, two = rng.normal(size=(2, 24, 25, 26))
    expected = theirs(
        one, two, data_range=4.0, gaussian_weights=True, use_sample_covariance=False, full=True
    )[1]
    assert ours.structural_similarity(one, two, 4.0) == pytest.approx(expected.mean(), abs=1e-6)


def test_texture_is_scikit_images(rng):
    picture = rng.integers(0, 8, (20, 21))
    found = ours.texture(picture[..., None] * 25.0 + 1)
    tables = graycomatrix(picture, [1], [0, np.pi / 2], levels=8, symmetric=True, normed=True)
    for name in ("contrast", "dissimilarity", "correlation"):
        assert found[name] == pytest.approx(graycoprops(tables, name).mean(), rel=1e-6)
    assert found["energy"] == pytest.approx(graycoprops(tables, "ASM").mean(), rel=1e-6)


def test_first_order_by_hand():
    found = ours.first_order(np.array([0.0, 0.0, 50.0, 50.0]))
    assert (found["mean"], found["deviation"], found["skewness"], found["kurtosis"]) == (
        25,
        25,
        0,
        1,
    )
    assert (found["entropy"], found["uniformity"]) == (1, 0.5)


def test_concordance_by_hand():
    assert ours.concordance([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert ours.concordance([0, 0], [0, 0]) == 1


def test_edges_and_anatomy_in_their_units():
    x = np.arange(60) * 0.5
    ramp = np.broadcast_to((x * 8.0)[:, None, None], (60, 40, 5))
    assert ours.edge_sharpness(ramp, (0.5, 0.5, 5.0)) == pytest.approx(8.0, rel=5e-3)
    assert ours.anatomy_error(ramp + 7, ramp, (0.5, 0.5, 5.0)) == pytest.approx(7)


def test_lungs_are_found_and_what_is_dark_in_them():
    body = np.full((60, 60, 20), 40.0, np.float32)
    body[:4] = -1000  # outside
    body[15:45, 15:45, 3:17] = -850
    body[20:30, 20:30, 5:15] = -970
    mask = ours.lung_mask(body, (2.0, 2.0, 3.0))
    assert mask is not None
    assert mask[30, 30, 10]
    assert not mask[1, 30, 10]
    assert ours.lung_mask(np.zeros((20, 20, 20)), (1, 1, 1)) is None
    rng = np.random.default_rng(0)
    grid = Grid(
        values=torch.from_numpy(body + rng.normal(size=body.shape).astype(np.float32))[None, None],
        spacing=(2.0, 2.0, 3.0),
        units=("mm",) * 3,
    )
    louder = grid.with_values(grid.values + 5)
    found = {each.name: each for each in volumes.measure_all(grid, louder, [grid])}
    assert found["bias"].value == pytest.approx(5, abs=1e-3)
    assert found["rmse"].value == pytest.approx(5, abs=1e-3)
    truth = 1000 / (30 * 30 * 14)  # of the box; the mask is a voxel smaller at its rim
    assert found["laa950"].before == pytest.approx(100 * truth, rel=0.25)
    assert found["first_order_ccc"].before == pytest.approx(1)
    assert found["texture_ccc"].before == pytest.approx(1)
    with pytest.raises(InputFileError, match="two volumes of one shape"):
        volumes.measure_all(grid, Grid(values=torch.ones(1, 1, 3, 3, 3)), [])
