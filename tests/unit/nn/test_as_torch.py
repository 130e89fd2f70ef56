"""Names, defaults, order of arguments, values and weights as those of torch's layers."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from error_fields import raises
from layers import CASES
from torch import nn

from convnd import nn as cn
from convnd.errors import ShapeError, UnknownNameError, UsageError

PAIRS: dict[Any, Any] = {
    cn.ConvNd: nn.Conv2d,
    cn.ConvTransposeNd: nn.ConvTranspose2d,
    cn.LazyConvNd: nn.LazyConv2d,
    cn.LazyConvTransposeNd: nn.LazyConvTranspose2d,
    cn.MaxPoolNd: nn.MaxPool2d,
    cn.AvgPoolNd: nn.AvgPool2d,
    cn.AdaptiveAvgPoolNd: nn.AdaptiveAvgPool2d,
    cn.AdaptiveMaxPoolNd: nn.AdaptiveMaxPool2d,
    cn.BatchNormNd: nn.BatchNorm2d,
    cn.InstanceNormNd: nn.InstanceNorm2d,
    cn.UpsampleNd: nn.Upsample,
    cn.UnfoldNd: nn.Unfold,
    cn.FoldNd: nn.Fold,
    cn.unfold_nd: F.unfold,
    cn.fold_nd: F.fold,
    cn.PixelShuffleNd: nn.PixelShuffle,
    cn.PixelUnshuffleNd: nn.PixelUnshuffle,
    cn.pad_nd: F.pad,
    cn.interpolate_nd: F.interpolate,
    cn.grid_sample_nd: F.grid_sample,
}
# Built-in functions have no signature, so these are from torch's documentation.
FUNCTIONS = {
    cn.conv_nd: "weight bias=None stride=1 padding=0 dilation=1 groups=1",
    cn.conv_transpose_nd: "weight bias=None stride=1 padding=0 output_padding=0 groups=1 "
    "dilation=1",
    cn.max_pool_nd: "kernel_size stride=None padding=0 dilation=1 ceil_mode=False "
    "return_indices=False",
    cn.avg_pool_nd: "kernel_size stride=None padding=0 ceil_mode=False count_include_pad=True "
    "divisor_override=None",
    cn.adaptive_avg_pool_nd: "output_size",
    cn.adaptive_max_pool_nd: "output_size return_indices=False",
    cn.pixel_shuffle_nd: "upscale_factor",
    cn.pixel_unshuffle_nd: "downscale_factor",
}
RENAMED = {"pad": "padding", "input": "x"}


@pytest.mark.parametrize("ours", PAIRS, ids=lambda ours: ours.__name__)
def test_positional_arguments_stand_where_torch_has_them(ours: Any) -> None:
    theirs = [
        (RENAMED.get(p.name, p.name), p.default)
        for p in inspect.signature(PAIRS[ours]).parameters.values()
        if p.kind is not p.KEYWORD_ONLY and p.name != "antialias"
    ]
    mine = [
        (p.name, p.default)
        for p in inspect.signature(ours).parameters.values()
        if p.kind is not p.KEYWORD_ONLY
    ]
    assert mine == theirs
    if inspect.isclass(ours):
        dims = inspect.signature(ours).parameters["spatial_dims"]
        assert dims.kind is dims.KEYWORD_ONLY


@pytest.mark.parametrize("ours", FUNCTIONS, ids=lambda ours: ours.__name__)
def test_functions_have_torchs_order(ours: Any) -> None:
    _, *parameters = [
        p for p in inspect.signature(ours).parameters.values() if p.kind is not p.KEYWORD_ONLY
    ]
    assert " ".join(str(p.replace(annotation=p.empty)) for p in parameters) == FUNCTIONS[ours]


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("name", CASES)
def test_values_gradients_and_weights(name: str, ndim: int, generator: torch.Generator) -> None:
    case = CASES[name]
    theirs = case.make_torchs(ndim)
    if theirs is None:
        pytest.skip("torch has no such layer")
    torch.manual_seed(7)
    theirs = case.make_torchs(ndim)
    torch.manual_seed(7)
    ours = case.make(ndim)
    assert theirs is not None
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for key, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[key], value)
    theirs.load_state_dict(ours.state_dict())
    ours.load_state_dict(theirs.state_dict())
    x = case.input(ndim, generator)
    mine, yours = x.clone().requires_grad_(), x.clone().requires_grad_()
    for _ in range(2):  # in training and in evaluation
        y, expected = ours(mine), theirs(yours)
        assert torch.equal(y, expected)
        seed = torch.rand(y.shape, generator=generator)
        gradients = [
            torch.autograd.grad(result, [values, *module.parameters()], seed)
            for result, values, module in ((y, mine, ours), (expected, yours, theirs))
        ]
        for gradient, other in zip(*gradients, strict=True):
            torch.testing.assert_close(gradient, other)
        ours.eval()
        theirs.eval()
    for attribute, value in vars(theirs).items():
        if not attribute.startswith("_") and attribute not in ("padding", "value", "name"):
            # Torch's average pooling of one axis alone stores tuples.
            alone = value[0] if isinstance(value, tuple) and len(value) == 1 else value
            assert getattr(ours, attribute) in (value, alone), attribute


@pytest.mark.parametrize(
    ("ndim", "mode", "name"),
    [
        (1, "linear", "linear"),
        (2, "linear", "bilinear"),
        (3, "linear", "trilinear"),
        (2, "cubic", "bicubic"),  # in this rank alone
    ],
)
@pytest.mark.parametrize(
    "options",
    [
        {"size": 7},
        *(
            {"scale_factor": factor, "recompute_scale_factor": recompute}
            for factor in (1.7, 0.6)
            for recompute in (None, True)
        ),
    ],
)
def test_interpolation_is_torchs(
    ndim: int, mode: str, name: str, options: dict[str, Any], generator: torch.Generator
) -> None:
    x = torch.rand(1, 2, *(6, 5, 4)[:ndim], generator=generator)
    for corners in (None, False, True):
        common = {**options, "align_corners": corners}
        expected = F.interpolate(x, mode=name, **common)
        for alias in (mode, name):
            torch.testing.assert_close(cn.interpolate_nd(x, mode=alias, **common), expected)


@pytest.mark.parametrize("mode", cn.INTERPOLATION_MODES)
def test_interpolation_above_three_axes_is_that_of_each_axis(
    mode: str, generator: torch.Generator
) -> None:
    x = torch.rand(1, 2, 3, 4, 2, 5, generator=generator, dtype=torch.float64)
    y = cn.interpolate_nd(x, (4, 3, 5, 2), mode=mode)
    expected = x
    for axis, count in enumerate((4, 3, 5, 2), start=2):
        lines = expected.movedim(axis, -1)
        size = lines.shape[:-1]
        lines = F.interpolate(
            lines.reshape(1, -1, 1, lines.shape[-1]), (1, count), mode=cn.INTERPOLATION_MODES[mode]
        )
        expected = lines.view(*size, count).movedim(-1, axis)
    torch.testing.assert_close(y, expected)
    x.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: cn.interpolate_nd(x, scale_factor=1.5, mode=mode), x, fast_mode=True
    )


def test_bad_interpolations_are_refused() -> None:
    x = torch.zeros(1, 1, 4, 4)
    with raises(UsageError, operation="interpolate", expected="either size or scale_factor"):
        cn.interpolate_nd(x)
    with raises(UsageError, operation="interpolate", expected="either size or scale_factor"):
        cn.UpsampleNd(2, 2.0, spatial_dims=2)
    with raises(UsageError, operation="interpolate", expected="no align_corners with mode"):
        cn.interpolate_nd(x, 2, align_corners=True)
    with raises(UsageError, operation="interpolate", expected="positive finite scale_factor"):
        cn.interpolate_nd(x, scale_factor=-1.0)
    with raises(ShapeError, operation="interpolate", expected="one scale_factor or 2"):
        cn.interpolate_nd(x, scale_factor=(1.0, 2.0, 3.0))
    with raises(ShapeError, operation="interpolate", expected="at least one sample"):
        cn.interpolate_nd(x, scale_factor=0.1)
    with raises(UnknownNameError, operation="UpsampleNd: mode", got="'linaer'", remedy="'linear'"):
        cn.UpsampleNd(2, mode="linaer", spatial_dims=2)
    with raises(ShapeError, operation="UpsampleNd", expected="x of rank 5"):
        cn.UpsampleNd(2, spatial_dims=3)(x)


def windows_of(samples: int, count: int) -> list[slice]:
    return [slice(i * samples // count, -(-(i + 1) * samples // count)) for i in range(count)]


@pytest.mark.parametrize("ndim", [1, 2, 3, 4, 5])
def test_adaptive_pools_are_numpys(ndim: int, rng: np.random.Generator) -> None:
    size, sizes = (7, 5, 4, 6, 3)[:ndim], (3, 5, 3, 1, 2)[:ndim]
    x = rng.normal(size=(2, 3, *size))
    mean, largest = np.empty((2, 3, *sizes)), np.empty((2, 3, *sizes))
    for place in np.ndindex(*sizes):
        index = tuple(
            windows_of(n, count)[i] for n, count, i in zip(size, sizes, place, strict=True)
        )
        block = x[(slice(None), slice(None), *index)].reshape(2, 3, -1)
        mean[(..., *place)], largest[(..., *place)] = block.mean(-1), block.max(-1)
    values = torch.from_numpy(x)
    np.testing.assert_allclose(cn.AdaptiveAvgPoolNd(sizes, spatial_dims=ndim)(values), mean)
    y, indices = cn.AdaptiveMaxPoolNd(sizes, True, spatial_dims=ndim)(values)
    np.testing.assert_array_equal(y, largest)
    torch.testing.assert_close(values.flatten(2).gather(2, indices.flatten(2)), y.flatten(2))
    same = (None, *sizes[1:])
    assert cn.adaptive_avg_pool_nd(values, same).shape[2:] == (size[0], *sizes[1:])
    if ndim < 4:
        expected = getattr(F, f"adaptive_max_pool{ndim}d")(values, sizes, return_indices=True)
        assert torch.equal(indices, expected[1])
    values.requires_grad_()
    for pool in (cn.adaptive_avg_pool_nd, cn.adaptive_max_pool_nd):
        assert torch.autograd.gradcheck(lambda x, p=pool: p(x, sizes), values, fast_mode=True)


def test_bad_adaptive_pools_are_refused() -> None:
    x = torch.zeros(1, 1, 4, 4)
    with raises(ShapeError, operation="adaptive_avg_pool output_size", expected="one whole"):
        cn.adaptive_avg_pool_nd(x, (1, 2, 3))
    with raises(ShapeError, operation="AdaptiveMaxPoolNd output_size", expected="1, or 2"):
        cn.AdaptiveMaxPoolNd(0, spatial_dims=2)
    with raises(ShapeError, operation="AdaptiveMaxPoolNd", expected="x of rank 3"):
        cn.AdaptiveMaxPoolNd(1, spatial_dims=1)(x)
    with raises(ShapeError, operation="adaptive_max_pool", expected="x of rank 3"):
        cn.adaptive_max_pool_nd(x[0, 0], 1)


@pytest.mark.parametrize("ndim", [1, 2, 3, 4])
@pytest.mark.parametrize(  # the first axis of causal padding is time; the input of fold has one
    "name", [name for name in CASES if "pad" not in name and name not in ("conv_causal", "fold")]
)
def test_a_length_one_axis_changes_nothing(
    name: str, ndim: int, generator: torch.Generator
) -> None:
    """An axis of one sample, where the layer's own arguments leave it as it is."""
    case = CASES[name]
    flat, thick = case.make(ndim), case.make(ndim + 1)
    for module in (flat, thick):
        for parameter in module.parameters():
            with torch.no_grad():
                parameter.fill_(0.5)
    x = case.input(ndim, generator)
    for module in thick.modules():
        _leave_first_axis(module, ndim)
    torch.testing.assert_close(thick(x.unsqueeze(2)).squeeze(2), flat(x))


def _leave_first_axis(module: Any, ndim: int) -> None:
    """Change the attributes of a layer so that its first axis stays 1 long."""
    if isinstance(module, cn.ConvNd | cn.ConvTransposeNd):
        module.weight = nn.Parameter(module.weight.detach()[:, :, :1].contiguous())
    for attribute, value in (
        ("kernel_size", 1),
        ("stride", 1),
        ("padding", 0),
        ("dilation", 1),
        ("output_padding", 0),
        ("output_size", 1),
        ("scale_factor", 1.0),
        ("upscale_factor", 1),
        ("downscale_factor", 1),
        ("size", 1),
    ):
        setting = getattr(module, attribute, None)
        if setting is not None and not isinstance(setting, str):
            others = setting[1:] if isinstance(setting, tuple) else (setting,) * ndim
            setattr(module, attribute, (value, *others))


def test_attributes_may_be_changed(generator: torch.Generator) -> None:
    """Seamless textures, dilated networks: tools change layers that are built."""
    x = torch.rand(1, 2, 8, 8, generator=generator)
    for attribute, value in (
        ("padding_mode", "circular"),
        ("stride", (2, 1)),
        ("dilation", (2, 2)),
        ("padding", (2, 1)),
    ):
        module = cn.ConvNd(2, 3, 3, padding=1, spatial_dims=2)
        changed: dict[str, Any] = {"padding": 1, attribute: value}
        fresh = cn.ConvNd(2, 3, 3, spatial_dims=2, **changed)
        fresh.load_state_dict(module.state_dict())
        setattr(module, attribute, value)
        assert torch.equal(module(x), fresh(x))
        assert module.layer == fresh.layer
    for attribute, other in (("stride", 1), ("kernel_size", (2, 3)), ("ceil_mode", True)):
        pool = cn.MaxPoolNd(3, 2, spatial_dims=2)
        options: dict[str, Any] = {"kernel_size": 3, "stride": 2, attribute: other}
        setattr(pool, attribute, other)
        assert torch.equal(pool(x), cn.MaxPoolNd(**options, spatial_dims=2)(x))


@pytest.mark.parametrize("ndim", [1, 2, 3, 4])
def test_output_size_of_transposed_convolutions(ndim: int, generator: torch.Generator) -> None:
    x = torch.rand(1, 2, *[5] * ndim, generator=generator)
    up = cn.ConvTransposeNd(2, 3, 3, 2, 1, spatial_dims=ndim)
    for count in (9, 10):
        sizes = [count] * ndim
        y = up(x, sizes)
        assert y.shape == (1, 3, *sizes)
        assert torch.equal(up(x, (1, 3, *sizes)), y)
        explicit = cn.conv_transpose_nd(x, up.weight, up.bias, 2, 1, count - 9)
        assert torch.equal(y, explicit)
        if ndim < 4:
            theirs = getattr(nn, f"ConvTranspose{ndim}d")(2, 3, 3, 2, 1)
            theirs.load_state_dict(up.state_dict())
            assert torch.equal(theirs(x, sizes), y)
    for wrong in ([8] * ndim, [11] * ndim, [9] * (ndim + 1)):
        with pytest.raises(ShapeError) as caught:
            up(x, wrong)
        assert caught.value.operation == "ConvTransposeNd"
        assert str((9,) * ndim) in caught.value.expected
