"""Frozen networks under autocast, torch.func, second derivatives and the compiler."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from convnd.backbones import VGG, ModuleBackbone, MultiPlanar, Precision, VGGPlan
from convnd.errors import UsageError
from convnd.losses import Objective, StyleLoss, Term, TotalVariationLoss
from convnd.optimize import evaluate_whole
from convnd.stats import STATISTICS

pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning"),
]

PLAN = VGGPlan(widths=((4, 3), (5,)), projections={"relu2_1": 2}, ranks={"conv1_2": (2, 2)})
ASKED = (["relu2_1"], ["conv1_1", "relu1_2", "pool1", "relu2_1", "pool2"], ["relu1_1", "conv2_1"])
every_rank = pytest.mark.parametrize(
    "ndim", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(3, marks=pytest.mark.slow), 4]
)


def network(ndim: int, generator: torch.Generator, **options: Any) -> VGG:
    return VGG(PLAN, spatial_dims=ndim, in_channels=2, generator=generator, **options).eval()


def field(ndim: int, generator: torch.Generator, batch: int = 1) -> Tensor:
    size = (6, 4, 5, 4)[:ndim]
    return torch.rand(batch, 2, *size, generator=generator, dtype=torch.float64)


def energy(net: VGG, x: Tensor, layers: list[str]) -> Tensor:
    """A smooth function of the features of several layers."""
    features = net(x, layers)
    return torch.stack([features[name].sin().sum() for name in layers]).sum()


@pytest.mark.parametrize("pooling", ["max", "avg"])
@pytest.mark.parametrize("layers", ASKED, ids=len)
@every_rank
def test_second_derivatives(
    ndim: int, layers: list[str], pooling: str, generator: torch.Generator
) -> None:
    net, x = network(ndim, generator, pooling=pooling).double(), field(ndim, generator)
    x.requires_grad_()
    trained = copy.deepcopy(net).requires_grad_(True)  # torch's own operators
    tangent = torch.rand(x.shape, generator=generator, dtype=x.dtype)
    products = []
    for module in (net, trained):
        (gradient,) = torch.autograd.grad(energy(module, x, layers), x, create_graph=True)
        products.append((gradient, *torch.autograd.grad(gradient, x, tangent)))
    for ours, theirs in zip(*products, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert torch.autograd.gradgradcheck(
        lambda x: energy(net, x, layers), x, fast_mode=True, atol=1e-4
    )


@pytest.mark.parametrize("layers", ASKED, ids=len)
@every_rank
def test_transforms(ndim: int, layers: list[str], generator: torch.Generator) -> None:
    net, x = network(ndim, generator).double(), field(ndim, generator)
    tangent = torch.rand(x.shape, generator=generator, dtype=x.dtype)

    def function(x: Tensor) -> Tensor:
        return energy(net, x, layers)

    x.requires_grad_()
    (gradient,) = torch.autograd.grad(function(x), x)
    x = x.detach()
    torch.testing.assert_close(torch.func.grad(function)(x), gradient)
    torch.testing.assert_close(torch.func.jacrev(function)(x), gradient)
    change = torch.func.jvp(function, (x,), (tangent,))[1]
    torch.testing.assert_close(change, (gradient * tangent).sum())
    fields = torch.stack([x, tangent])
    expected = torch.stack([function(x), function(tangent)])
    torch.testing.assert_close(torch.func.vmap(function)(fields), expected)


def test_functional_call_and_ensembles(generator: torch.Generator) -> None:
    nets = [network(2, generator) for _ in range(3)]
    x = field(2, generator).float()

    def run(state: dict[str, Tensor], x: Tensor) -> Tensor:
        result: Tensor = torch.func.functional_call(nets[0], state, (x, ["relu2_1"]))["relu2_1"]
        return result

    expected = torch.stack([net(x, ["relu2_1"])["relu2_1"] for net in nets])
    for net, features in zip(nets, expected, strict=True):
        state: dict[str, Tensor] = {**dict(net.named_parameters()), **dict(net.named_buffers())}
        torch.testing.assert_close(run(state, x), features)
    # The weights that the network holds are its own again.
    torch.testing.assert_close(nets[0](x, ["relu2_1"])["relu2_1"], expected[0])
    parameters, buffers = torch.func.stack_module_state(list[nn.Module](nets))
    together = torch.func.vmap(run, (0, None))({**parameters, **buffers}, x)
    torch.testing.assert_close(together, expected)


def test_a_trained_bias_is_trained(generator: torch.Generator) -> None:
    net = network(1, generator)
    net.convolutions["conv1_1"].get_parameter("bias").requires_grad_(True)
    net(field(1, generator).float(), ["relu1_1"])["relu1_1"].sum().backward()
    gradient = net.convolutions["conv1_1"].get_parameter("bias").grad
    assert gradient is not None
    assert gradient.abs().sum() > 0


@every_rank
def test_activation_checkpointing(ndim: int, generator: torch.Generator) -> None:
    net, x = network(ndim, generator), field(ndim, generator).float().requires_grad_()
    (expected,) = torch.autograd.grad(energy(net, x, ["relu2_1"]), x)
    value = checkpoint(lambda x: energy(net, x, ["relu2_1"]), x, use_reentrant=False)
    torch.testing.assert_close(torch.autograd.grad(value, x)[0], expected)


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@every_rank
def test_autocast(ndim: int, dtype: torch.dtype, frozen: bool, generator: torch.Generator) -> None:
    net = network(ndim, generator, pooling="avg").requires_grad_(not frozen)
    x = field(ndim, generator, batch=2).float().requires_grad_()
    layers = ["relu1_2", "relu2_1"]
    exact = net(x, layers)
    (expected,) = torch.autograd.grad(sum(values.sum() for values in exact.values()), x)
    for _ in range(2):
        with torch.autocast("cpu", dtype=dtype):
            features = net(x, layers)
        total = torch.stack([values.float().sum() for values in features.values()]).sum()
        (gradient,) = torch.autograd.grad(total, x)
        for name in layers:
            assert features[name].dtype == dtype
            torch.testing.assert_close(features[name].float(), exact[name], atol=0.1, rtol=0.05)
        # Rounding moves a few values over the kink of a ReLU.
        assert (gradient - expected).norm() < 0.2 * expected.norm()
        assert gradient.dtype == torch.float32
    torch.testing.assert_close(net(x, layers), exact)  # nothing of it stays


def test_style_loss_of_frozen_features_under_autocast(generator: torch.Generator) -> None:
    net = network(2, generator)
    x = field(2, generator, batch=3).float().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        target = STATISTICS["gram"].sums(net(x.detach()[:1] / 2, ["relu1_2"])["relu1_2"])
        loss = StyleLoss(target, layer="relu1_2")
        value = loss.value(loss.sums(net(x, ["relu1_2"])["relu1_2"]))
    value.backward()
    assert value.dtype == torch.float32
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("pooling", ["max", "avg"])
@pytest.mark.parametrize("ndim", [1, 2, 4])
def test_compiled_as_one_graph(
    ndim: int, pooling: str, frozen: bool, generator: torch.Generator
) -> None:
    net = network(ndim, generator, pooling=pooling).requires_grad_(not frozen)
    x = field(ndim, generator).float().requires_grad_()
    torch._dynamo.reset()

    def function(x: Tensor) -> Tensor:
        return energy(net, x, ["relu1_2", "relu2_1"])

    compiled: Callable[[Tensor], Tensor] = torch.compile(
        function, fullgraph=True, backend="aot_eager"
    )
    torch.testing.assert_close(compiled(x), function(x))
    torch.testing.assert_close(
        torch.autograd.grad(compiled(x), x), torch.autograd.grad(function(x), x)
    )


def smooth() -> Term:
    return Term("smooth", 1.0, TotalVariationLoss([1.0]))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float32])
def test_an_objective_leaves_the_users_module_as_it_is(dtype: torch.dtype) -> None:
    module = nn.Sequential(nn.Conv1d(1, 4, 3, padding=1), nn.BatchNorm1d(4), nn.Tanh()).to(dtype)
    backbone = ModuleBackbone(module.eval(), ["2"], spatial_dims=1, in_channels=1)
    before = {
        name: (id(value), value.clone())
        for name, value in module.state_dict(keep_vars=True).items()
    }
    pointers = [value.data_ptr() for value in module.state_dict().values()]
    x = torch.rand(1, 1, 8)
    target = STATISTICS["gram"].sums(backbone(x, ["2"])["2"].detach())
    style = Term("style", 1.0, StyleLoss(target, layer="2"))
    for precision in (None, Precision(), Precision(torch.float64), Precision(torch.bfloat16)):
        objective = Objective(backbone, [smooth(), style], precision=precision)
        assert objective.backbone is not None
        evaluate_whole(objective, x)
        objective.switch_to_float32()
        evaluate_whole(objective, x)
        for name, value in module.state_dict(keep_vars=True).items():
            assert (id(value), value.dtype) == (before[name][0], before[name][1].dtype)
            assert torch.equal(value, before[name][1])
        assert [value.data_ptr() for value in module.state_dict().values()] == pointers
    assert Objective(backbone, [smooth()]).backbone is backbone


def test_an_objective_computes_in_its_precision(generator: torch.Generator) -> None:
    net = network(2, generator)
    planes = MultiPlanar(net, spatial_dims=3)
    for backbone in (net, planes):
        objective = Objective(
            backbone,
            [Term("smooth", 1.0, TotalVariationLoss([1.0]))],
            precision=Precision(torch.bfloat16),
        )
        assert {p.dtype for p in objective.backbone.parameters()} == {torch.float32, torch.bfloat16}
        assert {p.dtype for p in backbone.parameters()} == {torch.float32}
        assert objective.switch_to_float32()
        assert {p.dtype for p in objective.backbone.parameters()} == {torch.float32}


def test_a_module_that_cannot_be_copied_is_refused_instead_of_cast() -> None:
    class Single(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(1, 1, 1)

        def __deepcopy__(self, memo: object) -> Single:
            raise TypeError("there is only one")

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.conv(x)
            return result

    backbone = ModuleBackbone(Single().double(), ["conv"], spatial_dims=1, in_channels=1)
    Objective(backbone, [smooth()])
    with pytest.raises(UsageError) as caught:
        Objective(backbone, [smooth()], precision=Precision())
    assert caught.value.operation == "Objective"
