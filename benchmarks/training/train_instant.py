"""Train the decoder of `convnd.feedforward.ArbitraryStyleNet`, which convnd ships.

Encoder, principal components, matching of statistics and choice of patches are fixed; only the
decoder is trained. Its loss is made of the content energy and the mean style energy of five layers.
``train`` starts from the shipped network, unless ``--anew`` is given.

    python -m benchmarks.training.train_instant train  --photos DIR --art DIR --work DIR --steps N
    python -m benchmarks.training.train_instant export --work DIR --out instant2d.safetensors

``train`` writes a checkpoint every 500 steps and continues from it. ``export`` writes the running
mean of the weights in float16.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from benchmarks.training.batched_matching import match
from benchmarks.training.distill_pictures import MEAN, Pictures, list_photos
from benchmarks.training.energies import Energies
from convnd.backbones import VGG, load
from convnd.backbones.weights import load_state
from convnd.feedforward import ArbitraryStyleNet
from convnd.feedforward.decoder import CONVOLUTIONS, LEVELS, decode
from convnd.losses import INPUT
from convnd.stats import CovarianceStatistic, Sums

WIDTHS = {"relu1_1": 12, "relu2_1": 24, "relu3_1": 48, "relu4_1": 96}  # components
HIDDEN = {"relu1_1": 24, "relu2_1": 32, "relu3_1": 64, "relu4_1": 96}  # channels of the decoder
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


class Batches(IterableDataset[tuple[Tensor, Tensor]]):
    """An endless source of batches of contents and styles, as bytes.

    Args:
        contents: source of contents.
        styles: source of styles.
        batch: number of pictures in a batch.
        size: mean pixels of contents along each axis; styles are up to 1.5 times as large.
        seed: seed of all random choices.
    """

    def __init__(
        self, contents: Pictures, styles: Pictures, batch: int, size: int, seed: int
    ) -> None:
        self.sources, self.batch = (contents, styles), batch
        self.size, self.seed = size, seed

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        worker = get_worker_info()
        seed = [self.seed, 0 if worker is None else worker.id]
        generator = torch.Generator().manual_seed(seed[0] * 1000 + seed[1])
        for number, source in enumerate(self.sources):
            source.rng = type(source.rng)(type(source.rng.bit_generator)([*seed, number]))
        while True:
            size = 16 * round(
                self.size * (0.75 + 0.5 * float(torch.rand((), generator=generator))) / 16
            )
            growth = 1 + 0.5 * float(torch.rand((), generator=generator))
            sizes = size, 16 * round(size * growth / 16)
            content, style = (
                (as_values(source.batch(self.batch, extent, plain=True)) * 255).round().byte()
                for source, extent in zip(self.sources, sizes, strict=True)
            )
            yield content, style


def loss_of(layers: Tensor, content: Tensor, args: argparse.Namespace) -> Tensor:
    """The loss of each item from its style energies ``(B, 5)`` and content energy ``(B,)``.

    Both energies saturate, so that a single unusual pair does not dominate. The logarithm counts
    relative changes of a small style energy.
    """
    style = (layers / (1 + 0.25 * layers)).mean(1)
    relative_style = (layers.mean(1) + 0.01).log()
    energy: Tensor = content / (1 + 0.1 * content) + args.style_weight * style
    energy += args.log_weight * relative_style
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
        # Trained convolutions run as torch's own on any device; no gradient reaches these.
        self.network.encoder.requires_grad_(True)
        self.network.reductions.requires_grad_(True)
        self.network.decoder.requires_grad_(True)
        self.names, self.parameters = zip(*self.network.decoder.named_parameters(), strict=True)
        mean = state.get("mean") or [parameter.detach() for parameter in self.parameters]
        self.mean = [values.to(self.device, copy=True) for values in mean]
        self.optimiser = torch.optim.Adam(self.parameters, lr=args.lr, eps=1e-7)
        if "optimiser" in state:
            self.optimiser.load_state_dict(state["optimiser"])
        self.energies = Energies(args.backbone, self.device)
        self.generator = torch.Generator(self.device).manual_seed(int(state.get("step", 0)))

    def step(self, number: int, share: float, content: Tensor, style: Tensor) -> Tensor:
        """Take one step; returns loss, median style energy and mean content energy.

        Args:
            number: number of the step.
            share: share of the training that is done.
            content: ``(B, 3, H, W)`` bytes.
            style: ``(B, 3, h, w)`` bytes.
        """
        rate = min(1, (number + 1) / 200) * 0.5 * (1 + math.cos(math.pi * min(1, share)))
        for group in self.optimiser.param_groups:
            group["lr"] = self.args.lr * max(rate, 1e-3)
        pictures, styles = (x.to(self.device, non_blocking=True) / 255 for x in (content, style))
        with torch.no_grad():
            features, style_features = (
                self.network(x, (INPUT, *LEVELS)) for x in (pictures, styles)
            )
            matched, nearest = match(features, style_features, self.generator)
        results = matched[INPUT] + decode(self.network.decoder, matched, nearest)
        targets = self.energies.read(pictures, styles)
        layers, kept_content = self.energies(results, *targets)
        loss = loss_of(layers, kept_content, self.args)
        outside = (results - results.clamp(0, 1)).square().mean()
        self.optimiser.zero_grad()
        (loss.mean() + 20 * outside).backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 2.0)
        self.optimiser.step()
        with torch.no_grad():
            keep = min(KEPT_MEAN, number / (number + 50))
            for average, parameter in zip(self.mean, self.parameters, strict=True):
                average.lerp_(parameter, 1 - keep)
            return torch.stack([loss.mean(), layers.mean(1).median(), kept_content.mean()])

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
    photos, _ = list_photos(args.photos)
    art, _ = list_photos(args.art)
    contents = Pictures(photos, 1, procedural=0.05)
    styles = Pictures([*photos[::3], *art], 2, procedural=args.procedural)
    checkpoint = args.work / "instant.pt"
    state: dict[str, Any] = (
        torch.load(checkpoint, weights_only=False) if checkpoint.exists() else {}
    )
    weights = state.get("weights")
    if weights is None and args.anew:
        weights = untrained(load("compact"), [contents, styles], 192)
    shipped = {name: values.float() for name, values in load_state("instant").items()}
    weights = weights or shipped
    add_identities(weights)
    trainer = Trainer(weights, args, state)
    first = int(state.get("step", 0))
    batches = Batches(contents, styles, args.batch, args.size, first)
    loader = DataLoader(
        batches, batch_size=None, num_workers=args.workers, pin_memory=args.device == "cuda"
    )
    log: list[Tensor] = []
    ready = time.monotonic()
    print(f"{len(photos)} photos, {len(art)} art, ready after {ready - started:.0f} s", flush=True)
    for step, (content, style) in enumerate(loader, first):
        used = (time.monotonic() - ready) / 60 / args.minutes if args.minutes else 0.0
        log.append(trainer.step(step, max(used, step / args.steps), content, style))
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
    """Write the running mean of the weights in float16."""
    state = torch.load(args.work / "instant.pt", map_location="cpu", weights_only=False)
    means = {f"decode.{n}": value for n, value in zip(state["names"], state["mean"], strict=True)}
    weights = {**state["weights"], **means}
    save_file({name: value.half().contiguous() for name, value in weights.items()}, args.out)


def main() -> None:
    """Train or export."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("stage", choices=("train", "export"))
    parser.add_argument("--photos", type=Path, help="folder of photographs: contents, some styles")
    parser.add_argument("--art", type=Path, help="folder of drawings and textures: styles")
    parser.add_argument("--work", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--steps", type=int, default=20000)
    parser.add_argument("--minutes", type=float, default=0.0, help="end after this time; 0: never")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=256, help="mean pixels of contents")
    parser.add_argument("--backbone", default="vgg19", help="network of the loss")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--style-weight", type=float, default=10.0)
    parser.add_argument("--log-weight", type=float, default=0.5)
    parser.add_argument("--procedural", type=float, default=0.3, help="share of drawn styles")
    parser.add_argument("--anew", action="store_true", help="draw the weights at random")
    parser.add_argument("--workers", type=int, default=2, help="processes that make batches")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = False  # sizes change from batch to batch
    {"train": train, "export": export}[args.stage](args)


if __name__ == "__main__":
    main()
