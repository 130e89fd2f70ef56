"""Padding against NumPy's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from error_fields import raises

from convnd.errors import ShapeError, UnknownNameError, UsageError
from convnd.nn import PAD_MODES, PADDING_MODES, PadNd, pad_nd

NUMPY_MODES = {
    "constant": "constant",
    "reflect": "reflect",
    "replicate": "edge",
    "circular": "wrap",
}
PAIRS = ((1, 2), (0, 1), (2, 2), (3, 0), (1, 1))
SIZE = (3, 2, 4, 5, 2)


def test_every_mode_is_tested() -> None:
    assert tuple(NUMPY_MODES) == PAD_MODES
    assert ("zeros", *PAD_MODES[1:]) == PADDING_MODES


@pytest.mark.parametrize("mode", PAD_MODES)
@pytest.mark.parametrize("ndim", [1, 2, 3, 4, 5])
def test_pad_is_numpys(ndim: int, mode: str, rng: np.random.Generator) -> None:
    x = rng.normal(size=(2, 3, *SIZE[:ndim]))
    expected = np.pad(x, ((0, 0), (0, 0), *PAIRS[:ndim]), mode=NUMPY_MODES[mode])  # type: ignore[call-overload]
    y = PadNd(PAIRS[:ndim], mode, spatial_dims=ndim)(torch.from_numpy(x))
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("mode", PAD_MODES)
@pytest.mark.parametrize("ndim", [1, 4, 5])
def test_gradients(ndim: int, mode: str, rng: np.random.Generator) -> None:
    x = torch.from_numpy(rng.normal(size=(1, 2, *[2] * ndim))).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: pad_nd(x, 1, mode), x, fast_mode=True)


@pytest.mark.parametrize("mode", PAD_MODES)
@pytest.mark.parametrize("ndim", [1, 2, 3, 4])
def test_a_length_one_axis_changes_nothing(ndim: int, mode: str, rng: np.random.Generator) -> None:
    x = torch.from_numpy(rng.normal(size=(1, 2, *[3] * ndim)))
    y = pad_nd(x, 2, mode)
    for axis in range(ndim + 1):
        pairs = [2] * axis + [0] + [2] * (ndim - axis)
        assert torch.equal(pad_nd(x.unsqueeze(2 + axis), pairs, mode).squeeze(2 + axis), y)


@pytest.mark.parametrize("ndim", [1, 2, 3, 4, 5])
def test_constant_values_and_crops(ndim: int, rng: np.random.Generator) -> None:
    x = rng.normal(size=(2, 3, *SIZE[:ndim]))
    pairs = ((-1, 2), (3, -1), (-1, -1), (0, -2), (1, 1))[:ndim]
    added = [(max(low, 0), max(high, 0)) for low, high in pairs]
    expected = np.pad(x, ((0, 0), (0, 0), *added), constant_values=7.0)
    crops = tuple(
        slice(max(-low, 0), n - max(-high, 0))
        for (low, high), n in zip(pairs, expected.shape[2:], strict=True)
    )
    y = PadNd(pairs, value=7.0, spatial_dims=ndim)(torch.from_numpy(x))
    np.testing.assert_array_equal(y, expected[(..., *crops)])  # type: ignore[arg-type]
    expected = np.pad(x, ((0, 0), (0, 0), *added), mode="edge")
    np.testing.assert_array_equal(
        pad_nd(torch.from_numpy(x), pairs, "replicate"),
        expected[(..., *crops)],  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("mode", PAD_MODES)
def test_negative_padding_as_in_torch(mode: str, rng: np.random.Generator) -> None:
    x = torch.from_numpy(rng.normal(size=(1, 2, 5, 6)))
    for pairs in (((-1, 2), (2, -2)), ((-2, -1), (0, 3))):
        flat = [count for pair in reversed(pairs) for count in pair]
        assert torch.equal(pad_nd(x, pairs, mode), torch.nn.functional.pad(x, flat, mode))


def test_nothing_to_add_costs_nothing() -> None:
    x = torch.zeros(1, 1, 2, 2, 2, 2)
    assert pad_nd(x, 0, "reflect") is x


def test_channels_last_stays() -> None:
    x = torch.randn(1, 8, 6, 6).to(memory_format=torch.channels_last)
    for mode in ("constant", "reflect", "replicate"):
        assert pad_nd(x, 1, mode).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("ndim", [1, 2, 3, 4])
def test_bad_inputs_are_refused(ndim: int) -> None:
    x = torch.zeros(1, 1, *[3] * ndim)
    with raises(ShapeError, operation="pad", expected="2 samples"):
        pad_nd(x, 3, "reflect")
    with raises(ShapeError, operation="pad", expected="3 samples"):
        pad_nd(x, 4, "circular")
    assert pad_nd(x, 3, "circular").shape[2] == pad_nd(x, 3, "replicate").shape[2] == 9
    with raises(UnknownNameError, operation="padding mode", got="'mirror'"):
        pad_nd(x, 1, "mirror")
    with raises(UnknownNameError, operation="padding mode", got="'constnt'", remedy="'constant'"):
        PadNd(1, "constnt", spatial_dims=ndim)
    with pytest.raises(UsageError) as caught:
        pad_nd(x, 1, "reflect", 2.0)
    assert caught.value.got == "2.0"
    with raises(ShapeError, operation="pad", expected="3 on"):
        pad_nd(x, -2)
    with raises(ShapeError, operation="padding"):
        pad_nd(x, (1,) * (2 * ndim))
    with raises(ShapeError, operation="padding", expected=f"{ndim} entries"):
        pad_nd(x, (1,) * (ndim + 1))
    with raises(ShapeError, operation="PadNd"):
        PadNd(1, spatial_dims=ndim)(x[0])
    with raises(ShapeError, operation="pad", expected="x of rank 3"):
        pad_nd(torch.zeros(3, 3), 1)


def test_the_module_says_what_it_is() -> None:
    module = PadNd((1, (0, 2)), "reflect", spatial_dims=2)
    assert repr(module) == "PadNd(((1, 1), (0, 2)), mode='reflect', spatial_dims=2)"
