"""Networks of users as backbones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from error_fields import check_error, raises
from torch import nn

from convnd.backbones import ModuleBackbone, Precision, from_module, probe_receptive_field
from convnd.errors import UnknownNameError, UsageError
from convnd.nn import ConvNd, MaxPoolNd
from convnd.shapes import ReceptiveField

RANKS = [1, 2, 3, 4]


class Counted(nn.Module):
    """Passes on what it is given and counts how often."""

    def __init__(self) -> None:
        super().__init__()
        self.runs = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.runs += 1
        return x


class Looped(nn.Module):
    """Calls one layer once for every 8 samples, and another one behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.step = nn.Conv1d(1, 1, 3, padding=1)
        self.end = Counted()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(x.shape[-1] // 8):
            x = torch.tanh(self.step(x))
        return self.end(x)  # type: ignore[no-any-return]


def test_nothing_behind_the_deepest_layer_runs_again() -> None:
    counters = [Counted() for _ in range(3)]
    net = nn.Sequential(nn.Conv1d(1, 2, 3), counters[0], nn.ReLU(), counters[1], counters[2])
    backbone = ModuleBackbone(net, ["0", "2", "3"], spatial_dims=1, in_channels=1)
    x = torch.rand(1, 1, 12)
    for _ in range(3):
        torch.testing.assert_close(backbone(x, ["2"])["2"], net[:3](x))
    assert [module.runs for module in counters] == [3 + 3, 1, 1]
    backbone(x, ["3", "0"])
    assert [module.runs for module in counters] == [7, 2, 1]
    backbone(torch.rand(1, 1, 20), ["2"])  # another extent may take another way
    assert [module.runs for module in counters] == [8, 3, 2]
    assert not any(module._forward_hooks for module in net)


def test_gradients_do_not_mind_the_stop() -> None:
    net = nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU(inplace=True), nn.Conv1d(2, 2, 3))
    backbone = ModuleBackbone(net, ["0", "1"], spatial_dims=1, in_channels=1)
    x = torch.rand(1, 1, 12, requires_grad=True)
    (expected,) = torch.autograd.grad(net[0](x).square().sum() + net[:2](x).sum(), x)
    for _ in range(2):
        features = backbone(x, ["1", "0"])
        (gradient,) = torch.autograd.grad(features["0"].square().sum() + features["1"].sum(), x)
        torch.testing.assert_close(gradient, expected)


def test_of_a_layer_called_several_times_the_last_call_counts() -> None:
    net = Looped()
    backbone = ModuleBackbone(net, ["step"], spatial_dims=1, in_channels=1)
    for extent in (24, 8, 24, 40):
        x = torch.rand(1, 1, extent)
        h = x
        for _ in range(extent // 8 - 1):
            h = torch.tanh(net.step(h))
        torch.testing.assert_close(backbone(x, ["step"])["step"], net.step(h))
    assert net.end.runs == 3  # once for each extent


def test_a_network_that_catches_exceptions_stops_too() -> None:
    class Careful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Conv1d(1, 1, 3)
            self.behind = Counted()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            try:
                h: torch.Tensor = self.inner(x)
            except Exception:
                h = x * 0
            return self.behind(h)  # type: ignore[no-any-return]

    net = Careful()
    backbone = ModuleBackbone(net, ["inner"], spatial_dims=1, in_channels=1)
    for _ in range(3):
        torch.testing.assert_close(
            backbone(torch.ones(1, 1, 9), ["inner"])["inner"], net.inner(torch.ones(1, 1, 9))
        )
    assert net.behind.runs == 1


def test_what_fails_behind_the_layers_is_left_out() -> None:
    """As classifiers do that want one size."""
    net = nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(20, 2), nn.ReLU())
    backbone = ModuleBackbone(net, ["1", "4"], spatial_dims=1, in_channels=1)
    x = torch.rand(1, 1, 30)
    for _ in range(2):
        torch.testing.assert_close(backbone(x, ["1"])["1"], net[:2](x))
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            backbone(x, ["4"])
    assert backbone(torch.rand(1, 1, 12), ["4"])["4"].shape == (1, 2)


def test_memory_that_runs_out_behind_them_is_told() -> None:
    class Large(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("DefaultCPUAllocator: not enough memory")

    net = nn.Sequential(nn.Conv1d(1, 2, 3), Large())
    backbone = ModuleBackbone(net, ["0"], spatial_dims=1, in_channels=1)
    with pytest.raises(RuntimeError, match="not enough memory"):
        backbone(torch.rand(1, 1, 30), ["0"])


@pytest.mark.parametrize("training", [True, False])
def test_the_users_module_stays_as_it_is(training: bool) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)).train(training)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    backbone = from_module(net, ["2"])
    x = torch.rand(2, 3, 9, 9)
    torch.testing.assert_close(backbone(x, ["2"])["2"], backbone(x, ["2"])["2"])
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert backbone.module[0].weight.data_ptr() == net[0].weight.data_ptr()  # type: ignore[index, operator]
    backbone.double()
    with torch.no_grad():
        backbone.module[0].weight.zero_()  # type: ignore[index]
    assert net.training == net[1].training == training
    assert all(
        parameter.requires_grad and parameter.dtype == torch.float32
        for parameter in net.parameters()
    )
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_bfloat16_reaches_running_statistics_too() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    net(torch.rand(8, 3, 9, 9))  # statistics of its own
    backbone = from_module(net, ["2"])
    x = torch.rand(1, 3, 9, 9, requires_grad=True)
    expected = backbone(x, ["2"])["2"]
    Precision(torch.bfloat16).apply(backbone)
    features = backbone(x, ["2"])["2"]
    assert features.dtype == torch.bfloat16
    torch.testing.assert_close(features.float(), expected, rtol=0.05, atol=0.05)
    assert torch.autograd.grad(features.float().sum(), x)[0].dtype == torch.float32
    assert net[1].running_mean.dtype == net[1].weight.dtype == torch.float32


def test_layers_are_sorted_from_shallow_to_deep() -> None:
    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.second = nn.Conv1d(2, 2, 3)
            self.first = nn.Conv1d(1, 2, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.second(self.first(x))
            return y

    backbone = from_module(Turned(), ["second", "first"], in_channels=1)
    assert backbone.layers == ("first", "second")
    assert [backbone.receptive_fields[name].size for name in backbone.layers] == [(3,), (5,)]


@pytest.mark.parametrize("ndim", [1, 2, 3, pytest.param(4, marks=pytest.mark.slow)])
def test_rank_channels_and_fields_are_found_out(ndim: int) -> None:
    """Kernels and steps that differ between the axes; oracle: where the gradient lives."""
    kernel, stride = (5, 3, 4, 2)[:ndim], (2, 1, 1, 3)[:ndim]
    conv = ConvNd(2, 2, kernel, spatial_dims=ndim, stride=stride, padding=1)
    net = nn.Sequential(conv, nn.Sigmoid(), MaxPoolNd(2, spatial_dims=ndim))
    backbone = from_module(net, ["2"])
    assert (backbone.spatial_dims, backbone.in_channels) == (ndim, 2)
    field = backbone.receptive_fields["2"]
    with torch.no_grad():
        conv.weight.fill_(0.01)
    size = [16] * ndim
    for place in (1, 2):
        touched = torch.zeros(size, dtype=torch.bool)
        for seed in range(12):  # the maximum is elsewhere each time
            generator = torch.Generator().manual_seed(seed)
            x = torch.rand(1, 2, *size, generator=generator).requires_grad_()
            (gradient,) = torch.autograd.grad(net(x)[(0, 0, *[place] * ndim)], x)
            touched |= gradient[0, 0] != 0
        places = touched.nonzero()
        low, high = places.amin(0).tolist(), places.amax(0).tolist()
        region = field.region((place,) * ndim, size)
        assert [(part.start, part.stop - 1) for part in region] == list(zip(low, high, strict=True))


@pytest.mark.parametrize(
    "tail",
    [
        nn.InstanceNorm1d(2),
        nn.AdaptiveAvgPool1d(8),
        nn.AdaptiveMaxPool1d(1),
        nn.Upsample(scale_factor=2),
        nn.ConvTranspose1d(2, 2, 4, stride=2),
        nn.Flatten(),
        nn.Linear(14, 3),
    ],
    ids=lambda module: type(module).__name__,
)
def test_without_a_field_a_layer_still_works(tail: nn.Module) -> None:
    net = nn.Sequential(nn.Conv1d(1, 2, 3), tail).eval()
    backbone = from_module(net, ["0", "1"])
    assert set(backbone.receptive_fields) == {"0"}
    x = torch.rand(1, 1, 16)
    for _ in range(2):
        torch.testing.assert_close(backbone(x, ["1"])["1"], net(x))


def test_pooling_to_a_number_of_positions_has_no_field() -> None:
    """Though at the first length that is tried its windows are alike."""
    net = nn.Sequential(nn.Conv1d(1, 2, 3, padding=1), nn.AdaptiveAvgPool1d(8))
    assert from_module(net, ["1"]).receptive_fields == {}


def test_a_field_without_a_convolution() -> None:
    net = nn.Sequential(nn.AvgPool2d((3, 2), (2, 2)), nn.LeakyReLU())
    backbone = from_module(net, ["1"], spatial_dims=2, in_channels=5)
    assert backbone.receptive_fields["1"] == ReceptiveField((3, 2), (2, 2), (0, 0))
    fields = {"1": ReceptiveField((9, 9), (2, 2), (0, 0))}
    declared = from_module(net, ["1"], spatial_dims=2, in_channels=5, receptive_fields=fields)
    assert declared.receptive_fields == fields


def test_errors() -> None:
    conv = nn.Conv1d(1, 2, 3)
    with raises(UsageError, operation="from_module", expected="a convolution"):
        from_module(nn.Sequential(nn.ReLU()), ["0"])
    with raises(UnknownNameError, operation="layer", expected="0, 1", got="'x'"):
        from_module(nn.Sequential(conv, nn.ReLU()), ["x"])

    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = conv, nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.used(x)
            return y

    with raises(UnknownNameError, operation="layer that runs", expected="used", got="unu"):
        from_module(Unused(), ["used", "unused"])
    recurrent = nn.Sequential(nn.Conv1d(1, 16, 3, padding=1), nn.GRU(16, 3))
    with raises(UsageError, operation="layer 1", expected="(B, C, *S)", got="tuple"):
        from_module(recurrent, ["1"])

    class Single(nn.Conv1d):
        def __deepcopy__(self, memo: object) -> nn.Module:
            raise TypeError("there can be only one")

    with raises(UsageError, got="there can be only one"):
        from_module(nn.Sequential(Single(1, 2, 3)), ["0"])
    whole = from_module(nn.Sequential(conv, nn.InstanceNorm1d(2)), ["1"])
    with raises(UsageError, operation="layer 1", expected="along axis 0"):
        probe_receptive_field(whole, "1")


# Of DenseNet-121: 7 taps at step 2, pooling 3 at step 2, then six or twelve times 3 taps.
DENSE = {
    "features.relu0": (7, 2, -3),
    "features.pool0": (7 + 2 * 2, 4, -3 - 2),
    "features.denseblock1": (11 + 6 * 2 * 4, 4, -5 - 6 * 4),
    "features.transition1": (59 + 4, 8, -29),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ndim", "layers"),
    [
        pytest.param(1, list(DENSE), marks=pytest.mark.slow),
        (2, list(DENSE)[:3]),
        pytest.param(3, list(DENSE)[:2], marks=pytest.mark.slow),
    ],
)
def test_densenets_of_monai(ndim: int, layers: Sequence[str]) -> None:
    nets = pytest.importorskip("monai.networks.nets")
    net = nets.DenseNet121(spatial_dims=ndim, in_channels=1, out_channels=2)
    backbone = from_module(net, layers)
    for name in layers:
        size, stride, offset = DENSE[name]
        expected = ReceptiveField((size,) * ndim, (stride,) * ndim, (offset,) * ndim)
        assert backbone.receptive_fields[name] == expected
    net.eval()
    x = h = torch.rand(1, 1, *[48] * ndim)
    with torch.no_grad():
        for _ in range(2):
            features = backbone(x, layers)
        for name, part in net.features.named_children():
            h = part(h)
            if f"features.{name}" in layers:
                torch.testing.assert_close(features[f"features.{name}"], h)
            if f"features.{name}" == layers[-1]:
                break


@pytest.mark.parametrize("ndim", [1, 2, pytest.param(3, marks=pytest.mark.slow)])
def test_resnets_of_monai(ndim: int) -> None:
    nets = pytest.importorskip("monai.networks.nets")
    net = nets.resnet10(spatial_dims=ndim, n_input_channels=2, num_classes=3, conv1_t_stride=2)
    backbone = from_module(net, ["layer1"])
    # 7 taps and a pooling over 3, both at step 2, then two convolutions of 3.
    size, stride = 7 + 2 * 2 + 2 * 2 * 4, 4
    assert backbone.receptive_fields["layer1"].size == (size,) * ndim
    assert backbone.receptive_fields["layer1"].stride == (stride,) * ndim
    net.eval()
    x = torch.rand(1, 2, *[24] * ndim)
    with torch.no_grad():
        expected = net.layer1(net.maxpool(net.act(net.bn1(net.conv1(x)))))
        torch.testing.assert_close(backbone(x, ["layer1"])["layer1"], expected)


@pytest.mark.parametrize("package", ["torchvision", "timm"])
def test_pictures_networks_of_others(package: str) -> None:
    """Skipped where the package does not import, as beside a torch that is not its own."""
    try:
        if package == "torchvision":
            from torchvision.models import resnet18  # type: ignore[import-not-found]

            net = resnet18()
        else:
            import timm  # type: ignore[import-not-found]

            net = timm.create_model("resnet18")
    except Exception as error:
        pytest.skip(f"{package}: {error}")
    backbone = from_module(net, ["layer1", "layer2"])
    assert backbone.receptive_fields["layer1"] == ReceptiveField((43, 43), (4, 4), (-21, -21))
    x = torch.rand(1, 3, 64, 64)
    net.eval()
    features = backbone(x, ["layer2"])["layer2"]
    act = net.relu if package == "torchvision" else net.act1
    expected = net.layer2(net.layer1(net.maxpool(act(net.bn1(net.conv1(x))))))
    torch.testing.assert_close(features, expected)


@pytest.mark.parametrize(
    "ndim", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(3, marks=pytest.mark.slow)]
)
def test_stylize_with_a_network_of_ones_own(
    ndim: int, run: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    channels = 3 if ndim == 2 else 1
    (tmp_path / f"mine{ndim}.py").write_text(
        "import torch\nfrom torch import nn\ndef net():\n    torch.manual_seed(0)\n"
        f"    return nn.Sequential(nn.Conv{ndim}d({channels}, 4, 3), nn.ReLU(), "
        f"nn.BatchNorm{ndim}d(4), nn.Conv{ndim}d(4, 6, 3), nn.ReLU(), nn.Flatten(), "
        "nn.Linear(5, 2))\n"
    )
    names = ["bodies", "cells"] if ndim == 3 else []  # the demo of three axes is a scan
    command = [
        "stylize",
        *names,
        "--dim",
        ndim,
        "--backbone",
        f"mine{ndim}:net",
        "-q",
        "--steps",
        3,
    ]
    command += ["--content-layers", "4", "--size", {1: 300, 2: 40, 3: 32}[ndim]]
    command += ["--steps", 3, "--scales", 1, "--overwrite"]
    code, out, err = run(*command, "--style-layers", "1,4")
    assert code == 0
    # Its features grow fast, and the built-in recordings have beats.
    assert all("was rejected" in line or "R peaks" in line for line in err.splitlines())
    assert "3 steps" in out
    code, _, err = run(*command, "--style-layers", "relu1_1")
    assert code == 2
    check_error(err, operation="layer", expected="one of 0, 1, 2, 3, 4, 5, 6", got="'relu1_1'")
    code, _, err = run(*command, "--style-layers", "1", "--pooling", "avg")
    assert code == 2
    check_error(err, expected="one of the shipped networks with pooling and inflation")


def test_a_network_for_other_data_is_refused(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    (tmp_path / "grey.py").write_text(
        "from torch import nn\nnet = nn.Sequential(nn.Conv2d(1, 4, 3))\n"
    )
    layers = ["--content-layers", "0", "--style-layers", "0", "--steps", 1, "--size", 32]
    code, _, err = run("stylize", "--dim", 2, "--backbone", "grey:net", *layers)
    assert code == 2
    assert (
        "grey:net: expected a network for 3 channels, which the data have, got one that takes 1"
        in err
    )
    code, _, err = run("stylize", "bodies", "ink", "--dim", 3, "--backbone", "grey:net", *layers)
    assert code == 2
    check_error(err, operation="grey:net", expected="2 spatial axes", got="3")
