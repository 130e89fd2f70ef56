"""What works under which of torch's tools, found out by trying.

``python tests/support/compatibility.py`` writes the table in ``docs/reference/compatibility.md``.
"""

from __future__ import annotations

import copy
import io
import logging
import pickle
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.distributed as dist
from components import LOSSES, make_losses
from layers import CASES
from torch import Tensor, fx, nn

from convnd.backbones import VGG, VGGPlan
from convnd.backbones.plain import PlainVGG
from convnd.losses import PerceptualLoss
from convnd.nn import fft_conv_nd, grid_sample_nd
from convnd.stats import STATISTICS

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "compatibility.md"
RANKS = (1, 2, 3, 4)
_PLAN = VGGPlan(widths=((4,), (5,)))


class _Features(nn.Module):
    """A frozen network that gives one layer."""

    def __init__(self, ndim: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.net = VGG(_PLAN, spatial_dims=ndim, in_channels=4, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.net(x, ["relu2_1"])["relu2_1"]
        return features


class _Perceptual(nn.Module):
    def __init__(self, ndim: int) -> None:
        super().__init__()
        net = _Features(ndim).net
        self.loss = PerceptualLoss(
            spatial_dims=ndim, backbone=net, content=["relu1_1"], style=["relu2_1"]
        )

    def forward(self, x: Tensor) -> Tensor:
        value: Tensor = self.loss(x, x.detach().flip(-1))
        return value


class _FFTConv(nn.Module):
    """`fft_conv_nd` with fixed weights."""

    weight: Tensor

    def __init__(self, ndim: int) -> None:
        super().__init__()
        weight = torch.rand(2, 4, *[3] * ndim, generator=torch.Generator().manual_seed(1))
        self.register_buffer("weight", weight)

    def forward(self, x: Tensor) -> Tensor:
        return fft_conv_nd(x, self.weight, None, 2, 1)


class _Sampled(nn.Module):
    """`grid_sample_nd` at fixed positions."""

    grid: Tensor

    def __init__(self, ndim: int) -> None:
        super().__init__()
        shape = (1, *[3] * ndim, ndim)
        positions = torch.rand(shape, generator=torch.Generator().manual_seed(1))
        self.register_buffer("grid", 2.4 * positions - 1.2)

    def forward(self, x: Tensor) -> Tensor:
        return grid_sample_nd(x, self.grid)


class _Plain(nn.Module):
    """The layer of `_Features` in torch's layers."""

    def __init__(self, ndim: int) -> None:
        super().__init__()
        self.net = PlainVGG(_Features(ndim).net, ["relu2_1"])

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.net(x)["relu2_1"]
        return features


def _loss(name: str) -> Callable[[int], nn.Module]:
    def make(ndim: int) -> nn.Module:
        target = torch.rand(1, 3, *[6] * ndim, generator=torch.Generator().manual_seed(1))
        loss = make_losses(target)[name]
        assert isinstance(loss, nn.Module)
        return loss

    return make


_LOSS_NAMES = {name: f"StyleLoss, {name}" for name in (*STATISTICS, "projected")} | {
    "content": "ContentLoss",
    "total_variation": "TotalVariationLoss",
    "local_affine": "LocalAffineLoss",
    "temporal": "TemporalLoss",
    "events": "EventLoss",
}


SUBJECTS: dict[str, Callable[[int], nn.Module]] = {
    **{name: case.make for name, case in CASES.items()},
    "fft_conv_nd": _FFTConv,
    "grid_sample_nd": _Sampled,
    "frozen VGG": _Features,
    "plain VGG": _Plain,
    "PerceptualLoss": _Perceptual,
    **{_LOSS_NAMES[name]: _loss(name) for name in LOSSES},
    **{f"statistic {name}": lambda _, name=name: STATISTICS[name] for name in STATISTICS},  # type: ignore[misc]
}


def _compile(module: nn.Module, x: Tensor) -> Tensor:
    torch._dynamo.reset()
    result: Tensor = torch.compile(module, fullgraph=True, backend="aot_eager")(x)
    return result


def _export(module: nn.Module, x: Tensor) -> Tensor:
    result: Tensor = torch.export.export(module, (x,)).module()(x)
    return result


def _gradient(module: nn.Module, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(module(x).sum(), x)
    return gradient


def _jacrev(module: nn.Module, x: Tensor) -> Tensor:
    jacobian = torch.func.jacrev(lambda x: module(x).sum())(x)
    torch.testing.assert_close(jacobian, _gradient(module, x))
    result: Tensor = module(x)
    return result


def _second(module: nn.Module, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    torch.autograd.gradgradcheck(lambda x: module(x).sin(), x, fast_mode=True, atol=1e-3)
    result: Tensor = module(x)
    return result


def _autocast(module: nn.Module, x: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y: Tensor = module(x.requires_grad_())
    torch.autograd.grad(y.float().sum(), x)
    expected: Tensor = module(x)
    assert (y - expected).norm() < 0.05 * expected.norm()
    return expected


def _onnx(module: nn.Module, x: Tensor) -> Tensor:
    """Export a module, and run it in ONNX Runtime."""
    import onnxruntime

    program = torch.onnx.export(module, (x,), dynamo=True, verbose=False)
    assert program is not None
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    (result,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    return torch.from_numpy(result)


class _Scaled(nn.Module):
    """A module behind a parameter, which `DistributedDataParallel` asks for."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.module(x * self.scale)
        return result


def _distributed(module: nn.Module, x: Tensor) -> Tensor:
    """Train a module in a group of one process: buffers are sent, gradients are reduced."""
    store = dist.HashStore()  # type: ignore[attr-defined]
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        scaled = _Scaled(module)
        result: Tensor = nn.parallel.DistributedDataParallel(scaled)(x)
        result.sum().backward()
        reduced = scaled.scale.grad
        (expected,) = torch.autograd.grad(scaled(x).sum(), scaled.scale)
        torch.testing.assert_close(reduced, expected)
        return result
    finally:
        dist.destroy_process_group()


def _trace(module: nn.Module, x: Tensor) -> Tensor:
    """Trace with one input, save, and run the file with another of the same shape."""
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(module, (x.flip(-1),), check_trace=False), file)
    file.seek(0)
    result: Tensor = torch.jit.load(file)(x)
    return result


TOOLS: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "deepcopy": lambda module, x: copy.deepcopy(module)(x),
    "pickle": lambda module, x: pickle.loads(pickle.dumps(module))(x),
    "fx": lambda module, x: fx.symbolic_trace(nn.Sequential(nn.Identity(), module))(x),
    "jit.script": lambda module, x: torch.jit.script(module)(x),
    "jit.trace": _trace,
    "compile": _compile,
    "export": _export,
    "vmap": lambda module, x: torch.func.vmap(module)(x[None])[0],
    "jacrev": _jacrev,
    "jvp": lambda module, x: torch.func.jvp(module, (x,), (x,))[0],
    "double backward": _second,
    "autocast": _autocast,
    "ONNX": _onnx,
    "DDP": _distributed,
}


def works(tool: str, subject: str, ndim: int) -> bool:
    """Whether a tool gives the subject's own result."""
    generator = torch.Generator().manual_seed(2)
    case = CASES.get(subject)
    if case:
        x = case.input(ndim, generator)
    else:
        channels = 3 if subject in _LOSS_NAMES.values() else 4
        x = torch.rand(1, channels, *[6] * ndim, generator=generator)
    dtype = torch.float32 if tool in ("autocast", "ONNX") else torch.float64
    x = x.to(dtype)
    try:
        module = SUBJECTS[subject](ndim).eval().to(dtype)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            y = TOOLS[tool](module, x)
            expected = module(x)
        close = {"rtol": 1e-3, "atol": 1e-5} if tool == "ONNX" else {}
        torch.testing.assert_close(y, expected, **close)  # type: ignore[arg-type]
    except Exception:  # whatever the tool raises, it does not work
        return False
    return True


def column(tool: str) -> list[str]:
    """What is found for a tool: a cell for each subject."""
    logging.disable(logging.CRITICAL)  # the exporter prints the graphs that it gives up
    cells = []
    for subject in SUBJECTS:
        ranks = [ndim for ndim in RANKS if works(tool, subject, ndim)]
        cells.append("✓" if len(ranks) == len(RANKS) else ", ".join(map(str, ranks)) or "–")
    return cells


def table() -> str:
    """The table in Markdown."""
    lines = [f"| | {' | '.join(TOOLS)} |", "|---" * (len(TOOLS) + 1) + "|"]
    for subject, *cells in zip(SUBJECTS, *map(column, TOOLS), strict=True):
        lines.append(f"| {subject} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


TEXT = """# What works under torch's tools

A test tries each cell: ✓ means that the tool gives the same result as the module for one, two,
three and four axes; numbers are the numbers of axes for which it does; – means that it does not.
[The reasons](#what-does-not-work) are below the table. The names are those of the cases in
`tests/support/layers.py`. In a graph of fx, a module of convnd is one node, as torch's layers are.
Traces of `torch.jit` are saved, and run with another input of the same shape. Files of ONNX are run
in ONNX Runtime, in float32. DDP is `DistributedDataParallel` around the module and a parameter.
Losses and statistics are called as modules.

"""

_OF_LOSSES = (
    "PerceptualLoss",
    *_LOSS_NAMES.values(),
    *(f"statistic {name}" for name in STATISTICS),
)

REASONS: tuple[tuple[str, Sequence[str], str], ...] = (
    (
        "jit.script",
        ("frozen VGG", *_OF_LOSSES),
        "Losses, statistics and networks choose functions by name and keep their sums in "
        "dataclasses. TorchScript compiles neither, and torch develops it no further. "
        "`torch.jit.trace` makes the same kind of file, and `torch.export` is its successor. Of a "
        "network, `load(..., plain=True)` can be scripted.",
    ),
    (
        "jit.script",
        ("fft_conv_nd", "grid_sample_nd"),
        "The functions take one number or one per axis, which TorchScript has no type for. Trace a "
        "module that calls them.",
    ),
    (
        "ONNX",
        ("fft_conv_nd",),
        "torch's exporter has no products of complex numbers. `conv_nd` gives the same values.",
    ),
    (
        "ONNX",
        ("adaptive_max_pool", "adaptive_avg_pool", "upsample_area"),
        "torch's exporter has no adaptive maximum, and no adaptive average over three axes. Use "
        "poolings with fixed windows.",
    ),
    (
        "ONNX",
        ("avg_pool_ceil",),
        "Over four axes it consists of poolings over fewer, and ONNX Runtime computes these "
        "otherwise where a window goes beyond the end. Use `ceil_mode=False`.",
    ),
    (
        "every tool",
        ("plain VGG",),
        "A plain network consists of torch's layers, which end at three axes.",
    ),
)


def reasons() -> str:
    """The reasons in Markdown."""
    lines = ["## What does not work", ""]
    for tool, subjects, text in REASONS:
        names = "losses, statistics and networks" if len(subjects) > 4 else ", ".join(subjects)
        lines.append(f"- **{names}, {tool}**: {text}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(f"{TEXT}{table()}\n{reasons()}", encoding="utf-8")
