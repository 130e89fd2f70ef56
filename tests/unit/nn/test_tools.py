"""The layers under torch's tools: fx, TorchScript, compile, export, vmap, copies, autocast."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from layers import CASES
from torch import Tensor, fx, nn

from convnd import nn as cn

pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.:FutureWarning"),
]

RANKS = (1, 2, 3, 4)
every_layer = pytest.mark.parametrize("name", CASES)
# Up to three axes, the operators stand in one table; the fourth is folded into the batch.
every_rank = pytest.mark.parametrize(
    "ndim",
    [ndim if ndim in (2, 4) else pytest.param(ndim, marks=pytest.mark.slow) for ndim in RANKS],
)


def make(name: str, ndim: int, generator: torch.Generator) -> tuple[nn.Module, Tensor]:
    case = CASES[name]
    return case.make(ndim).eval(), case.input(ndim, generator)


@every_rank
@every_layer
def test_fx(name: str, ndim: int, generator: torch.Generator) -> None:
    module, x = make(name, ndim, generator)
    graph = fx.symbolic_trace(nn.Sequential(nn.Identity(), module))
    layers = [node.target for node in graph.graph.nodes if node.op == "call_module"]
    assert layers == ["0", "1"]  # one node each, as torch's own layers have
    torch.testing.assert_close(graph(x), module(x))
    constants = {"output_size": None} if name == "conv_transpose" else None
    torch.testing.assert_close(fx.symbolic_trace(module, constants)(x), module(x))


def test_fx_of_functions(generator: torch.Generator) -> None:
    weight = torch.rand(2, 4, *[2] * 4, generator=generator)

    def function(x: Tensor) -> Tensor:
        x = cn.pad_nd(x, 1, "reflect")
        x = cn.conv_nd(x, weight)
        x = cn.conv_transpose_nd(x, weight)
        x = cn.avg_pool_nd(cn.max_pool_nd(x, 2, 1), 2, 1)
        x = cn.adaptive_max_pool_nd(cn.adaptive_avg_pool_nd(x, 4), 3)
        x = cn.fold_nd(cn.unfold_nd(x, 1), x.shape[2:], 1)
        x = cn.pixel_shuffle_nd(cn.pixel_unshuffle_nd(cn.gaussian_blur_nd(x, 1.0), 3), 3)
        return cn.resize_nd(cn.interpolate_nd(x, 2), 3)

    x = torch.rand(1, 4, *[4] * 4, generator=generator)
    graph = fx.symbolic_trace(function)
    assert sum(node.op == "call_function" for node in graph.graph.nodes) == 16
    torch.testing.assert_close(graph(x), function(x))


@every_rank
@every_layer
def test_torchscript(name: str, ndim: int, generator: torch.Generator) -> None:
    module, x = make(name, ndim, generator)
    net = nn.Sequential(module, nn.Identity())
    scripted = torch.jit.script(net)
    assert net[0] is module
    torch.testing.assert_close(scripted(x), module(x))
    file = io.BytesIO()
    torch.jit.save(scripted, file)
    file.seek(0)
    torch.testing.assert_close(torch.jit.load(file)(x), module(x))


@pytest.mark.parametrize("ndim", RANKS)
def test_torchscript_follows_unusual_arguments(ndim: int, generator: torch.Generator) -> None:
    x = torch.rand(2, 4, *[7] * ndim, generator=generator)
    pairs = ((2, 0), (1, 1), (0, 2), (1, 2))[:ndim]
    for module in (
        cn.ConvNd(4, 2, 3, 2, pairs, 2, 2, padding_mode="replicate", spatial_dims=ndim),
        cn.ConvTransposeNd(4, 6, 3, 2, pairs, 1, 2, True, 2, spatial_dims=ndim),
        cn.MaxPoolNd(3, 2, pairs, 1, False, True, spatial_dims=ndim),
        cn.AvgPoolNd(3, 2, pairs, True, False, spatial_dims=ndim),
        cn.AvgPoolNd(3, 2, pairs, True, True, 5, spatial_dims=ndim),
        cn.AdaptiveAvgPoolNd((None, *[2] * (ndim - 1)), spatial_dims=ndim),
        cn.PadNd([(-1, 2)] * ndim, "replicate", spatial_dims=ndim),
    ):
        torch.testing.assert_close(torch.jit.script(module)(x), module(x))


@every_rank
@every_layer
def test_copies(name: str, ndim: int, generator: torch.Generator) -> None:
    module, x = make(name, ndim, generator)
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(twin(x), module(x))
        assert repr(twin) == repr(module)


@every_rank
@every_layer
def test_functional_transforms(name: str, ndim: int, generator: torch.Generator) -> None:
    module, x = make(name, ndim, generator)
    module, x = module.double(), x.double()
    state: dict[str, Tensor] = dict(module.named_parameters())

    def function(x: Tensor) -> Tensor:
        result: Tensor = torch.func.functional_call(module, state, (x,))
        return result

    many = torch.stack([x, 2 * x, x - 1])
    expected = torch.stack([module(values) for values in many])
    torch.testing.assert_close(torch.func.vmap(function)(many), expected)
    x = x.clone().requires_grad_()
    y = function(x)
    seed = torch.rand(y.shape, generator=generator, dtype=x.dtype)
    (gradient,) = torch.autograd.grad(y, x, seed)
    along = torch.func.vjp(function, x.detach())[1](seed)[0]
    torch.testing.assert_close(along, gradient)
    tangent = torch.rand(x.shape, generator=generator, dtype=x.dtype)
    change = torch.func.jvp(function, (x.detach(),), (tangent,))[1]
    torch.testing.assert_close((change * seed).sum(), (tangent * gradient).sum())


@every_rank
@every_layer
def test_second_derivatives(name: str, ndim: int, generator: torch.Generator) -> None:
    module, x = make(name, ndim, generator)
    module, x = module.double(), x.double()[:1].requires_grad_()
    assert torch.autograd.gradgradcheck(
        lambda x: module(x).sin(), x, fast_mode=True, check_batched_grad=False
    )


@every_rank
@every_layer
def test_autocast_and_half_precision(name: str, ndim: int, generator: torch.Generator) -> None:
    module, x = make(name, ndim, generator)
    expected = module(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = module(x.requires_grad_())
        y.float().sum().backward()
    torch.testing.assert_close(y.float(), expected, atol=0.05, rtol=0.05)
    for dtype in (torch.float16, torch.bfloat16):
        half = copy.deepcopy(module).to(dtype)
        y = half(x.detach().to(dtype).requires_grad_())
        assert y.dtype == dtype
        torch.testing.assert_close(y.float(), expected, atol=0.05, rtol=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("ndim", [2, 4])
@every_layer
def test_compile_and_export(name: str, ndim: int, generator: torch.Generator) -> None:
    module, x = make(name, ndim, generator)
    torch._dynamo.reset()
    compiled: Callable[..., Any] = torch.compile(module, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), module(x))
    program = torch.export.export(module, (x,))
    torch.testing.assert_close(program.module()(x), module(x))


@pytest.mark.parametrize("momentum", [0.1, None])
def test_torchscript_trains_batch_norms(momentum: float | None, generator: torch.Generator) -> None:
    module = cn.BatchNormNd(3, momentum=momentum, spatial_dims=4)
    scripted = torch.jit.script(copy.deepcopy(module))
    for _ in range(2):
        x = torch.rand(2, 3, 2, 2, 2, 2, generator=generator)
        torch.testing.assert_close(scripted(x), module(x))
    for key, value in module.state_dict().items():
        torch.testing.assert_close(scripted.state_dict()[key], value)
