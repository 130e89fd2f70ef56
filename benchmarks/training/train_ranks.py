"""Train a backbone of any rank on procedural fields, with one recipe for all ranks.

    python -m benchmarks.training.train_ranks train --dim 1 --work W1 --steps 1500
    python -m benchmarks.training.train_ranks train --dim 3 --work W3 --learn slices --steps 600
    python -m benchmarks.training.train_ranks export --work W1 --out compact1d.safetensors

There are two training tasks. Temporary heads on the layers that style transfer reads predict:

- ``processes``: from mean and standard deviation of each layer's channels, the two processes that
  made the field and their parameters (`procedural.FAMILIES`); from relu3_1 and relu4_2, at each
  position, the structure without texture and noise.
- ``slices``: at each position, the features of the package's network for pictures in the slices
  through this position along every pair of axes (distillation; two axes or more).

The layers are those of the compact network for pictures, with smaller widths for more axes. A run
has one seed, writes a checkpoint every 100 steps and continues from it. ``export`` writes 8-bit
codes with one scale per output channel, at most 4 MB.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from benchmarks.common import CONTENT_LAYER, STYLE_LAYERS
from benchmarks.training.procedural import FAMILIES, GAIN, PARAMETERS, Example, example
from convnd.backbones import VGG, VGGPlan, load
from convnd.io.atomic import atomic_path
from convnd.nn import resize_nd

LAYERS = (*STYLE_LAYERS, CONTENT_LAYER)
DENSE = ("relu3_1", CONTENT_LAYER)


def plan_for(spatial_dims: int) -> VGGPlan:
    """The layers of the compact network, with widths for a file of at most 4 MB.

    >>> plan_for(1).widths[-1], plan_for(3).widths[-1]
    ((256,), (128,))
    """
    base = 32 if spatial_dims < 3 else 16
    widths = (base, 2 * base, 4 * base, 8 * base)
    blocks = tuple((w,) * n for w, n in zip(widths, (2, 2, 4, 4), strict=True))
    return VGGPlan(widths=(*blocks, (8 * base,)))


class Processes(nn.Module):
    """Heads that predict the two processes, their parameters and shares, and the structure."""

    def __init__(self, plan: VGGPlan, spatial_dims: int) -> None:
        super().__init__()
        self.spatial_dims = spatial_dims
        self.outputs = 2 * len(FAMILIES) * (1 + PARAMETERS) + 2
        channels = plan.channels
        keys = {name: name.replace(".", "_") for name in LAYERS}
        self.norms = nn.ModuleDict({keys[n]: nn.BatchNorm1d(2 * channels[n]) for n in LAYERS})
        self.heads = nn.ModuleDict(
            {keys[n]: nn.Linear(2 * channels[n], self.outputs) for n in LAYERS}
        )
        fields = plan.receptive_fields(spatial_dims)
        self.strides = {name: int(fields[name].stride[0]) for name in DENSE}
        self.drawers = nn.ModuleDict(
            {n: nn.Linear(channels[n], self.strides[n] ** spatial_dims) for n in DENSE}
        )

    def loss(self, features: dict[str, Tensor], batch: list[Example]) -> dict[str, Tensor]:
        """Cross entropy, error of parameters and error of structure, each a mean over layers."""
        families = torch.tensor([item.families for item in batch])  # (B, 2)
        numbers = torch.from_numpy(np.stack([item.parameters for item in batch]))
        shares = torch.from_numpy(np.stack([item.shares for item in batch]))
        structure = torch.from_numpy(np.stack([item.structure for item in batch]))
        kinds, counted, drawn = [], [], []
        for name in LAYERS:
            flat = features[name].flatten(2)
            pooled = torch.cat([flat.mean(2), flat.var(2).add(1e-6).sqrt()], 1)
            outputs = self.heads[name](self.norms[name](pooled))
            table = outputs[:, :-2].view(len(batch), 2, len(FAMILIES), 1 + PARAMETERS)
            kinds.append(F.cross_entropy(table[..., 0].flatten(0, 1), families.flatten()))
            predicted = table[torch.arange(len(batch))[:, None], torch.arange(2), families, 1:]
            weight = torch.stack([torch.ones(len(batch)), shares[:, 0].clamp(max=0.5) * 2], 1)
            counted.append(((predicted - numbers).square().mean(2) * weight).mean())
            counted[-1] = counted[-1] + (outputs[:, -2:] - shares).square().mean()
        for name in DENSE:
            blocks = _patches(structure, self.strides[name])  # (B, stride^N, *S)
            drawing = self.drawers[name](features[name].movedim(1, -1)).movedim(-1, 1)
            drawn.append((drawing - blocks).square().mean())
        return {
            "family": torch.stack(kinds).mean(),
            "numbers": 6 * torch.stack(counted).mean(),
            "structure": torch.stack(drawn).mean(),
        }


def _patches(values: Tensor, stride: int) -> Tensor:
    """Blocks of ``stride`` samples along each axis as channels."""
    ndim = values.ndim - 1
    sizes = [part for extent in values.shape[1:] for part in (extent // stride, stride)]
    blocks = values.reshape(len(values), *sizes)
    inner = [2 + 2 * axis for axis in range(ndim)]
    outer = [1 + 2 * axis for axis in range(ndim)]
    return blocks.permute(0, *inner, *outer).flatten(1, ndim)


class Slices(nn.Module):
    """Heads that predict features of a network for pictures in the slices of all pairs of axes."""

    def __init__(self, plan: VGGPlan, spatial_dims: int) -> None:
        super().__init__()
        self.teacher = load("compact", in_channels=1, layers=list(LAYERS)).requires_grad_(False)
        self.pairs = list(itertools.combinations(range(spatial_dims), 2))
        wide = self.teacher.plan.channels
        self.heads = nn.ModuleDict(
            {n: nn.Linear(plan.channels[n], len(self.pairs) * wide[n]) for n in LAYERS}
        )

    def targets(self, values: Tensor) -> dict[str, Tensor]:
        """Features ``(B, pairs x C, *S_l)``, averaged along the axes that are not in a slice."""
        features: dict[str, list[Tensor]] = {name: [] for name in LAYERS}
        ndim = values.ndim - 2
        for pair in self.pairs:
            outer = [axis for axis in range(ndim) if axis not in pair]
            order = [0, *(2 + axis for axis in outer), 1, *(2 + axis for axis in pair)]
            slices = values.permute(order)
            outer_shape = slices.shape[: 1 + len(outer)]
            for name, layer_features in self.teacher(slices.flatten(0, len(outer)), LAYERS).items():
                volume: Tensor = layer_features.unflatten(0, outer_shape).movedim(1 + len(outer), 1)
                places = [*outer, *pair]
                volume = volume.permute(0, 1, *(2 + places.index(axis) for axis in range(ndim)))
                size = [min(extent, layer_features.shape[-1]) for extent in volume.shape[2:]]
                features[name].append(resize_nd(volume, size, mode="area"))
        return {name: torch.cat(parts, 1) for name, parts in features.items()}

    def loss(self, features: dict[str, Tensor], batch: list[Example]) -> dict[str, Tensor]:
        """Squared error over the teacher's variance per channel, for each layer separately."""
        values = torch.from_numpy(np.stack([item.values for item in batch]))[:, None]
        with torch.no_grad():
            targets = self.targets(values)
        errors = {}
        for name, target in targets.items():
            predicted = self.heads[name](features[name].movedim(1, -1)).movedim(-1, 1)
            axes = [0, *range(2, target.ndim)]
            error = (predicted - target).square().mean(axes)
            errors[name] = error.sum() / target.var(axes).sum()
        return errors


HEADS: dict[str, type[Processes] | type[Slices]] = {"processes": Processes, "slices": Slices}


def train(args: argparse.Namespace) -> None:
    """Trains a network, or continues from its checkpoint."""
    work: Path = args.work
    work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    plan = plan_for(args.dim)
    net = VGG(
        plan,
        spatial_dims=args.dim,
        in_channels=1,
        generator=torch.Generator().manual_seed(args.seed),
    )
    net.requires_grad_(True)
    net.get_buffer("mean").fill_(0.5)
    net.get_parameter("convolutions.conv1_1.weight").data.mul_(
        GAIN
    )  # so that activations start at about 1
    heads = HEADS[args.learn](plan, args.dim)
    trained = [*net.parameters(), *(p for p in heads.parameters() if p.requires_grad)]
    optimiser = torch.optim.AdamW(trained, lr=args.lr, weight_decay=1e-4)
    path, first_step = work / "checkpoint.pt", 0
    if path.exists():
        state = torch.load(path, weights_only=True)
        if state["learn"] != args.learn or state["dim"] != args.dim:
            raise SystemExit(f"{path}: is a run of {state['learn']} in {state['dim']} axes")
        net.load_state_dict(state["net"])
        heads.load_state_dict(state["heads"])
        optimiser.load_state_dict(state["optimiser"])
        first_step = state["step"]
    rng = np.random.default_rng([args.seed, first_step])
    running: dict[str, float] = {}
    start = time.monotonic()
    for step in range(first_step + 1, args.steps + 1):
        # The rate rises over 50 steps and falls along a cosine.
        rate = min(1, step / 50) * 0.5 * (1 + np.cos(np.pi * step / args.steps))
        for group in optimiser.param_groups:
            group["lr"] = args.lr * max(rate, 0.01)
        batch = [example((args.extent,) * args.dim, rng) for _ in range(args.batch)]
        values = torch.from_numpy(np.stack([item.values for item in batch]))[:, None]
        parts = heads.loss(net(values, LAYERS), batch)
        loss = torch.stack(list(parts.values())).mean()
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        for name, part in parts.items():
            value = float(part.detach())
            running[name] = 0.98 * running.get(name, value) + 0.02 * value
        if step % 50 == 0 or step == args.steps:
            summary = " ".join(f"{name} {value:.3f}" for name, value in running.items())
            print(f"{step} {summary} {time.monotonic() - start:.0f} s", flush=True)
        if step % 100 == 0 or step == args.steps:
            with atomic_path(path, overwrite=True) as unfinished:
                torch.save(
                    {
                        "net": net.state_dict(),
                        "heads": heads.state_dict(),
                        "optimiser": optimiser.state_dict(),
                        "step": step,
                        "learn": args.learn,
                        "dim": args.dim,
                        "about": json.dumps(
                            {k: v for k, v in vars(args).items() if k not in ("run", "work")}
                            | {"widths": plan.widths, "found": running}
                        ),
                    },
                    unfinished,
                )


def export(args: argparse.Namespace) -> None:
    """Writes the network with 8 bits per weight."""
    state: dict[str, Any] = torch.load(args.work / "checkpoint.pt", weights_only=True)
    tensors: dict[str, Tensor] = {"mean": state["net"]["mean"]}
    for key, value in state["net"].items():
        if not key.startswith("convolutions."):
            continue
        name = key.removeprefix("convolutions.")
        if not key.endswith("weight"):
            tensors[name] = value
            continue
        scale = value.flatten(1).abs().amax(1) / 127
        codes = (value / scale.view(-1, *[1] * (value.ndim - 1))).round()
        tensors[name] = codes.to(torch.int8)
        tensors[name.replace("weight", "scale")] = scale
    save_file(tensors, args.out, {"recipe": state["about"], "steps": str(state["step"])})
    print(f"{args.out}: {args.out.stat().st_size:,} bytes, after {state['step']} steps")


def trained(path: Path) -> VGG:
    """The network of an exported file, for inputs with one channel."""
    from convnd.backbones.weights import dequantize

    state = dequantize(load_file(path))
    ndim = state["conv1_1.weight"].ndim - 2
    with safe_open(path, "pt") as file:
        widths = json.loads(file.metadata()["recipe"])["widths"]
    plan = dataclasses.replace(plan_for(ndim), widths=tuple(tuple(block) for block in widths))
    net = VGG(plan, spatial_dims=ndim, in_channels=1)
    names = {k: k if k == "mean" else f"convolutions.{k}" for k in state}
    net.load_state_dict({names[key]: value for key, value in state.items()})
    return net.eval()


def main() -> None:
    """Read the command line and run a stage."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    stages = parser.add_subparsers(required=True)
    for name, run in (("train", train), ("export", export)):
        stage = stages.add_parser(name, help=(run.__doc__ or "").splitlines()[0])
        stage.set_defaults(run=run)
        stage.add_argument("--work", type=Path, required=True, help="folder of checkpoints")
        if name == "export":
            stage.add_argument("--out", type=Path, required=True)
            continue
        stage.add_argument("--dim", type=int, required=True)
        stage.add_argument("--learn", choices=list(HEADS), default="processes")
        stage.add_argument("--steps", type=int, default=1000)
        stage.add_argument("--batch", type=int, default=24)
        stage.add_argument("--extent", type=int, default=512, help="samples along each axis")
        stage.add_argument("--lr", type=float, default=7e-4)
        stage.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    args.run(args)


if __name__ == "__main__":
    main()
