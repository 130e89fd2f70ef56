"""Pooling against NumPy's sliding windows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view

from convnd.errors import ShapeError
from convnd.nn import AvgPoolNd, MaxPoolNd, avg_pool_nd, max_pool_nd

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


def windows(x: np.ndarray, fill: float, dilation: int = 1, **at: Any) -> np.ndarray:
    """``(B, C, *S', windows)`` flattened over each window."""
    ndim = x.ndim - 2
    x = np.pad(x, ((0, 0), (0, 0), *at["padding"]), constant_values=fill)
    reach = tuple((k - 1) * dilation + 1 for k in at["kernel"])
    view = sliding_window_view(x, reach, axis=tuple(range(2, 2 + ndim)))
    view = view[(slice(None), slice(None), *(slice(None, None, s) for s in at["stride"]))]
    view = view[(..., *[slice(None, None, dilation)] * ndim)]
    return view.reshape(*view.shape[: 2 + ndim], -1)


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("ndim", RANKS)
def test_max_pool(ndim: int, name: str, dilation: int, rng: np.random.Generator) -> None:
    at = settings(name, ndim)
    x = rng.normal(size=(2, 3, *[5, 4, 4, 5, 3][:ndim])) - 5  # below zero: padding must not win
    expected = windows(x, -np.inf, dilation, **at).max(-1)
    y = max_pool_nd(
        torch.from_numpy(x),
        at["kernel"],
        stride=at["stride"],
        padding=at["padding"],
        dilation=dilation,
    )
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("ndim", RANKS)
def test_avg_pool(ndim: int, name: str, include: bool, rng: np.random.Generator) -> None:
    at = settings(name, ndim)
    x = rng.normal(size=(2, 3, *[5, 4, 4, 5, 3][:ndim]))
    seen = windows(x, 0.0 if include else np.nan, **at)
    module = AvgPoolNd(
        at["kernel"], at["stride"], at["padding"], count_include_pad=include, spatial_dims=ndim
    )
    np.testing.assert_allclose(module(torch.from_numpy(x)), np.nanmean(seen, -1), rtol=1e-12)


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
        with pytest.raises(ShapeError, match=f"{kind}:5: expected at least 5 samples along axis 0"):
            pool(x, 5)
        with pytest.raises(
            ShapeError, match=rf"{kind}: expected padding of at most \(1,.*pad less"
        ):
            pool(x, 2, padding=2)
        with pytest.raises(ShapeError, match=f"{kind} kernel: expected one whole number"):
            pool(x, (2,) * (ndim + 1))
        with pytest.raises(ShapeError, match=rf"{kind}: expected x of rank 3 \(B, C, \*S\)"):
            pool(torch.zeros(4, 4), 2)
    for module, name in ((MaxPoolNd, "MaxPoolNd"), (AvgPoolNd, "AvgPoolNd")):
        with pytest.raises(ShapeError, match=f"{name}: expected x of rank .* add the batch axis"):
            module(2, spatial_dims=ndim)(x[0])
        with pytest.raises(ShapeError, match="stride: expected one whole number"):
            module(2, 0, spatial_dims=ndim)


def test_modules_say_what_they_are() -> None:
    assert repr(MaxPoolNd(2, spatial_dims=3)) == "MaxPoolNd(maxpool:2, spatial_dims=3)"
    assert repr(AvgPoolNd(3, 2, spatial_dims=1)) == "AvgPoolNd(avgpool:3,stride=2, spatial_dims=1)"
    x = torch.randn(1, 1, 5, 5)
    assert torch.equal(
        MaxPoolNd(2, 1, 1, 2, spatial_dims=2)(x),
        max_pool_nd(x, 2, stride=1, padding=1, dilation=2),
    )
