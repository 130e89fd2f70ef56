"""Loss and gradient with regions: in tiles and on several processes against one piece.

    python -m benchmarks.performance.region_exactness --json exactness.json

Two regions with one style each, the network `compact`, one to three axes. In float64 the gradients
agree to rounding. In float32 they do too, unless a unit of the network lies so near its kink that
rounding decides: a ReLU whose input is 1e-9 where others are 1, or two equal values of a maximum
pooling. The gradient then takes another way there, by tiles, and just so by other convolutions in
one piece, which the last columns compare. So several fields are measured.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import socket
import statistics
import tempfile
from typing import NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.measurement import Table, add_json_option, write_results
from benchmarks.performance.regions import field, objective
from convnd.backbones import Precision
from convnd.losses import Objective
from convnd.optimize import (
    Evaluation,
    ProcessGroup,
    ShardedEvaluation,
    ShardedField,
    TiledEvaluation,
    Tiler,
    evaluate_whole,
)
from convnd.transfer.options import TransferOptions
from convnd.transfer.style_transfer import StyleTransfer

_SIZES = {1: ((4096,), 512), 2: ((160, 192), 96), 3: ((20, 24, 16), 16)}
"""Extents of the field and of its tiles, by the number of axes."""

_WORKERS = (2, 3)

_EXACT = 1e-5
"""Largest relative difference of a gradient that counts as rounding."""


class Case(NamedTuple):
    """A field, its tiles, and the pooling of the network."""

    extent: tuple[int, ...]
    tile: int
    pooling: str

    def transfer(self, precision: Precision | None = None) -> StyleTransfer:
        """Make the transfer; a precision of None is exact float32."""
        options = TransferOptions(
            backbone="compact", size=0, precision="float32", pooling=self.pooling
        )
        transfer = StyleTransfer(options, spatial_dims=len(self.extent), in_channels=1)
        if precision is not None:
            transfer.precision = precision
            precision.apply(transfer.backbone)
        return transfer

    def content(self, seed: int) -> Tensor:
        """Make the content, which has less contrast than the styles."""
        return 0.3 + 0.2 * field(*self.extent, channels=1, seed=seed)


class Difference(NamedTuple):
    """How an evaluation differs from that in one piece, relatively.

    Attributes:
        loss: difference of the loss.
        norm: norm of the difference of the gradient over its norm.
        largest: largest difference of the gradient over its largest value.
    """

    loss: float
    norm: float
    largest: float

    @classmethod
    def between(cls, whole: Evaluation, other: Evaluation) -> Difference:
        """Compare two evaluations."""
        difference = other.gradient - whole.gradient
        return cls(
            abs(other.loss - whole.loss) / abs(whole.loss),
            (difference.norm() / whole.gradient.norm()).item(),
            (difference.abs().max() / whole.gradient.abs().max()).item(),
        )


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--fields", type=int, default=4, help="fields of each kind")
    add_json_option(parser)
    args = parser.parse_args()
    torch.set_num_threads(1)
    cases = [
        Case(extent, tile, pooling)
        for pooling in ("avg", "max")
        for extent, tile in _SIZES.values()
    ]
    tables = [
        Table(rows=[tile_row(case, args.fields) for case in cases], caption=_TILES_CAPTION),
        Table(rows=[process_row(case) for case in cases], caption=_PROCESSES_CAPTION),
    ]
    write_results(
        args.json,
        "Exactness of regions",
        tables,
        section="Pictures",
        summary="Loss and gradient with two regions, relative to those of one piece. float64 shows "
        "that tiles compute the same function. In float32 a single unit at the kink of its ReLU, "
        "or a tie of a maximum pooling, makes the difference that is not rounding; so it does "
        "between two kinds of convolutions in one piece.",
        target="1e-5: met in float64; in float32 missed where a unit lies at a kink.",
        conditions="one thread for each process.",
    )


_TILES_CAPTION = (
    "Tiles, by fields of noise: norm of the difference of the gradient over its norm (median and "
    "largest), largest difference over the largest value, number of fields above 1e-5; the same in "
    "float64 (one field), and in one piece with other convolutions "
    "(Winograd's algorithm against torch's)"
)
_PROCESSES_CAPTION = "Processes, for one field: relative difference of loss and gradient (norm)"


def tile_row(case: Case, fields: int) -> dict[str, object]:
    """Return the differences of tiles from one piece over several fields."""
    double = evaluate_in_tiles(case, Precision(torch.float64), 0)
    pairs = [evaluate_in_tiles(case, None, seed) for seed in range(fields)]
    tiles = [Difference.between(*pair) for pair in pairs]
    others = [
        Difference.between(whole, evaluate_with_winograd(case, seed))
        for seed, (whole, _) in enumerate(pairs)
    ]
    row: dict[str, object] = {
        "pooling": case.pooling,
        "size": "x".join(map(str, case.extent)),
        "tile": case.tile,
        "fields": fields,
        "loss, largest": max(part.loss for part in tiles),
        **_spread("gradient", tiles),
        "largest value": max(part.largest for part in tiles),
        "float64": Difference.between(*double).norm,
        **_spread("one piece", others),
    }
    print(row, flush=True)
    return row


def _spread(name: str, differences: list[Difference]) -> dict[str, object]:
    norms = [part.norm for part in differences]
    return {
        f"{name}: median": statistics.median(norms),
        f"{name}: largest": max(norms),
        f"{name}: above 1e-5": sum(norm > _EXACT for norm in norms),
    }


def evaluate_in_tiles(
    case: Case, precision: Precision | None, seed: int
) -> tuple[Evaluation, Evaluation]:
    """Evaluate in one piece and in tiles."""
    one, content = _problem(case, precision, seed)
    return evaluate_whole(one, content), TiledEvaluation(Tiler(tile=case.tile))(one, content)


def evaluate_with_winograd(case: Case, seed: int) -> Evaluation:
    """Evaluate in one piece by Winograd's convolutions, with the targets of torch's."""
    one, content = _problem(case, None, seed)
    return evaluate_whole(
        Objective(one.backbone, one.terms, precision=Precision(winograd=True)), content
    )


def _problem(case: Case, precision: Precision | None, seed: int) -> tuple[Objective, Tensor]:
    content = case.content(seed)
    if precision is not None:
        content = content.to(precision.dtype)
    return objective(case.transfer(precision), content, 2), content


def process_row(case: Case) -> dict[str, object]:
    """Return the differences of 2 and 3 processes from one piece."""
    row: dict[str, object] = {
        "pooling": case.pooling,
        "size": "x".join(map(str, case.extent)),
        "tile": case.tile,
    }
    whole, _ = evaluate_in_tiles(case, None, 0)
    for workers in _WORKERS:
        loss, gradient = evaluate_on_processes(case, workers)
        shared = Difference.between(whole, Evaluation(loss=loss, parts={}, gradient=gradient))
        row[f"{workers} processes: loss"] = shared.loss
        row[f"{workers} processes: gradient"] = shared.norm
    print(row, flush=True)
    return row


def evaluate_on_processes(case: Case, workers: int) -> tuple[float, Tensor]:
    """Return loss and gradient that a group of processes computes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")  # torch is loaded already
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/result.safetensors"
        members = [
            context.Process(target=_work, args=(rank, workers, port, case, path))
            for rank in range(workers)
        ]
        for member in members:
            member.start()
        for member in members:
            member.join()
        result = load_file(path)
    return result["loss"].item(), result["gradient"]


def _work(rank: int, workers: int, port: int, case: Case, path: str) -> None:
    """Compute in one process of a group; the first one writes the result."""
    torch.set_num_threads(1)
    os.environ.update(
        RANK=str(rank), WORLD_SIZE=str(workers), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    group = ProcessGroup.join()
    one, content = _problem(case, None, 0)
    shards = ShardedField(case.extent, group)
    evaluate = ShardedEvaluation(Tiler(tile=case.tile, workers=workers), shards)
    evaluation = evaluate(one, shards.local_part(content))
    gradient = shards.gather(evaluation.gradient)
    if rank == 0:
        loss = torch.tensor(evaluation.loss, dtype=torch.float64)
        save_file({"loss": loss, "gradient": gradient.contiguous()}, path)
    ProcessGroup.shutdown()


if __name__ == "__main__":
    main()
