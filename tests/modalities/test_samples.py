"""The built-in contents and styles, every one of the tables at every rank it has."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from convnd_tasks import samples
from convnd_tasks.samples import brush, fields, head, phantom, signals, video
from error_fields import raises

from convnd.errors import ShapeError, UnknownNameError, UsageError
from convnd.grid import Grid

# Odd, unequal extents, small enough to loop over the tables at every rank.
SIZES = {1: (301,), 2: (37, 50), 3: (9, 17, 22), 4: (5, 6, 7, 8), 5: (3, 4, 5, 4, 3)}
MAKERS = {"content": samples.content, "style": samples.style}
NAMES = {"content": samples.contents, "style": samples.styles}
CASES = [
    pytest.param(kind, rank, name, id=f"{kind}-{rank}d-{name}")
    for kind, rank in itertools.product(MAKERS, SIZES)
    for name in NAMES[kind](rank)
]
EINTHOVEN = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
HOUNSFIELD = {"chest", "sharp", "soft", "lowdose"}
MILLIVOLT = {"ecg", "arrhythmia", "ambulatory"}


def make(kind: Any, rank: int, name: str, **options: Any) -> Any:
    return MAKERS[kind](name, spatial_dims=rank, **{"size": SIZES[rank], **options})


@functools.cache
def made_once(kind: Any, rank: int, name: str) -> Any:
    return make(kind, rank, name, seed=3)


@pytest.mark.parametrize(("kind", "rank", "name"), CASES)
def test_every_sample_is_a_grid_that_size_and_seed_decide(kind: Any, rank: Any, name: str) -> None:
    grid = made_once(kind, rank, name)
    values = grid.values
    assert values.shape[0] == 1
    assert grid.shape == SIZES[rank]
    assert values.dtype == torch.float32
    assert values.is_contiguous()
    assert torch.isfinite(values).all()
    assert float(values.std()) > 0
    low, high = float(values.min()), float(values.max())
    if name in HOUNSFIELD:
        assert -1024 <= low < -800
        assert 100 < high <= 3071
    elif name in head.STYLES:
        assert 0 <= low < 20
        assert 150 < high < 300
    elif name in MILLIVOLT:
        assert -6 < low < 0 < high < 6
    else:
        assert 0 <= low < high <= 1
    if values.shape[1] == 3 and rank >= 2:
        assert grid.channels == ("R", "G", "B")
    again, other = (make(kind, rank, name, seed=seed).values for seed in (3, 4))
    assert values.numpy().tobytes() == again.numpy().tobytes()
    assert not torch.equal(values, other)


def _legacy_state() -> np.ndarray:
    state: Any = np.random.get_state()  # noqa: NPY002
    words: np.ndarray = state[1].copy()
    return words


def test_no_global_random_state_is_touched() -> None:
    torch.manual_seed(0)
    state, legacy = torch.random.get_rng_state(), _legacy_state()
    for kind in MAKERS:
        make(kind, 2, NAMES[kind](2)[0])
    assert torch.equal(torch.random.get_rng_state(), state)
    assert (_legacy_state() == legacy).all()


def test_the_first_name_is_the_default() -> None:
    waves = samples.style("waves", spatial_dims=2, size=24)
    assert torch.equal(samples.style(spatial_dims=2, size=24).values, waves.values)
    assert samples.contents(1)[0] == "ecg"
    assert samples.contents(2)[:2] == ["town", "landscape"]
    assert samples.contents(3)[:2] == ["chest", "video"]
    assert samples.contents(7) == ["bodies"]


def test_there_are_at_least_five_styles_at_every_rank() -> None:
    for rank in range(1, 7):
        assert set(samples.styles(rank)) >= {"waves", "cells", "weave", "marble", "dots", "ink"}


@pytest.mark.parametrize("name", ["town", "landscape"])
def test_a_picture_shows_the_same_scene_at_every_size(name: str) -> None:
    small = samples.content(name, spatial_dims=2, size=(64, 96)).values
    large = samples.content(name, spatial_dims=2, size=(192, 288)).values
    shrunk = torch.nn.functional.avg_pool2d(large, 3)
    together = torch.stack([small.flatten(), shrunk.flatten()])
    assert float(torch.corrcoef(together)[0, 1]) > 0.9


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (30, 1), (3, 60), (60, 3)])
@pytest.mark.parametrize("kind", MAKERS)
def test_extreme_shapes_are_made(kind: Any, size: tuple[int, ...]) -> None:
    for name in NAMES[kind](2):
        grid = make(kind, 2, name, size=size)
        assert grid.shape == size
        assert torch.isfinite(grid.values).all()


# Signals


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("seed", [0, 1])
def test_limb_leads_obey_einthoven_and_goldberger_exactly(kind: Any, seed: int) -> None:
    names = {"content": ["ecg"], "style": ["arrhythmia", "ambulatory"]}[kind]
    for name in names:
        grid = make(kind, 1, name, size=2000, seed=seed)
        assert grid.channels == EINTHOVEN
        lead = dict(zip(grid.channels, grid.values[0].double(), strict=True))
        assert torch.equal(lead["III"], lead["II"] - lead["I"])
        assert torch.equal(lead["aVR"], -(lead["I"] + lead["II"]) / 2)
        assert torch.equal(lead["aVL"], (lead["I"] - lead["III"]) / 2)
        assert torch.equal(lead["aVF"], (lead["II"] + lead["III"]) / 2)


def test_the_ecg_is_ten_seconds_at_500_hz_with_a_resting_heart() -> None:
    grid = samples.content("ecg", spatial_dims=1)
    assert (grid.shape, grid.spacing, grid.units, grid.axes) == ((5000,), (0.002,), ("s",), ("t",))
    second = grid.values[0, 1].numpy()
    above = second > 0.6 * second.max()
    starts = np.flatnonzero(above[1:] & ~above[:-1])
    intervals = np.diff(starts) * 0.002
    assert 9 <= len(starts) <= 15
    assert 0.005 < intervals.std() / intervals.mean() < 0.12  # some variability, no arrhythmia


def test_the_arrhythmia_is_irregular_and_wide() -> None:
    def halfway_widths(grid: Grid) -> Any:
        lead = grid.values[0, 6].numpy()  # V1, whose S wave is the deepest
        below = lead < 0.5 * lead.min()
        edges = np.flatnonzero(np.diff(below.astype(int)))
        first = edges[0 if below[edges[0] + 1] else 1 :]
        return np.diff(first)[::2]

    normal = halfway_widths(samples.content("ecg", spatial_dims=1))
    wide = halfway_widths(samples.style("arrhythmia", spatial_dims=1))
    assert np.median(wide) > 1.5 * np.median(normal)


def test_signals_other_than_ecgs_know_their_rate() -> None:
    breath = samples.content("respiration", spatial_dims=1, size=200)
    assert breath.spacing == (0.04,)
    chirp = samples.content("chirp", spatial_dims=1, size=4000)
    spectra = [
        np.abs(np.fft.rfft(part - part.mean()))
        for part in chirp.values[0, 0].reshape(4, -1).numpy()
    ]
    peaks = [int(s.argmax()) for s in spectra]
    assert peaks == sorted(peaks)
    assert peaks[-1] > 3 * peaks[0]


# Volumes


def hu_at(grid: Grid, point: Any) -> Any:
    index = [
        int((p + c) / s) for p, c, s in zip(point, (190.0, 200.0, 0.0), grid.spacing, strict=True)
    ]
    return float(grid.values[0, 0][tuple(index)])


def test_the_phantom_has_the_densities_of_a_chest() -> None:
    grid = samples.content("chest", spatial_dims=3, size=(64, 64, 40))
    assert grid.spacing == pytest.approx((380 / 64, 380 / 64, 7.0))
    assert (grid.units, grid.axes) == (("mm",) * 3, ("x", "y", "z"))
    assert hu_at(grid, (0, 170, 100)) == pytest.approx(-1000, abs=50)  # air in front
    for side in (1, -1):
        assert hu_at(grid, (85 * side, -20, 150)) < -600  # lungs
    assert hu_at(grid, (-30, 22, 105)) == pytest.approx(45, abs=60)  # heart, to the left
    assert hu_at(grid, (62, 22, 105)) < -500  # lung to the right of it
    assert hu_at(grid, (60, 10, 30)) == pytest.approx(55, abs=60)  # liver on the right
    assert hu_at(grid, (0, -66, 137)) > 120  # vertebra at the back
    assert float(grid.values.max()) > 350
    air = (grid.values < -700).float()
    assert 0.03 < float(air[..., 12 : 64 - 12, 12 : 64 - 16, 14:].mean()) < 0.7


def test_kernels_differ_in_the_spectrum_of_their_noise() -> None:
    def noise(name: str) -> Any:
        scan = samples.style(name, spatial_dims=3, size=(256, 256, 3), seed=2)
        part = scan.values[0, 0, 150:186, 124:160, 0].numpy()  # within the liver
        return part.std(), np.diff(part, axis=0).std() / part.std()

    (sharp, sharp_rough), (soft, soft_rough) = noise("sharp"), noise("soft")
    assert sharp > 4 * soft
    assert sharp_rough > 2 * soft_rough


@pytest.mark.parametrize("seed", [0, 5])
def test_the_flow_of_the_film_is_exact(seed: int) -> None:
    frames, flow = video.render_video((5, 48, 64), seed)
    t, y, x = np.meshgrid(np.arange(4), np.arange(48), np.arange(64), indexing="ij")
    to_y, to_x = y + flow[:, 0], x + flow[:, 1]
    inside = (to_x >= 0) & (to_x < 64) & (to_y >= 0) & (to_y < 48)
    moved = frames[:, t + 1, to_y.clip(0, 47), to_x.clip(0, 63)]
    error = np.abs(moved - frames[:, :4]).max(axis=0)[inside]
    assert np.mean(error < 1e-5) > 0.85  # the rest is covered, or a soft edge between layers
    assert len(np.unique(flow[:, 1])) == 3  # pan, clouds and boat
    still = np.abs(frames[:, 1:] - frames[:, :4]).max(axis=0)[inside]
    assert np.mean(error) < 0.2 * np.mean(still)


def test_the_clip_is_timed_in_seconds() -> None:
    grid = samples.content("video", spatial_dims=3, size=(3, 20, 30))
    assert (grid.axes, grid.units) == (("t", "y", "x"), ("s", "px", "px"))
    assert grid.spacing == (0.04, 1.0, 1.0)


@pytest.mark.parametrize(
    ("rank", "axes", "units", "spacing"),
    [
        (1, ("t",), ("s",), 0.002),
        (2, ("y", "x"), ("px", "px"), 1.0),
        (3, ("x", "y", "z"), ("mm", "mm", "mm"), 1.0),
        (4, ("x0", "x1", "x2", "x3"), ("px",) * 4, 1.0),
    ],
)
def test_fields_have_the_axes_of_their_rank(
    rank: int, axes: tuple[str, ...], units: Any, spacing: float
) -> None:
    grid = samples.style("marble", spatial_dims=rank, size=4)
    assert (grid.axes, grid.units, grid.spacing) == (axes, units, (spacing,) * rank)


# The fields behind the samples


@pytest.mark.parametrize("rank", [1, 2, 3, 4])
def test_noise_has_zero_mean_and_unit_variance_at_every_rank(rank: int) -> None:
    shape = (4000,) if rank == 1 else (round(20000 ** (1 / rank)),) * rank
    lattice = fields.Lattice(shape, seed=1)
    for name in ("a", "b"):
        for ridged in (False, True):
            field = lattice.fbm(name, {4: 2}.get(rank, 4) * lattice.step, 2, ridged=ridged)
            assert abs(float(field.mean())) < 0.25
            assert float(field.std()) == pytest.approx(1.0, abs=0.25)


def test_noise_is_the_same_field_at_every_size() -> None:
    small = fields.Lattice((32, 48), 7).noise("n", 0.25)
    large = fields.Lattice((96, 144), 7).noise("n", 0.25)
    np.testing.assert_allclose(large[1::3, 1::3], small, atol=1e-4)


@pytest.mark.parametrize("rank", [2, 3, 4])
def test_the_flow_has_no_sources(rank: int) -> None:
    lattice = fields.Lattice((9, 10, 11, 12)[:rank], seed=0)
    pairs = rank * (rank - 1) // 2
    potentials = [lattice.noise(f"p{k}", 0.4) for k in range(pairs)]
    v = fields.curl_flow(lattice, potentials, drift=0.5)
    divergence = sum(np.gradient(v[a], lattice.step, axis=a) for a in range(rank))
    assert np.abs(v).mean() > 0.1
    assert np.abs(divergence).max() < 1e-4 * np.abs(v).max() / lattice.step


@pytest.mark.parametrize("rank", [1, 2, 3, 5])
def test_the_frame_of_a_stroke_is_orthonormal(rank: int) -> None:
    heading = np.random.default_rng(0).standard_normal((50, rank)).astype(np.float32)
    heading /= np.linalg.norm(heading, axis=1, keepdims=True)
    frame = np.concatenate([brush._frame(heading), heading[:, None]], axis=1)
    eye = np.broadcast_to(np.eye(rank), (50, rank, rank))
    np.testing.assert_allclose(frame @ frame.transpose(0, 2, 1), eye, atol=1e-5)


def test_cells_agree_with_brute_force() -> None:
    from convnd_tasks.samples.patterns import _voronoi

    lattice = fields.Lattice((12, 14), seed=3)
    spacing = 0.2
    distance, wall, _ = _voronoi(lattice, spacing, "sites")
    rng = lattice.rng("sites")
    counts = [int(np.ceil(length / spacing)) + 3 for length in lattice.extent]
    jitter = rng.random((2, *counts), dtype=np.float32)
    sites = [
        ((i - 1 + jitter[0, i, j]) * spacing, (j - 1 + jitter[1, i, j]) * spacing)
        for i in range(counts[0])
        for j in range(counts[1])
    ]
    for i, j in itertools.product(range(12), range(14)):
        position = np.array([(i + 0.5) / 12, (j + 0.5) / 12])
        d = sorted((float(np.hypot(*(position - s))), s) for s in sites)
        assert distance[i, j] == pytest.approx(d[0][0], abs=1e-5)
        (d1, a), (d2, b) = d[0], d[1]
        half = (d2**2 - d1**2) / (2 * float(np.hypot(a[0] - b[0], a[1] - b[1])))
        assert wall[i, j] == pytest.approx(half, abs=1e-4)


# What goes wrong


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with raises(UnknownNameError, operation="style", got="'marbel'", remedy="'marble'"):
        samples.style("marbel", spatial_dims=2)
    with raises(UnknownNameError, operation="content", got="'toun'", remedy="'town'"):
        samples.content("toun", spatial_dims=2)


def test_a_sample_of_another_rank_is_refused() -> None:
    with raises(UsageError, operation="content", got="'ecg'") as caught:
        samples.content("ecg", spatial_dims=2)
    assert type(caught.value) is UsageError


@pytest.mark.parametrize("size", [(8,), (8, 8, 8), (8, 0), -1, ()])
def test_a_size_of_another_rank_is_refused(size: Any) -> None:
    with raises(ShapeError, operation="style", expected="2 positive"):
        samples.style("marble", spatial_dims=2, size=size)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: samples.style(spatial_dims=0),
            {"operation": "style", "expected": "1 or more", "got": "0"},
        ),
        (
            lambda: samples.content(spatial_dims=2, seed=-1),
            {"operation": "content", "expected": "0 or more", "got": "-1"},
        ),
    ],
)
def test_numbers_out_of_range_are_refused(call: Any, words: dict[str, str]) -> None:
    with raises(UsageError, **words) as caught:
        call()
    assert type(caught.value) is UsageError


def test_rates_are_documented_constants() -> None:
    assert signals.RATE == 500
    assert video.FRAME_RATE == 25
    assert phantom.FIELD_OF_VIEW == (380.0, 380.0, 280.0)


def test_a_sample_that_is_changed_is_made_as_before() -> None:
    """Samples of the default size are kept, and everyone gets values of their own."""
    samples._make_default.cache_clear()
    first = samples._make(samples.STYLES, "weave", 2, None, 0)
    before = first.values.clone()
    first.values.zero_()
    again = samples._make(samples.STYLES, "weave", 2, None, 0)
    assert torch.equal(again.values, before)
    assert (samples._make_default.cache_info().hits, again.spacing) == (1, first.spacing)
    other = samples._make(samples.STYLES, "weave", 2, None, 1)
    assert not torch.equal(other.values, before)
