"""Train the decoder of `convnd.feedforward.ArbitraryStyleNet`, which convnd ships.

Encoder, principal components, matching of statistics and choice of patches are fixed; only the
decoder is trained. Its loss is made of the content energy, the mean style energy of five layers,
and a penalty on edges that move.
``train`` starts from the shipped network, unless ``--anew`` is given.

    python -m benchmarks.training.train_instant train  --photos DIR --art DIR --work DIR --steps N
    python -m benchmarks.training.train_instant export --work DIR --out instant2d.safetensors

``train`` writes a checkpoint every 500 steps and continues from it. ``export`` writes the running
mean of the weights in float16. With ``--other`` they lie between those of two runs with different
losses, and so do style and content energy.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.training.batched_matching import match
from benchmarks.training.distill_pictures import MEAN, Pictures, list_photos
from benchmarks.training.energies import Energies, Features, shifts
from convnd.backbones import VGG, load
from convnd.backbones.weights import load_state
from convnd.feedforward import ArbitraryStyleNet
from convnd.feedforward.decoder import CONVOLUTIONS, LEVELS, decode
from convnd.losses import INPUT
from convnd.malloc import keep_large_blocks, tune_malloc
from convnd.stats import CovarianceStatistic, Sums

WIDTHS = {"relu1_1": 12, "relu2_1": 24, "relu3_1": 48, "relu4_1": 96}  # components
HIDDEN = {"relu1_1": 24, "relu2_1": 32, "relu3_1": 64, "relu4_1": 96}  # channels of the decoder
SHIFT_WEIGHT = 20.0  # of the squared shift of edges in pixels
KEPT_MEAN = 0.998  # share of the running mean of the weights that a step keeps


def untrained(encoder: VGG, pictures: list[Pictures], size: int) -> dict[str, Tensor]:
    """Principal components of the encoder's features, and random weights of the decoder."""
    statistic = CovarianceStatistic()
    sums: dict[str, Sums] = {}
    for number in range(96):
        features = encoder(as_values(pictures[number % 2].batch(1, size, plain=True)), LEVELS)
        for name in LEVELS:
            part = statistic.sums(features[name].double())
            sums[name] = sums[name] + part if name in sums else part
    state: dict[str, Tensor] = {}
    for name in LEVELS:
        values, vectors = torch.linalg.eigh(statistic.summary(sums[name])[0][:, :-1])
        count = WIDTHS[name]
        # One scale for all components of a level, so that their mean variance is 1.
        rows = vectors[:, -count:].flip(1).T / values[-count:].mean().sqrt()
        state[f"reduce.{name}.weight"] = rows[:, :, None, None].float()
    add_decoder(state)
    return state


def add_decoder(state: dict[str, Tensor]) -> None:
    """Add random weights of a decoder to a state."""
    inputs = 0
    for level in reversed(LEVELS):
        inputs += 2 * WIDTHS[level]
        for name in CONVOLUTIONS[level]:
            add_convolution(state, name, inputs, HIDDEN[level])
            inputs = HIDDEN[level]
    add_convolution(state, "image", inputs, 3, gain=0.1)


def add_convolution(
    state: dict[str, Tensor], name: str, inputs: int, outputs: int, gain: float = 1.0
) -> None:
    """Add random weights (He et al., 2015) and zero biases to a state."""
    deviation = gain * math.sqrt(2 / (9 * inputs))
    state[f"decode.{name}.weight"] = torch.randn(outputs, inputs, 3, 3) * deviation
    state[f"decode.{name}.bias"] = torch.zeros(outputs)


def add_identities(state: dict[str, Tensor]) -> None:
    """Add each convolution that a former decoder lacks, which changes nothing at first.

    Its inputs are outputs of a ReLU, so that the ReLU after it changes nothing either.
    """
    for level, names in CONVOLUTIONS.items():
        for name in names:
            if f"decode.{name}.weight" not in state:
                channels = HIDDEN[level]
                weight = torch.zeros(channels, channels, 3, 3)
                weight[:, :, 1, 1] = torch.eye(channels)
                state[f"decode.{name}.weight"] = weight
                state[f"decode.{name}.bias"] = torch.zeros(channels)


def as_values(batch: Tensor) -> Tensor:
    """A batch of `Pictures` as values in ``[0, 1]``."""
    return (batch + torch.tensor(MEAN)[:, None, None]).clamp(0, 1)


class Pool:
    """Pictures, each with all that a training reads of it, computed once.

    A training of a few thousand steps meets each picture many times, but hardly a pair twice.

    Args:
        pictures: source of the pictures, which are turned by 0, 90, 180 or 270 degrees.
        count: number of pictures.
        size: mean pixels along each axis; each is a multiple of 16 from 0.75 to 1.25 times that.
        describe: computes tensors ``(1, ...)`` by name from values ``(1, 3, H, W)``.
    """

    def __init__(
        self, pictures: Pictures, count: int, size: int, describe: Callable[[Tensor], Features]
    ) -> None:
        extents = [16 * round(size * factor / 16) for factor in (0.75, 1.0, 1.25)]
        self.groups: list[list[Features]] = [[] for _ in extents]
        for number in range(count):
            group = number % len(extents)
            values = as_values(pictures.batch(1, extents[group], plain=True))
            # No direction is special. Pictures are flipped from left to right already.
            turned = values.rot90(number // len(extents) % 4, (2, 3))
            # Pictures are stored in 8 bits.
            self.groups[group].append(describe((turned * 255).round() / 255))

    def draw(self, count: int, generator: torch.Generator) -> Features:
        """A batch of pictures of one size."""
        group = self.groups[int(torch.randint(len(self.groups), (), generator=generator))]
        rows = torch.randint(len(group), (count,), generator=generator).tolist()
        return {name: torch.cat([group[row][name] for row in rows]) for name in group[0]}


def loss_of(layers: Tensor, content: Tensor, args: argparse.Namespace) -> Tensor:
    """The loss of each item from its style energies ``(B, 5)`` and content energy ``(B,)``.

    Both energies saturate, so that a single unusual pair does not dominate. The logarithms count
    relative changes of both; a style energy far below ``--floor`` is not reduced for its own sake.
    """
    style = (layers / (1 + 0.25 * layers)).mean(1)
    energy: Tensor = content / (1 + 0.1 * content) * args.content_weight
    energy += args.style_weight * style
    energy += args.log_weight * (layers.mean(1) + args.floor).log()
    energy += args.content_log_weight * (content + args.floor).log()
    return energy


class Trainer:
    """A decoder, its optimiser, and the running mean of its weights.

    Args:
        weights: weights by name, see `untrained`.
        args: arguments of the command.
        state: a former state of `state`.
    """

    def __init__(
        self, weights: dict[str, Tensor], args: argparse.Namespace, state: Mapping[str, Any]
    ) -> None:
        self.args, self.device = args, torch.device(args.device)
        self.network = ArbitraryStyleNet(weights).to(self.device)
        # Trained convolutions run as torch's own, which a GPU needs; no gradient reaches these.
        self.network.encoder.requires_grad_(self.device.type == "cuda")
        self.network.reductions.requires_grad_(self.device.type == "cuda")
        self.network.decoder.requires_grad_(True)
        self.names, self.parameters = zip(*self.network.decoder.named_parameters(), strict=True)
        mean = state.get("mean") or [parameter.detach() for parameter in self.parameters]
        self.mean = [values.to(self.device, copy=True) for values in mean]
        self.optimiser = torch.optim.Adam(self.parameters, lr=args.lr, eps=1e-7)
        if "optimiser" in state:
            self.optimiser.load_state_dict(state["optimiser"])
        self.energies = Energies(args.backbone, self.device)
        self.generator = torch.Generator(self.device).manual_seed(int(state.get("step", 0)))

    def describe_content(self, values: Tensor) -> Features:
        """What a step reads of a content ``(1, 3, H, W)``."""
        return self._features(values) | self.energies.of_content(values.to(self.device))

    def describe_style(self, values: Tensor) -> Features:
        """What a step reads of a style ``(1, 3, h, w)``."""
        return self._features(values) | self.energies.of_style(values.to(self.device))

    @torch.no_grad()
    def _features(self, values: Tensor) -> Features:
        features = self.network(values.to(self.device), (INPUT, *LEVELS))
        levels = {name: features[name].to(torch.bfloat16, copy=True) for name in LEVELS}
        return {INPUT: features[INPUT].clone(), **levels}

    def step(self, number: int, share: float, pair: tuple[Features, Features]) -> Tensor:
        """Take one step; returns the mean loss and the median style and content energy.

        Args:
            number: number of the step.
            share: share of the training that is done.
            pair: a batch of contents and one of styles.
        """
        rate = min(1, (number + 1) / 200) * 0.5 * (1 + math.cos(math.pi * min(1, share)))
        for group in self.optimiser.param_groups:
            group["lr"] = self.args.lr * max(rate, 1e-3)
        with torch.no_grad():
            content, style = (
                {name: item[name].float() for name in (INPUT, *LEVELS)} for item in pair
            )
            matched, nearest = match(content, style, self.generator)
        is_fast = self.energies.precision.dtype == torch.bfloat16
        with torch.autocast(self.device.type, torch.bfloat16, enabled=is_fast):
            change = decode(self.network.decoder, matched, nearest)
        results = matched[INPUT] + change.float()
        layers, kept_content = self.energies(results, *pair)
        loss = loss_of(layers, kept_content, self.args)
        outside = (results - results.clamp(0, 1)).square().mean()
        beside = shifts(results, matched[INPUT]).square().sum(1).mean()
        self.optimiser.zero_grad()
        (loss.mean() + 20 * outside + SHIFT_WEIGHT * beside).backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 2.0)
        self.optimiser.step()
        with torch.no_grad():
            keep = min(KEPT_MEAN, number / (number + 50))
            for average, parameter in zip(self.mean, self.parameters, strict=True):
                average.lerp_(parameter, 1 - keep)
            return torch.stack([loss.mean(), layers.mean(1).median(), kept_content.median()])

    def state(self, step: int, weights: dict[str, Tensor]) -> dict[str, Any]:
        """The state to continue from, on the CPU."""
        values = [parameter.detach().cpu() for parameter in self.parameters]
        named = {f"decode.{n}": value for n, value in zip(self.names, values, strict=True)}
        return {
            "step": step,
            "weights": weights | named,
            "mean": [average.cpu() for average in self.mean],
            "names": self.names,
            "optimiser": self.optimiser.state_dict(),
        }


def train(args: argparse.Namespace) -> None:
    """Train until the run has ``--steps`` steps, or for ``--minutes``."""
    torch.manual_seed(0)
    args.work.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    tune_malloc()
    keep_large_blocks(True)
    photos, _ = list_photos(args.photos)
    art, _ = list_photos(args.art)
    checkpoint = args.work / "instant.pt"
    state: dict[str, Any] = (
        torch.load(checkpoint, weights_only=False) if checkpoint.exists() else {}
    )
    first = int(state.get("step", 0))
    # A run that continues meets other pictures.
    contents = Pictures(photos, 2 * first + 1, procedural=0.05)
    styles = Pictures([*photos[::3], *art], 2 * first + 2, procedural=args.procedural)
    weights = state.get("weights")
    if weights is None and args.anew:
        weights = untrained(load("compact"), [contents, styles], 192)
    shipped = {name: values.float() for name, values in load_state("instant").items()}
    weights = weights or shipped
    add_identities(weights)
    trainer = Trainer(weights, args, state)
    pools = (
        Pool(contents, args.pool, args.size, trainer.describe_content),
        Pool(styles, 3 * args.pool // 2, 5 * args.size // 4, trainer.describe_style),
    )
    generator = torch.Generator().manual_seed(first)
    log: list[Tensor] = []
    ready = time.monotonic()
    print(f"{len(photos)} photos, {len(art)} art, ready after {ready - started:.0f} s", flush=True)
    for step in range(first, args.steps):
        used = (time.monotonic() - ready) / 60 / args.minutes if args.minutes else 0.0
        pair = pools[0].draw(args.batch, generator), pools[1].draw(args.batch, generator)
        log.append(trainer.step(step, max(used, step / args.steps), pair))
        ends = step + 1 >= args.steps or used >= 1
        if (step + 1) % 100 == 0 or ends:
            medians = torch.stack(log[-100:]).median(0).values.tolist()
            seconds = time.monotonic() - ready
            print(step + 1, *(f"{value:.4f}" for value in medians), f"{seconds:.0f} s", flush=True)
        if (step + 1) % 500 == 0 or ends:
            temporary = checkpoint.with_suffix(".part")
            torch.save(trainer.state(step + 1, weights), temporary)
            temporary.replace(checkpoint)
        if ends:
            return


def export(args: argparse.Namespace) -> None:
    """Write the running mean of the weights in float16, or between those of two runs."""
    state, mean = read_mean(args.work)
    if args.other is not None:
        _, other = read_mean(args.other)
        mean = {name: other[name].lerp(values, args.share) for name, values in mean.items()}
    weights = {**state["weights"], **mean}
    save_file({name: value.half().contiguous() for name, value in weights.items()}, args.out)


def read_mean(work: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The checkpoint of a run, and the running mean of its weights by name."""
    state = torch.load(work / "instant.pt", map_location="cpu", weights_only=False)
    names = [f"decode.{name}" for name in state["names"]]
    return state, dict(zip(names, state["mean"], strict=True))


def main() -> None:
    """Train or export."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("stage", choices=("train", "export"))
    parser.add_argument("--photos", type=Path, help="folder of photographs: contents, some styles")
    parser.add_argument("--art", type=Path, help="folder of drawings and textures: styles")
    parser.add_argument("--work", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--other", type=Path, help="folder of another run, for export")
    parser.add_argument("--share", type=float, default=0.5, help="of this run's weights in export")
    parser.add_argument("--steps", type=int, default=20000)
    parser.add_argument("--minutes", type=float, default=0.0, help="end after this time; 0: never")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=256, help="mean pixels of contents")
    parser.add_argument("--backbone", default="vgg19", help="network of the loss")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--style-weight", type=float, default=4.0)
    parser.add_argument("--log-weight", type=float, default=2.0, help="of the style energy")
    parser.add_argument("--content-weight", type=float, default=0.5)
    parser.add_argument("--content-log-weight", type=float, default=1.0)
    parser.add_argument("--floor", type=float, default=0.05, help="of both logarithms")
    parser.add_argument("--procedural", type=float, default=0.3, help="share of drawn styles")
    parser.add_argument("--anew", action="store_true", help="draw the weights at random")
    parser.add_argument("--pool", type=int, default=600, help="contents; half as many more styles")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = False  # sizes change from batch to batch
    {"train": train, "export": export}[args.stage](args)


if __name__ == "__main__":
    main()
