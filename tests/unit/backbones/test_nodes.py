"""Features by the names of torchvision's feature extraction, timm's layers, and plain networks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from error_fields import raises
from torch import Tensor, fx, nn

from convnd.backbones import PlainVGG, from_module, load, node_names
from convnd.errors import UnknownNameError, UsageError


class Block(nn.Module):
    """A residual block that calls one ReLU twice and adds in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.relu(self.conv(x))
        y = self.conv(y)
        y += x
        result: Tensor = self.relu(y)
        return result


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU())
        self.block = Block()

    def forward(self, x: Tensor) -> Tensor:
        x = self.block(self.stem(x))
        x = F.max_pool2d(x, 2) * 2 + 1
        if float(x.detach().sum()) > 1e9:  # no tracer can follow
            x = -x
        return torch.cat([x, x.relu()], 1).flatten(1)


def test_every_operation_has_torchvisions_name(generator: torch.Generator) -> None:
    net = Network()
    x = torch.rand(2, 1, 8, 8, generator=generator)
    stem = net.stem(x)
    first = net.block.conv(stem)
    second = net.block.conv(first.relu())
    total = second + stem
    pooled = F.max_pool2d(total.relu(), 2)
    expected = {
        "stem": stem,
        "stem.0": net.stem[0](x),
        "stem.1": stem,
        "block.conv": first,
        "block.relu": first.relu(),
        "block.conv_1": second,
        "block.add": total,
        "block.relu_1": total.relu(),
        "block": total.relu(),
        "max_pool2d": pooled,
        "mul": 2 * pooled,
        "add": 2 * pooled + 1,
        "relu": (2 * pooled + 1).relu(),
        "cat": torch.cat([2 * pooled + 1, (2 * pooled + 1).relu()], 1),
    }
    order = ["stem.0", "stem.1", "stem", "block.conv", "block.relu", "block.conv_1", "block.add"]
    names = node_names(net, x)
    assert names[:9] == [*order, "block.relu_1", "block"]
    assert set(expected) <= set(names)
    backbone = from_module(net, list(expected), nodes=True, receptive_fields={})
    for layers in (list(expected), ["block.conv_1", "block.relu"], ["add"]):  # then it stops early
        features = backbone(x, layers)
        for name in layers:
            torch.testing.assert_close(features[name], expected[name])
    assert from_module(net, ["block.add"], nodes=True).receptive_fields["block.add"].size == (7, 7)


def test_a_node_that_does_not_run() -> None:
    with raises(UnknownNameError, got="'block.mul'", expected="block.conv_1"):
        from_module(Network(), ["block.mul"], nodes=True)


def test_the_layers_of_timm(generator: torch.Generator) -> None:
    class Info:
        def module_name(self) -> list[str]:
            return ["0", "stages.0"]

    net: Any = nn.Sequential()
    net.add_module("0", nn.Conv1d(1, 2, 3))
    net.add_module("stages_0", nn.ReLU())
    net.feature_info = Info()
    backbone = from_module(net)
    assert backbone.layers == ("0", "stages_0")
    x = torch.rand(1, 1, 9, generator=generator)
    torch.testing.assert_close(backbone(x, ["stages_0"])["stages_0"], net[0](x).relu())
    with raises(UsageError, operation="from_module", got="Network"):
        from_module(Network())


@pytest.mark.slow
def test_against_torchvision(generator: torch.Generator) -> None:
    torchvision = pytest.importorskip("torchvision", exc_type=ImportError)
    extraction = pytest.importorskip("torchvision.models.feature_extraction")
    net = torchvision.models.resnet18().eval()
    for module in net.modules():
        module.inplace = False  # its extractor returns what later layers overwrite
    names = extraction.get_graph_node_names(net)[1][1:]
    x = torch.rand(1, 3, 64, 64, generator=generator)
    inside = {path for path, module in net.named_modules() if list(module.children())}
    assert [name for name in node_names(net, x) if name not in inside] == names
    expected = extraction.create_feature_extractor(net, names)(x)
    features = from_module(net, names, nodes=True, receptive_fields={})(x, names)
    assert all(torch.equal(features[name], expected[name]) for name in names)


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")
@pytest.mark.parametrize("pooling", ["max", "avg"])
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_plain_networks_have_the_features(
    ndim: int, pooling: str, generator: torch.Generator
) -> None:
    layers = ["relu1_1", "conv2_2", "pool2"]
    options: dict[str, Any] = {"spatial_dims": ndim, "layers": layers, "pooling": pooling}
    net, plain = load("compact", **options), load("compact", **options, plain=True)
    x = torch.rand(2, 3, *[12] * ndim, generator=generator)
    expected, features = net(x, layers), plain(x)
    assert list(features) == layers
    scripted, traced = torch.jit.script(plain), fx.symbolic_trace(plain)
    for name in layers:
        scale = float(expected[name].abs().max())
        torch.testing.assert_close(features[name], expected[name], rtol=1e-4, atol=1e-5 * scale)
        for copy in (scripted, traced):
            torch.testing.assert_close(copy(x)[name], features[name])
    modules = [type(module).__module__ for module in plain.modules()]
    assert all(name.startswith("torch.nn") for name in modules[1:])


def test_all_layers_of_a_plain_network() -> None:
    plain = load("compact", plain=True)
    assert isinstance(plain, PlainVGG)
    assert list(plain.outputs) == list(plain.trunk)
    with raises(UsageError, operation="plain", got="4"):
        load("compact", spatial_dims=4, layers=["relu1_1"], plain=True)
