"""Convolutions against SciPy and NumPy, one tap at a time, which share no code with them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from error_fields import raises
from scipy.signal import correlate
from torch import Tensor, nn

from convnd.errors import ShapeError, UnknownNameError
from convnd.nn import ConvNd, ConvTransposeNd, conv_nd, conv_transpose_nd

RANKS = (1, 2, 3, 4, 5)
NUMPY_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
TORCH = {
    1: (nn.Conv1d, nn.ConvTranspose1d),
    2: (nn.Conv2d, nn.ConvTranspose2d),
    3: (nn.Conv3d, nn.ConvTranspose3d),
}


def reference_conv(
    x: np.ndarray,
    weight: np.ndarray,
    *,
    stride: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    dilation: tuple[int, ...],
    groups: int = 1,
    mode: str = "zeros",
) -> np.ndarray:
    x = np.pad(x, ((0, 0), (0, 0), *padding), mode=NUMPY_MODES[mode])  # type: ignore[call-overload]
    spread = np.zeros(
        (
            *weight.shape[:2],
            *((k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilation, strict=True)),
        )
    )
    spread[(..., *(slice(None, None, d) for d in dilation))] = weight  # type: ignore[index]
    outs, ins = weight.shape[0] // groups, weight.shape[1]
    result = [
        [
            sum(
                correlate(example[o // outs * ins + c], spread[o, c], "valid", method="direct")
                for c in range(ins)
            )
            for o in range(weight.shape[0])
        ]
        for example in x
    ]
    return np.array(result)[(..., *(slice(None, None, s) for s in stride))]  # type: ignore[arg-type]


def reference_transpose(
    x: np.ndarray,
    weight: np.ndarray,
    *,
    stride: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    output_padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
) -> np.ndarray:
    ins, outs = weight.shape[0] // groups, weight.shape[1]
    sizes, kernel = x.shape[2:], weight.shape[2:]
    full = [
        (n - 1) * s + (k - 1) * d + 1 + more
        for n, s, k, d, more in zip(sizes, stride, kernel, dilation, output_padding, strict=True)
    ]
    y = np.zeros((x.shape[0], outs * groups, *full))
    for tap in itertools.product(*map(range, kernel)):
        places = tuple(
            slice(t * d, t * d + (n - 1) * s + 1, s)
            for t, d, n, s in zip(tap, dilation, sizes, stride, strict=True)
        )
        for c in range(x.shape[1]):
            for o in range(outs):
                y[(slice(None), c // ins * outs + o, *places)] += weight[(c, o, *tap)] * x[:, c]
    return y[(..., *(slice(low, n - high) for (low, high), n in zip(padding, full, strict=True)))]  # type: ignore[arg-type]


# Every axis differs from the others; the first entries serve the lower ranks.
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "stride": {"stride": (2, 1, 3, 1, 2)},
    "dilation": {"dilation": (2, 1, 1, 2, 1)},
    "sides": {"padding": ((1, 0), (0, 2), (1, 1), (0, 1), (2, 0))},
    "groups": {"groups": 2},
    "all": {
        "stride": (2, 3, 1, 2, 1),
        "dilation": (1, 2, 2, 1, 2),
        "padding": ((1, 2), (2, 1), (2, 0), (1, 1), (0, 2)),
        "groups": 2,
    },
}
KERNEL = (3, 2, 2, 3, 1)
SIZE = (5, 4, 4, 5, 3)


def settings(name: str, ndim: int) -> dict[str, Any]:
    chosen = {
        "stride": (1,) * 5,
        "dilation": (1,) * 5,
        "padding": ((0, 0),) * 5,
        "groups": 1,
        **SETTINGS[name],
    }
    return {key: value if isinstance(value, int) else value[:ndim] for key, value in chosen.items()}


def double(rng: np.random.Generator, *shape: int) -> Tensor:
    return torch.from_numpy(rng.normal(size=shape))


@pytest.fixture(params=["gathered", "summed"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of putting taps together, whatever the size of the input."""
    if request.param == "summed":
        monkeypatch.setattr("convnd.nn.conv.GATHER_BYTES", 0)
    return request.param  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("ndim", RANKS)
def test_conv_is_scipys_correlation(
    ndim: int, name: str, path: str, rng: np.random.Generator
) -> None:
    options = settings(name, ndim)
    x = double(rng, 2, 2, *SIZE[:ndim])
    weight = double(rng, 4, 2 // options["groups"], *KERNEL[:ndim])
    bias = double(rng, 4)
    expected = reference_conv(x.numpy(), weight.numpy(), **options)
    expected += bias.numpy().reshape(-1, *[1] * ndim)
    torch.testing.assert_close(conv_nd(x, weight, bias, **options), torch.from_numpy(expected))


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("ndim", RANKS)
def test_transposed_conv_is_numpys_scattering(
    ndim: int, name: str, path: str, rng: np.random.Generator
) -> None:
    options = settings(name, ndim)
    pairs = zip(options["stride"], options["dilation"], strict=True)
    options["output_padding"] = tuple(max(pair) - 1 for pair in pairs)
    x = double(rng, 2, 4, *[3, 3, 2, 3, 3][:ndim])
    weight = double(rng, 4, 6 // options["groups"], *KERNEL[:ndim])
    bias = double(rng, 6)
    expected = reference_transpose(x.numpy(), weight.numpy(), **options)
    expected += bias.numpy().reshape(-1, *[1] * ndim)
    y = conv_transpose_nd(x, weight, bias, **options)
    torch.testing.assert_close(y, torch.from_numpy(expected))


def test_a_stride_longer_than_the_kernel_leaves_the_bias_between(path: str) -> None:
    x, weight = torch.ones(1, 1, 2, 2, 2, 2), torch.ones(1, 1, 1, 1, 1, 1)
    y = conv_transpose_nd(x, weight, torch.tensor([0.5]), stride=3)
    assert y.shape == (1, 1, 4, 4, 4, 4)
    assert y.unique().tolist() == [0.5, 1.5]
    assert (y == 1.5).sum() == 16


@pytest.mark.parametrize("mode", NUMPY_MODES)
@pytest.mark.parametrize("ndim", RANKS)
def test_padding_modes(ndim: int, mode: str, rng: np.random.Generator) -> None:
    x, weight = double(rng, 1, 2, *SIZE[:ndim]), double(rng, 1, 2, *KERNEL[:ndim])
    module = ConvNd(
        2, 1, KERNEL[:ndim], spatial_dims=ndim, padding="same", padding_mode=mode, bias=False
    )
    module.weight = nn.Parameter(weight)
    expected = reference_conv(
        x.numpy(),
        weight.numpy(),
        stride=(1,) * ndim,
        dilation=(1,) * ndim,
        padding=((1, 1), (0, 1), (0, 1), (1, 1), (0, 0))[:ndim],
        mode=mode,
    )
    assert expected.shape[2:] == SIZE[:ndim]
    torch.testing.assert_close(module(x).detach(), torch.from_numpy(expected))


@pytest.mark.parametrize("ndim", [1, 4, 5])
@pytest.mark.parametrize("function", [conv_nd, conv_transpose_nd])
def test_gradients(function: Any, ndim: int, path: str, rng: np.random.Generator) -> None:
    x = double(rng, 1, 2, *[3, 2, 2, 3, 2][:ndim]).requires_grad_()
    weight = double(rng, 2, 1, *[2, 1, 2, 2, 1][:ndim]).requires_grad_()
    bias = double(rng, 2).requires_grad_()

    def run(*tensors: Tensor) -> Tensor:
        return function(*tensors, groups=2, stride=[2, 1, 1, 1, 1][:ndim])  # type: ignore[no-any-return]

    assert torch.autograd.gradcheck(run, (x, weight, bias), fast_mode=True)
    if path == "gathered":
        assert torch.autograd.gradgradcheck(run, (x, weight, bias), fast_mode=True)


@pytest.mark.parametrize("ndim", [1, 2, 3, 4])
@pytest.mark.parametrize("function", [conv_nd, conv_transpose_nd])
def test_a_length_one_axis_changes_nothing(
    function: Any, ndim: int, rng: np.random.Generator
) -> None:
    x, weight = double(rng, 1, 2, *[4] * ndim), double(rng, 2, 2, *[3] * ndim)
    y = function(x, weight, stride=2)
    for axis in range(2, ndim + 3):
        z = function(x.unsqueeze(axis), weight.unsqueeze(axis), stride=2)
        torch.testing.assert_close(z.squeeze(axis), y)


@pytest.mark.parametrize("ndim", RANKS)
def test_convolution_commutes_with_shifts(ndim: int, rng: np.random.Generator) -> None:
    x, weight = double(rng, 1, 2, *SIZE[:ndim]), double(rng, 2, 2, *KERNEL[:ndim])
    shift, axes = tuple(range(1, ndim + 1)), tuple(range(2, ndim + 2))

    def run(x: Tensor) -> Tensor:
        return conv_nd(x, weight, padding="same", padding_mode="circular")

    torch.testing.assert_close(run(x.roll(shift, axes)), run(x).roll(shift, axes))


@pytest.mark.parametrize("ndim", [1, 3, 4])
def test_transposed_is_the_gradient_of_convolution(ndim: int, rng: np.random.Generator) -> None:
    options: dict[str, Any] = {"stride": 2, "padding": [(1, 0)] * ndim, "dilation": 2}
    x = double(rng, 1, 3, *[7] * ndim).requires_grad_()
    weight = double(rng, 2, 3, *[2] * ndim)
    y = conv_nd(x, weight, **options)
    seed = double(rng, *y.shape)
    (gradient,) = torch.autograd.grad(y, x, seed)
    again = conv_transpose_nd(seed, weight, **options)
    crop = tuple(slice(0, n) for n in again.shape[2:])
    torch.testing.assert_close(again, gradient[(..., *crop)])  # type: ignore[index]


@pytest.mark.parametrize("ndim", TORCH)
@pytest.mark.parametrize("bias", [True, False])
def test_state_dict_is_torchs(ndim: int, bias: bool, generator: torch.Generator) -> None:
    x = torch.randn(2, 4, *[6] * ndim, generator=generator)
    options: dict[str, Any] = {"stride": 2, "padding": 1, "groups": 2, "bias": bias}
    for ours, theirs in zip((ConvNd, ConvTransposeNd), TORCH[ndim], strict=True):
        mine = ours(4, 6, 3, spatial_dims=ndim, **options)
        yours = theirs(4, 6, 3, **options)
        yours.load_state_dict(mine.state_dict(), strict=True)
        torch.testing.assert_close(mine(x), yours(x))
        yours = theirs(4, 6, 3, **options)
        mine.load_state_dict(yours.state_dict(), strict=True)
        torch.testing.assert_close(mine(x), yours(x))


@pytest.mark.parametrize("ours", [ConvNd, ConvTransposeNd])
def test_first_weights_follow_the_generator_within_torchs_bound(ours: Any) -> None:
    first, second = (
        ours(4, 8, 3, spatial_dims=4, generator=torch.Generator().manual_seed(3)).state_dict()
        for _ in range(2)
    )
    assert all(torch.equal(first[key], second[key]) for key in ("weight", "bias"))
    fan_in = first["weight"][0].numel()
    largest = first["weight"].abs().max()
    assert 0.99 * fan_in**-0.5 < largest <= fan_in**-0.5


def reached(y: Tensor) -> set[int]:
    """Leaves that a backward pass from y would give a gradient."""
    waiting, visited, leaves = [y.grad_fn], set(), set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in visited:
            visited.add(node)
            if hasattr(node, "variable"):
                leaves.add(id(node.variable))
            waiting.extend(parent for parent, _ in node.next_functions)
    return leaves


@pytest.mark.parametrize("ndim", [2, 4])
def test_frozen_weights_take_no_part_in_the_backward_pass(ndim: int) -> None:
    for ours in (ConvNd, ConvTransposeNd):
        module = ours(2, 3, 3, spatial_dims=ndim)
        x = torch.zeros(1, 2, *[4] * ndim, requires_grad=True)
        assert reached(module(x)) == {id(x), id(module.weight), id(module.bias)}
        module.requires_grad_(False)
        assert reached(module(x)) == {id(x)}
        module.requires_grad_(True)
        assert reached(module(x.detach())) == {id(module.weight), id(module.bias)}


def test_large_inputs_are_kept_for_the_backward_pass_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gathering path keeps a copy per tap; beyond its limit there is one."""
    x = torch.zeros(2, 2, 6, 6, 6, 6, requires_grad=True)
    weight, sizes = torch.zeros(1, 2, 3, 3, 3, 3), {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    for limit, copies in ((2**30, 2.0), (0, 1.0)):  # 4 of 6 steps by 3 taps, or all 6 once
        monkeypatch.setattr("convnd.nn.conv.GATHER_BYTES", limit)
        sizes.clear()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            y = conv_nd(x, weight)
        weights = 4 * weight.numel()
        assert y.requires_grad
        assert abs(sum(sizes.values()) - copies * 4 * x.numel()) <= weights


@pytest.mark.parametrize("padding", [1, "same", ((1, 2), (0, 1))])
def test_channels_last_stays(padding: Any) -> None:
    x = torch.randn(1, 8, 6, 6).to(memory_format=torch.channels_last)
    for function in (conv_nd, conv_transpose_nd):
        if function is conv_nd or padding == 1:
            y = function(x, torch.randn(8, 8, 3, 3), padding=padding)
            assert y.is_contiguous(memory_format=torch.channels_last)


def test_a_module_holds_its_geometry() -> None:
    module = ConvNd(3, 16, 5, spatial_dims=4, stride=2, padding="same", padding_mode="reflect")
    assert str(module.layer) == "conv:5:16,stride=2,padding=2"
    assert module.layer.parameters(3) == sum(p.numel() for p in module.parameters())
    assert repr(module) == (
        "ConvNd(3, conv:5:16,stride=2,padding=2, spatial_dims=4, padding_mode='reflect')"
    )
    up = ConvTransposeNd(3, 16, 4, spatial_dims=1, stride=2)
    assert repr(up) == "ConvTransposeNd(3, convtranspose:4:16,stride=2, spatial_dims=1)"


@pytest.mark.parametrize("ndim", [1, 2, 3, 4])
def test_bad_inputs_are_refused(ndim: int) -> None:
    x, weight = torch.zeros(1, 2, *[4] * ndim), torch.zeros(4, 2, *[3] * ndim)
    lone = r"expected x of rank \d \(B, C, \*S\), got shape .*; add the batch axis"
    for run in (
        lambda: conv_nd(x[0], weight),
        lambda: conv_transpose_nd(x[0], weight),
        lambda: ConvNd(2, 4, 3, spatial_dims=ndim)(x[0]),
        lambda: ConvTransposeNd(2, 4, 3, spatial_dims=ndim)(x[0]),
    ):
        with pytest.raises(ShapeError, match=lone):
            run()
    with raises(ShapeError, operation="conv", got="shape", remedy="check spatial_dims"):
        conv_nd(x[..., None], weight)
    with raises(ShapeError, operation="conv", expected="2 channels", got="shape"):
        conv_nd(x[:, :1], weight)
    with raises(ShapeError, operation="conv_transpose", expected="4 channels"):
        conv_transpose_nd(x, weight)
    with raises(ShapeError, expected="3 channels"):
        ConvNd(3, 4, 3, spatial_dims=ndim)(x)
    with raises(ShapeError, expected="3 channels"):
        ConvTransposeNd(3, 4, 3, spatial_dims=ndim)(x)
    with raises(ShapeError, operation="conv:3:4", expected="3 samples"):
        conv_nd(x[:, :, :2], weight)
    with raises(ShapeError, operation="convtranspose:3:4,padding=3", expected="an output left"):
        conv_transpose_nd(x, weight.transpose(0, 1), padding=3)
    with raises(
        ShapeError, operation="convtranspose", expected="output_padding below the stride", got="1"
    ):
        conv_transpose_nd(x, weight.transpose(0, 1), output_padding=1)
    with raises(ShapeError, operation="conv stride", expected="one whole number"):
        conv_nd(x, weight, stride=(1,) * (ndim + 1))
    with raises(ShapeError, operation="conv", expected="3 groups", got="4"):
        conv_nd(x.repeat(1, 3, *[1] * ndim), weight, groups=3)
    with raises(ShapeError, operation="convtranspose:3:6,groups=3", expected="3 groups", got="4"):
        conv_transpose_nd(x.repeat(1, 2, *[1] * ndim), weight, groups=3)
    with raises(UnknownNameError, operation="padding_mode", got="'mirror'"):
        conv_nd(x, weight, padding_mode="mirror")


def test_bad_modules_are_refused() -> None:
    with raises(ShapeError, operation="spatial_dims", expected="1", got="0"):
        ConvNd(1, 1, 3, spatial_dims=0)
    with raises(ShapeError, operation="spatial_dims", got="0"):
        ConvTransposeNd(1, 1, 3, spatial_dims=0)
    with raises(ShapeError, operation="conv:3:4,groups=2", expected="2 groups", got="3"):
        ConvNd(3, 4, 3, spatial_dims=2, groups=2)
    with raises(ShapeError, operation="convtranspose", expected="2 groups", got="3"):
        ConvTransposeNd(4, 3, 3, spatial_dims=2, groups=2)
    with raises(ShapeError, operation="conv kernel", expected="1, or 3"):
        ConvNd(1, 1, (3, 3), spatial_dims=3)
    with raises(UnknownNameError, operation="padding_mode", got="'reflct'", remedy="'reflect'"):
        ConvNd(1, 1, 3, spatial_dims=2, padding_mode="reflct")
