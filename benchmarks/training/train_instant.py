"""Train the decoder of `convnd.feedforward.ArbitraryStyleNet`, which convnd ships.

Encoder, principal components, matching of statistics and choice of patches are fixed; only the
decoder is trained. Its loss is the objective of the optimiser with the network "compact": content
energy plus the mean style energy of five layers. Each energy saturates, so that a single unusual
pair does not dominate.

    python -m benchmarks.training.train_instant train  --photos DIR --art DIR --work DIR --steps N
    python -m benchmarks.training.train_instant export --work DIR --out instant2d.safetensors

``train`` writes a checkpoint every 250 steps and continues from it. ``export`` writes the running
mean of the weights in float16.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.training.distill_pictures import MEAN, Pictures, list_photos
from convnd.backbones import VGG, Precision, load
from convnd.feedforward import ArbitraryStyleNet
from convnd.feedforward.decoder import LEVELS
from convnd.optimize import Tiler
from convnd.stats import CovarianceStatistic, Sums, gram_matrix

STYLE = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
CONTENT = "relu4_2"
WIDTHS = {"relu1_1": 12, "relu2_1": 24, "relu3_1": 48, "relu4_1": 96}  # components
HIDDEN = {"relu1_1": 24, "relu2_1": 32, "relu3_1": 64, "relu4_1": 96}  # channels of the decoder


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
    inputs = 0
    for name in reversed(LEVELS):
        for suffix in ("", "b") if name == "relu3_1" else ("",):
            inputs = HIDDEN[name] if suffix else inputs + 2 * WIDTHS[name]
            add_convolution(state, name + suffix, inputs, HIDDEN[name])
        inputs = HIDDEN[name]
    add_convolution(state, "image", inputs, 3, gain=0.1)
    return state


def add_convolution(
    state: dict[str, Tensor], name: str, inputs: int, outputs: int, gain: float = 1.0
) -> None:
    """Adds random weights (He et al., 2015) and zero biases to a state."""
    deviation = gain * math.sqrt(2 / (9 * inputs))
    state[f"decode.{name}.weight"] = torch.randn(outputs, inputs, 3, 3) * deviation
    state[f"decode.{name}.bias"] = torch.zeros(outputs)


def as_values(batch: Tensor) -> Tensor:
    """A batch of `Pictures` as values in ``[0, 1]``."""
    return (batch + torch.tensor(MEAN)[:, None, None]).clamp(0, 1)


class Judge:
    """The energies that the optimiser balances, in the space of "compact"."""

    def __init__(self) -> None:
        self.network = load("compact")
        self.network.padding = "replicate"
        Precision(winograd=True).apply(self.network)

    @torch.no_grad()
    def read(self, contents: Tensor, styles: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Content features and Gram matrices."""
        grams = self.network(styles, STYLE)
        features = self.network(contents, (CONTENT,))[CONTENT]
        return features, [mean_gram(grams[name]) for name in STYLE]

    def energies(
        self, results: Tensor, content: Tensor, styles: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Style energy of each layer ``(B, 5)``, and content energy ``(B,)``."""
        features = self.network(results, (*STYLE, CONTENT))
        layers = [
            relative(mean_gram(features[name]), gram)
            for name, gram in zip(STYLE, styles, strict=True)
        ]
        return torch.stack(layers, 1), relative(features[CONTENT], content)


def mean_gram(features: Tensor) -> Tensor:
    """Products of channels averaged over positions."""
    return gram_matrix(features) / features[0, 0].numel()


def relative(values: Tensor, target: Tensor) -> Tensor:
    """Squared distance to the target over the target's sum of squares, for each item."""
    axes = tuple(range(1, values.ndim))
    return (values - target).square().sum(axes) / target.square().sum(axes).clamp_min(1e-12)


def train(args: argparse.Namespace) -> None:
    """Train until the run has ``--steps`` steps."""
    torch.manual_seed(0)
    photos, _ = list_photos(args.photos)
    art, _ = list_photos(args.art)
    contents = Pictures(photos, 1, procedural=0.05)
    styles = Pictures([*photos[::3], *art], 2, procedural=0.45)
    judge = Judge()
    kept = args.work / "instant.pt"
    state: dict[str, Any] = torch.load(kept) if kept.exists() else {}
    first = int(state.get("step", 0))
    weights = state.get("weights") or untrained(judge.network, [contents, styles], args.size)
    network = ArbitraryStyleNet(weights)
    network.decoder.requires_grad_(True)
    names = [name for name, _ in network.decoder.named_parameters()]
    parameters = [parameter for _, parameter in network.decoder.named_parameters()]
    mean = state.get("mean") or [parameter.detach().clone() for parameter in parameters]
    optimiser = torch.optim.Adam(parameters, lr=args.lr)
    if "optimiser" in state:
        optimiser.load_state_dict(state["optimiser"])
    generator = torch.Generator().manual_seed(first)
    contents.rng, styles.rng = (
        type(p.rng)(p.rng.bit_generator.__class__(first + k))
        for k, p in enumerate((contents, styles))
    )
    log: list[list[float]] = []
    started = time.process_time()
    for step in range(first, args.steps):
        rate = min(1, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * step / args.steps))
        for group in optimiser.param_groups:
            group["lr"] = args.lr * rate
        content = as_values(contents.batch(args.batch, args.size, plain=True))
        style = as_values(styles.batch(args.batch, args.size * 3 // 2, plain=True))
        results = torch.cat(
            [
                network.stylize_whole(
                    content[k : k + 1],
                    network.read_styles([style[k : k + 1]], [1.0], Tiler()),
                    network.draw_noise(content.shape[2:], generator),
                )
                for k in range(args.batch)
            ]
        )
        layers, kept_content = judge.energies(results, *judge.read(content, style))
        loss = kept_content / (1 + 0.1 * kept_content)
        loss = loss + args.style_weight * (layers / (1 + 0.25 * layers)).mean(1)
        outside = (results - results.clamp(0, 1)).square().mean()
        optimiser.zero_grad()
        (loss.mean() + 20 * outside).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 2.0)
        optimiser.step()
        with torch.no_grad():
            for average, parameter in zip(mean, parameters, strict=True):
                average.lerp_(parameter, 1 - min(0.998, step / (step + 50)))
        log.append([loss.mean().item(), layers.mean(1).median().item(), kept_content.mean().item()])
        if (step + 1) % 50 == 0:
            medians = torch.tensor(log[-50:]).median(0).values.tolist()
            used = time.process_time() - started
            print(step + 1, *(f"{value:.4f}" for value in medians), f"{used:.0f} s", flush=True)
        if (step + 1) % 250 == 0 or step + 1 == args.steps:
            weights |= {
                f"decode.{name}": value.detach().clone()
                for name, value in zip(names, parameters, strict=True)
            }
            state = {
                "step": step + 1,
                "weights": weights,
                "mean": mean,
                "names": names,
                "optimiser": optimiser.state_dict(),
            }
            temporary = kept.with_suffix(".part")
            torch.save(state, temporary)
            temporary.replace(kept)


def export(args: argparse.Namespace) -> None:
    """Write the running mean of the weights in float16."""
    state = torch.load(args.work / "instant.pt")
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
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--style-weight", type=float, default=15.0)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    {"train": train, "export": export}[args.stage](args)


if __name__ == "__main__":
    main()
