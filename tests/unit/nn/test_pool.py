"""Pooling against NumPy's sliding windows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from error_fields import raises
from numpy.lib.stride_tricks import sliding_window_view

from convnd.errors import ShapeError
from convnd.nn import AvgPoolNd, MaxPoolNd, avg_pool_nd, max_pool_nd
from convnd.shapes import Layer, output_size

RANKS = (1, 2, 3, 4, 5)
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {"kernel": (2, 2, 2, 2, 2), "stride": (2, 2, 2, 2, 2)},
    "mixed": {"kernel": (3, 2, 1, 3, 2), "stride": (1, 2, 1, 2, 1)},
    "padded": {
        "kernel": (3, 2, 2, 3, 2),
        "stride": (2, 1, 1, 2, 1),
        "padding": ((1, 1), (1, 1), (0, 0), (1, 1), (1, 1)),
    },
    "sides": {
        "kernel": (3, 2, 2, 3, 2),
        "stride": (2, 1, 2, 2, 1),
        "padding": ((2, 1), (0, 1), (1, 0), (2, 2), (0, 0)),
    },
}


def settings(name: str, ndim: int) -> dict[str, Any]:
    chosen = {"padding": ((0, 0),) * 5, **SETTINGS[name]}
    return {key: value[:ndim] for key, value in chosen.items()}


def windows(x: np.ndarray, fill: float, dilation: int = 1, **setting: Any) -> np.ndarray:
    """``(B, C, *S', windows)`` flattened over each window."""
    ndim = x.ndim - 2
    x = np.pad(x, ((0, 0), (0, 0), *setting["padding"]), constant_values=fill)
    reach = tuple((k - 1) * dilation + 1 for k in setting["kernel"])
    view = sliding_window_view(x, reach, axis=tuple(range(2, 2 + ndim)))
    steps: Any = (slice(None), slice(None), *(slice(None, None, s) for s in setting["stride"]))
    taps: Any = (..., *[slice(None, None, dilation)] * ndim)
    view = view[steps][taps]
    return view.reshape(*view.shape[: 2 + ndim], -1)  # type: ignore[no-any-return]


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("ndim", RANKS)
def test_max_pool(ndim: int, name: str, dilation: int, rng: np.random.Generator) -> None:
    setting = settings(name, ndim)
    x = rng.normal(size=(2, 3, *[5, 4, 4, 5, 3][:ndim])) - 5  # below zero: padding must not win
    expected = windows(x, -np.inf, dilation, **setting).max(-1)
    y = max_pool_nd(
        torch.from_numpy(x),
        setting["kernel"],
        stride=setting["stride"],
        padding=setting["padding"],
        dilation=dilation,
    )
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("ndim", RANKS)
def test_avg_pool(ndim: int, name: str, include: bool, rng: np.random.Generator) -> None:
    setting = settings(name, ndim)
    x = rng.normal(size=(2, 3, *[5, 4, 4, 5, 3][:ndim]))
    regions = windows(x, 0.0 if include else np.nan, **setting)
    module = AvgPoolNd(
        setting["kernel"],
        setting["stride"],
        setting["padding"],
        count_include_pad=include,
        spatial_dims=ndim,
    )
    np.testing.assert_allclose(module(torch.from_numpy(x)), np.nanmean(regions, -1), rtol=1e-12)


@pytest.mark.parametrize("ndim", RANKS)
def test_mean_of_ones_is_one(ndim: int) -> None:
    """In float64, too: numbers of samples are not rounded to float32."""
    for dtype in (torch.float16, torch.float32, torch.float64):
        x = torch.ones(1, 1, *[5] * ndim, dtype=dtype)
        for padding in (1, ((1, 0),) * ndim):
            y = avg_pool_nd(x, 3, 1, padding, count_include_pad=False)
            assert y.dtype == dtype
            assert torch.equal(y, torch.ones_like(y))
            y = avg_pool_nd(x, 3, 2, padding, True, False)
            assert torch.equal(y, torch.ones_like(y))


CEIL_SETTINGS = [
    (samples, taps, step, padding)
    for samples in (4, 5, 6, 7)
    for taps in (2, 3)
    for step in (1, 2, 3)
    for padding in (0, 1)
]


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_ceil_mode_and_divisors_as_in_torch(ndim: int, rng: np.random.Generator) -> None:
    """Beside torch's own operator also our path for more axes, by a length-1 axis in front."""
    for samples, taps, step, padding in CEIL_SETTINGS:
        x = torch.from_numpy(rng.normal(size=(2, 3, *[samples] * ndim)))
        high = x[(slice(None), slice(None), *[None] * (4 - ndim))]  # four axes
        kernel, stride = [1] * (4 - ndim) + [taps] * ndim, [1] * (4 - ndim) + [step] * ndim
        pads = [0] * (4 - ndim) + [padding] * ndim
        for include in (True, False):
            pool = getattr(F, f"avg_pool{ndim}d")
            expected = pool(x, taps, step, padding, True, include)
            torch.testing.assert_close(avg_pool_nd(x, taps, step, padding, True, include), expected)
            y = avg_pool_nd(high, kernel, stride, pads, True, include)
            torch.testing.assert_close(y.flatten(2), expected.flatten(2))
            if ndim > 1:
                expected = pool(x, taps, step, padding, True, include, 7)
                y = avg_pool_nd(high, kernel, stride, pads, True, include, 7)
                torch.testing.assert_close(y.flatten(2), expected.flatten(2))
        if padding > taps // 2:
            continue
        expected, indices = getattr(F, f"max_pool{ndim}d")(
            x, taps, step, padding, ceil_mode=True, return_indices=True
        )
        for values, options in (
            (x, (taps, step, padding)),
            (high, (kernel, stride, pads)),
        ):
            y, positions = max_pool_nd(values, *options, ceil_mode=True, return_indices=True)  # type: ignore[misc]
            assert torch.equal(y.flatten(2), expected.flatten(2))
            assert torch.equal(positions.flatten(2), indices.flatten(2))
            layer = MaxPoolNd(*options, ceil_mode=True, spatial_dims=values.ndim - 2).layer  # type: ignore[misc]
            assert output_size(values.shape[2:], layer) == y.shape[2:]


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("ndim", RANKS)
def test_indices_lead_to_the_maxima(ndim: int, name: str, rng: np.random.Generator) -> None:
    setting = settings(name, ndim)
    x = torch.from_numpy(rng.integers(0, 3, size=(2, 3, *[5, 4, 4, 5, 3][:ndim]))).float()
    arguments = setting["kernel"], setting["stride"], setting["padding"]
    y, positions = MaxPoolNd(*arguments, return_indices=True, spatial_dims=ndim)(x)
    assert torch.equal(y, max_pool_nd(x, *arguments))
    assert torch.equal(x.flatten(2).gather(2, positions.flatten(2)).view(y.shape), y)
    # Of equal maxima it is the first, as in torch.
    places = np.arange(x[0, 0].numel(), dtype=float).reshape(1, 1, *x.shape[2:])
    places = np.broadcast_to(places, x.shape)
    tied = windows(x.numpy(), -np.inf, **setting) == y.numpy()[..., None]
    first = np.where(tied, windows(places, np.inf, **setting), np.inf).min(-1)
    np.testing.assert_array_equal(positions, first)


@pytest.mark.parametrize("ndim", [1, 2, 3, 4])
def test_a_window_without_a_sample_is_refused(ndim: int) -> None:
    """Torch's own operator writes outside of its memory there."""
    x = torch.rand(1, 1, *[2] * ndim)
    for indices in (False, True):
        pool = MaxPoolNd(2, padding=1, dilation=3, return_indices=indices, spatial_dims=ndim)
        with pytest.raises(ShapeError) as caught:
            pool(x)
        assert "a sample in every window along axis 0" in caught.value.expected
        with raises(
            ShapeError, operation="maxpool:2,dilation=3,padding=1", expected="in every window"
        ):
            output_size(x.shape[2:], pool.layer)
    # The same windows on more samples all hold one.
    assert bool(
        max_pool_nd(torch.rand(1, 1, *[3] * ndim), 2, padding=1, dilation=3).isfinite().all()
    )


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.uint8])
def test_whole_numbers_have_maxima(dtype: torch.dtype, rng: np.random.Generator) -> None:
    x = torch.from_numpy(rng.integers(0, 9, size=(1, 2, 3, 3, 3, 3))).to(dtype)
    try:
        y = max_pool_nd(x, 3, 2, 1)
    except NotImplementedError:
        pytest.skip("this torch pools no whole numbers")
    assert torch.equal(y, max_pool_nd(x.double(), 3, 2, 1).to(dtype))


@pytest.mark.parametrize("ndim", [1, 4])
def test_gradients(ndim: int, rng: np.random.Generator) -> None:
    x = torch.from_numpy(rng.normal(size=(1, 2, *[3] * ndim))).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: max_pool_nd(x, 2, stride=1, padding=1), x, fast_mode=True
    )
    assert torch.autograd.gradcheck(
        lambda x: avg_pool_nd(x, 2, stride=1, padding=1, count_include_pad=False),
        x,
        fast_mode=True,
    )
    assert torch.autograd.gradcheck(
        lambda x: max_pool_nd(x, 2, 2, 1, ceil_mode=True, return_indices=True)[0],
        x,
        fast_mode=True,
    )


@pytest.mark.parametrize("ndim", [1, 2, 3, 4])
def test_a_length_one_axis_changes_nothing(ndim: int, rng: np.random.Generator) -> None:
    x = torch.from_numpy(rng.normal(size=(1, 2, *[4] * ndim)))
    for pool in (max_pool_nd, avg_pool_nd):
        y = pool(x, 2)
        for axis in range(ndim + 1):
            kernel = [2] * axis + [1] + [2] * (ndim - axis)
            z = pool(x.unsqueeze(2 + axis), kernel)
            torch.testing.assert_close(z.squeeze(2 + axis), y)


def test_channels_last_stays() -> None:
    x = torch.randn(1, 8, 6, 6).to(memory_format=torch.channels_last)
    for pool in (max_pool_nd, avg_pool_nd):
        for padding in (0, 1, ((1, 0), (0, 0))):
            y = pool(x, 2, padding=padding)
            assert y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("ndim", [1, 2, 4])
def test_bad_inputs_are_refused(ndim: int) -> None:
    x = torch.zeros(1, 2, *[4] * ndim)
    for pool, kind in ((max_pool_nd, "maxpool"), (avg_pool_nd, "avgpool")):
        with raises(ShapeError, operation=f"{kind}:5", expected="5 samples along axis 0"):
            pool(x, 5)
        with raises(ShapeError, operation=kind, expected="padding of at most (1,"):
            pool(x, 2, padding=2)
        with raises(ShapeError, operation=f"{kind} kernel", expected="one whole number"):
            pool(x, (2,) * (ndim + 1))
        with raises(ShapeError, operation=kind, expected="rank 3 (B, C, *S)"):
            pool(torch.zeros(4, 4), 2)
    for module, name in ((MaxPoolNd, "MaxPoolNd"), (AvgPoolNd, "AvgPoolNd")):
        with raises(ShapeError, operation=name, expected="x of rank", remedy="batch axis"):
            module(2, spatial_dims=ndim)(x[0])
        with raises(ShapeError, operation="stride", got="0"):
            module(2, 0, spatial_dims=ndim)


def test_modules_say_what_they_are() -> None:
    assert repr(MaxPoolNd(2, spatial_dims=3)) == "MaxPoolNd(maxpool:2, spatial_dims=3)"
    assert repr(AvgPoolNd(3, 2, spatial_dims=1)) == "AvgPoolNd(avgpool:3,stride=2, spatial_dims=1)"
    x = torch.randn(1, 1, 5, 5)
    assert torch.equal(
        MaxPoolNd(2, 1, 1, 2, spatial_dims=2)(x),
        max_pool_nd(x, 2, stride=1, padding=1, dilation=2),
    )


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_the_geometry_is_worked_out_once(ndim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Working it out at every call took ten times as long as a small pooling."""
    x = torch.rand(1, 2, *[6] * ndim)
    pools = [
        MaxPoolNd(3, 2, 1, spatial_dims=ndim),
        AvgPoolNd(3, 2, 1, count_include_pad=False, spatial_dims=ndim),
    ]
    expected = [pool(x) for pool in pools]
    monkeypatch.setattr(Layer, "build", None)
    for pool, values in zip(pools, expected, strict=True):
        assert torch.equal(pool(x), values)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_an_empty_batch_has_no_positions(ndim: int) -> None:
    x = torch.zeros(0, 3, *[6, 9, 7][:ndim])
    module = {1: torch.nn.MaxPool1d, 2: torch.nn.MaxPool2d, 3: torch.nn.MaxPool3d}[ndim]
    expected = module(2, return_indices=True)(x)
    found = MaxPoolNd(2, return_indices=True, spatial_dims=ndim)(x)
    assert [part.shape for part in found] == [part.shape for part in expected]


@pytest.mark.parametrize("dilation", [1, 2])
def test_windows_of_minus_infinity_have_a_position_and_a_gradient(dilation: int) -> None:
    """That of their first sample, as in torch; convnd pads unequally by itself."""
    x = torch.tensor([[[-torch.inf] * 4 + [1.0, -torch.inf, 2.0]]], requires_grad=True)
    options: dict[str, Any] = {"dilation": dilation, "return_indices": True}
    expected, positions = F.max_pool1d(F.pad(x, (0, 1), value=-torch.inf), 3, 1, 1, **options)
    y, found = max_pool_nd(x, 3, 1, ((1, 2),), **options)
    assert torch.equal(y, expected)
    assert torch.equal(found, positions)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    (wanted,) = torch.autograd.grad(expected.sum(), x)
    assert torch.equal(gradient, wanted)
