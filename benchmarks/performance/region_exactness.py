"""Loss and gradient with regions: in tiles and on several processes against one piece.

    python -m benchmarks.performance.region_exactness --json exactness.json

Two regions with one style each, the network `compact`, float32, one to three axes. Two values of a
maximum pooling that differ by rounding only may change places, so that the gradient takes another
way through the network there. This happens without regions too, as the last column shows, and not
with average pooling.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import socket
import tempfile
from typing import NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.measurement import Table, add_json_option, write_results
from benchmarks.performance.regions import field, objective
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

_SIZES = {1: ((4096,), 512), 2: ((160, 192), 64), 3: ((40, 48, 32), 24)}
"""Extents of the field and of its tiles, by the number of axes."""

_WORKERS = (2, 3)


class Case(NamedTuple):
    """A field, its tiles, and the pooling of the network."""

    extent: tuple[int, ...]
    tile: int
    pooling: str

    def problem(self) -> tuple[StyleTransfer, Tensor]:
        """Make the transfer and the content, which has less contrast than the styles."""
        options = TransferOptions(
            backbone="compact", size=0, precision="float32", pooling=self.pooling
        )
        transfer = StyleTransfer(options, spatial_dims=len(self.extent), in_channels=1)
        return transfer, 0.3 + 0.2 * field(*self.extent, channels=1, seed=0)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    add_json_option(parser)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = [
        measure(Case(extent, tile, pooling))
        for pooling in ("avg", "max")
        for extent, tile in _SIZES.values()
    ]
    write_results(
        args.json,
        "Exactness of regions",
        [Table(rows=rows)],
        section="Pictures",
        summary="Loss and gradient with two regions, relative to those of one piece: the relative "
        "difference of the loss, and the norm of the difference of the gradient over its norm. The "
        "last column is the gradient in tiles without regions.",
        target="1e-5 with average pooling; with maximum pooling as without regions.",
        conditions="one thread for each process.",
    )


def measure(case: Case) -> dict[str, object]:
    """Return the differences of one case."""
    row: dict[str, object] = {
        "pooling": case.pooling,
        "size": "x".join(map(str, case.extent)),
        "tile": case.tile,
    }
    transfer, content = case.problem()
    whole = evaluate_whole(objective(transfer, content, 2), content)
    tiled = TiledEvaluation(Tiler(tile=case.tile))
    row["tiles: loss"], row["tiles: gradient"] = differences(
        whole, tiled(objective(transfer, content, 2), content)
    )
    for workers in _WORKERS:
        loss, gradient = evaluate_on_processes(case, workers)
        shared = Evaluation(loss=loss, parts={}, gradient=gradient)
        row[f"{workers} processes: loss"], row[f"{workers} processes: gradient"] = differences(
            whole, shared
        )
    plain = objective(transfer, content, 0)
    _, row["without regions"] = differences(evaluate_whole(plain, content), tiled(plain, content))
    print(row, flush=True)
    return row


def differences(whole: Evaluation, other: Evaluation) -> tuple[float, float]:
    """Return the relative differences of the loss and of the gradient."""
    gradient = (other.gradient - whole.gradient).norm() / whole.gradient.norm()
    return abs(other.loss - whole.loss) / abs(whole.loss), gradient.item()


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
    transfer, content = case.problem()
    shards = ShardedField(case.extent, group)
    evaluate = ShardedEvaluation(Tiler(tile=case.tile, workers=workers), shards)
    evaluation = evaluate(objective(transfer, content, 2), shards.local_part(content))
    gradient = shards.gather(evaluation.gradient)
    if rank == 0:
        loss = torch.tensor(evaluation.loss, dtype=torch.float64)
        save_file({"loss": loss, "gradient": gradient.contiguous()}, path)
    ProcessGroup.shutdown()


if __name__ == "__main__":
    main()
