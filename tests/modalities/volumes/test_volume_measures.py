"""Measures against cases worked by hand, and against scikit-image where it has the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from convnd_tasks.modalities.volumes import noise_spectra
from convnd_tasks.modalities.volumes.metrics import measure_all
from convnd_tasks.modalities.volumes.noise import noise_spectrum, spectrum_distance
from skimage.feature import graycomatrix, graycoprops
from skimage.metrics import structural_similarity as reference_similarity

from convnd.errors import InputFileError
from convnd.grid import Grid


def test_white_noise_has_a_flat_spectrum_of_its_variance(rng):
    volume = 50 + 10 * rng.normal(size=(120, 120, 12))
    spectrum = noise_spectrum(volume, (0.5, 0.5, 5.0))
    # Variance is the integral of the power: white, it is power / pixel area.
    np.testing.assert_allclose(spectrum.power[3:], 100 * 0.25, rtol=0.15)
    assert spectrum_distance(spectrum, spectrum) == 0
    other = noise_spectrum(50 + 20 * rng.normal(size=(120, 120, 12)), (0.5, 0.5, 5.0))
    assert spectrum_distance(spectrum, other) == pytest.approx(0.75, abs=0.05)
    with pytest.raises(InputFileError, match="flat regions of lung tissue, got 0"):
        noise_spectrum(volume, (0.5, 0.5, 5.0), tissue="lung")


def test_similarity_is_scikit_images(rng):
    one, two = rng.normal(size=(2, 24, 25, 26))
    expected = reference_similarity(
        one, two, data_range=4.0, gaussian_weights=True, use_sample_covariance=False, full=True
    )[1]
    assert noise_spectra.structural_similarity(one, two, 4.0) == pytest.approx(
        expected.mean(), abs=1e-6
    )


def test_texture_is_scikit_images(rng):
    picture = rng.integers(0, 8, (20, 21))
    features = noise_spectra.texture(picture[..., None] * 25.0 + 1)
    tables = graycomatrix(picture, [1], [0, np.pi / 2], levels=8, symmetric=True, normed=True)
    for name in ("contrast", "dissimilarity", "correlation"):
        assert features[name] == pytest.approx(graycoprops(tables, name).mean(), rel=1e-6)
    assert features["energy"] == pytest.approx(graycoprops(tables, "ASM").mean(), rel=1e-6)


def test_first_order_by_hand():
    features = noise_spectra.first_order(np.array([0.0, 0.0, 50.0, 50.0]))
    assert (
        features["mean"],
        features["deviation"],
        features["skewness"],
        features["kurtosis"],
    ) == (
        25,
        25,
        0,
        1,
    )
    assert (features["entropy"], features["uniformity"]) == (1, 0.5)


def test_concordance_by_hand():
    assert noise_spectra.concordance([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert noise_spectra.concordance([0, 0], [0, 0]) == 1


def test_edges_and_anatomy_in_their_units():
    x = np.arange(60) * 0.5
    ramp = np.broadcast_to((x * 8.0)[:, None, None], (60, 40, 5))
    assert noise_spectra.edge_sharpness(ramp, (0.5, 0.5, 5.0)) == pytest.approx(8.0, rel=5e-3)
    assert noise_spectra.anatomy_error(ramp + 7, ramp, (0.5, 0.5, 5.0)) == pytest.approx(7)


def test_lungs_are_found_and_what_is_dark_in_them():
    body = np.full((60, 60, 20), 40.0, np.float32)
    body[:4] = -1000  # outside
    body[15:45, 15:45, 3:17] = -850
    body[20:30, 20:30, 5:15] = -970
    mask = noise_spectra.lung_mask(body, (2.0, 2.0, 3.0))
    assert mask is not None
    assert mask[30, 30, 10]
    assert not mask[1, 30, 10]
    assert noise_spectra.lung_mask(np.zeros((20, 20, 20)), (1, 1, 1)) is None
    rng = np.random.default_rng(0)
    grid = Grid(
        values=torch.from_numpy(body + rng.normal(size=body.shape).astype(np.float32))[None, None],
        spacing=(2.0, 2.0, 3.0),
        units=("mm",) * 3,
    )
    louder = grid.with_values(grid.values + 5)
    measures = {measure.name: measure for measure in measure_all(grid, louder, [grid])}
    assert measures["bias"].value == pytest.approx(5, abs=1e-3)
    assert measures["rmse"].value == pytest.approx(5, abs=1e-3)
    truth = 1000 / (30 * 30 * 14)  # of the box; the mask is a voxel smaller at its rim
    assert measures["laa950"].before == pytest.approx(100 * truth, rel=0.25)
    assert measures["first_order_ccc"].before == pytest.approx(1)
    assert measures["texture_ccc"].before == pytest.approx(1)
    with pytest.raises(InputFileError, match="two volumes of one shape"):
        measure_all(grid, Grid(values=torch.ones(1, 1, 3, 3, 3)), [])
