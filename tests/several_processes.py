"""Started by `test_processes`: groups of 2, 3 and 4 processes against one, many cases in each.

A forked process shares the libraries that are loaded already. Every case raises where it fails.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import socket
import sys
import time
from pathlib import Path

import pytest
import torch
from convnd_tasks.options import StyleOptions
from convnd_tasks.style_transfer import StyleTransfer
from convnd_tasks.volume_options import VolumeOptions
from convnd_tasks.volumes import stylize_scan

from convnd.backbones import VGG, VGG19, Precision
from convnd.errors import out_of_memory
from convnd.grid import Grid
from convnd.losses import ContentLoss, Objective, StyleLoss, TemporalLoss, Term, TotalVariationLoss
from convnd.optimize import (
    Group,
    ShardedContent,
    ShardedEvaluation,
    Shards,
    Tiler,
    evaluate_whole,
    load_checkpoint,
    save_checkpoint,
)
from convnd.stats import STATISTICS

LAYERS = ("relu1_1", "relu2_1", "relu3_1")
SIZES = ((131,), (37, 45), (9, 1, 70), (21, 18, 17), (5,))


def evaluations(group: Group, folder: Path) -> None:
    """Loss and gradient of every kind of term, tiles larger and smaller than a slab."""
    for size, tile, keep in itertools.product(SIZES, (None, 8), (True, False)):
        if keep != (tile is None) and len(size) > 2:
            continue
        generator = torch.Generator().manual_seed(1)
        narrow = type(VGG19)(widths=((4, 4), (4, 4), (4,)))
        net = VGG(narrow, spatial_dims=len(size), in_channels=2, generator=generator).double()
        x, content, style = torch.rand(3, 1, 2, *size, generator=generator, dtype=torch.float64)
        tiler, shards = Tiler(tile=tile, workers=group.size), Shards(size, group)
        with torch.no_grad():
            kept, targets = net(content, LAYERS), net(style, LAYERS)

        def features(values: torch.Tensor, net: VGG = net) -> dict[str, torch.Tensor]:
            return net(values, LAYERS[1:2])

        terms = [
            Term("style", 3.0, StyleLoss(STATISTICS[name].sums(targets[layer]), layer=layer,
                                         statistic=name))
            for layer in LAYERS
            for name in ("gram", "moments", "covariance")
        ]  # fmt: skip
        terms.append(Term("smooth", 0.5, TotalVariationLoss([0.7] * len(size))))
        terms.append(Term("temporal", 0.3, TemporalLoss(style, content[:, :1])))
        wanted = ContentLoss(kept[LAYERS[1]], layer=LAYERS[1])
        tiling = tiler.tiling(net, LAYERS[1:2], size)
        source = ShardedContent(
            features, content, tiling, LAYERS[1], shards=shards, tiler=tiler, keep=keep
        )
        found = ContentLoss(source, layer=LAYERS[1])
        precision = Precision(torch.float64)
        whole = Objective(net, [*terms, Term("content", 1.0, wanted)], precision=precision)
        shared = Objective(net, [*terms, Term("content", 1.0, found)], precision=precision)
        expected = evaluate_whole(whole, x)
        for _ in range(2):  # the second time with what is kept
            got = ShardedEvaluation(tiler, shards)(shared, shards.part(x))
            assert abs(got.loss / expected.loss - 1) < 1e-12
            assert got.parts.keys() == expected.parts.keys()
            assert all(abs(got.parts[n] / expected.parts[n] - 1) < 1e-10 for n in got.parts)
            part = shards.part(expected.gradient)
            assert (got.gradient - part).abs().max() <= 1e-11 * expected.gradient.abs().max()
        assert shards.whole(shards.part(x)).equal(x)


def transfers(group: Group, folder: Path) -> None:
    """Whole transfers, and going on with another number of processes."""
    every = {2: [((300,), "lbfgs")], 4: [((50, 70), "lbfgs")]}  # the rest takes long
    three = itertools.product(((300,), (50, 70), (34, 20, 18)), ("adam", "lbfgs"))
    for size, optimizer in every.get(group.size, three):
        options = StyleOptions(
            backbone="compact", precision="float32", steps=4, scales=2, size=0,
            optimizer=optimizer, smoothness=0.1, style_layers=("relu1_1", "relu3_1"),
            content_layers=("relu3_1",),
        )  # fmt: skip
        generator = torch.Generator().manual_seed(1)
        content, style = torch.rand(2, 1, 1, *size, generator=generator)
        transfer = StyleTransfer(options, spatial_dims=len(size), in_channels=1)
        alone = list(transfer.run(content, [style]))
        name = f"{len(size)}-{optimizer}"
        together = []
        for progress in transfer.run(content, [style], group=group):
            together.append(progress)
            state = progress.state()
            kept = folder / f"{name}-{group.size}-{progress.step}"
            save_checkpoint(kept, state, "mark", progress.shards)
        for one, several in zip(alone, together, strict=True):
            values = several.shards.whole(several.values)
            difference = (values - one.values).norm() / one.values.norm()
            assert difference < 1e-5, (name, one.step, float(difference))
            assert several.size == values.shape[2:]
        # In float32 the second step of L-BFGS overshoots to where the loss knows five digits.
        assert abs(together[-1].loss / alone[-1].loss - 1) < 1e-5, name
        # The same processes go on bit by bit; another number of them to the same result.
        for count in (group.size, group.size - 1):
            kept = folder / f"{name}-{count}-2"
            if not kept.exists():
                continue
            state = load_checkpoint(kept, "mark", group)
            *_, last = transfer.run(content, [style], group=group, resume=state)
            if count == group.size:
                assert last.values.equal(together[-1].values)
                assert last.loss == together[-1].loss
            values = last.shards.whole(last.values)
            assert (values - alone[-1].values).norm() / alone[-1].values.norm() < 1e-5
        state = load_checkpoint(folder / f"{name}-{group.size}-2", "mark")  # and one alone
        *_, last = transfer.run(content, [style], resume=state)
        assert (last.values - alone[-1].values).norm() / alone[-1].values.norm() < 1e-5


def memory(group: Group, folder: Path) -> None:
    """Memory that runs out in one process makes tiles smaller in all."""
    net = VGG(VGG19.until(["relu1_1"]), spatial_dims=1, in_channels=1)
    smooth = Objective(net, [Term("smooth", 1.0, TotalVariationLoss([1.0]))])
    shards = Shards((200,), group)
    x = torch.rand(1, 1, 200, generator=torch.Generator().manual_seed(1))
    told = []
    tiler = Tiler(workers=group.size, told=told.append)
    features = smooth.features

    def limited(values: torch.Tensor) -> dict[str, torch.Tensor]:
        if group.rank == 1 and values.shape[-1] > 30:
            raise RuntimeError("not enough memory")
        return features(values)

    smooth.features = limited  # type: ignore[method-assign]
    found = ShardedEvaluation(tiler, shards)(smooth, shards.part(x))
    smooth.features = features  # type: ignore[method-assign]
    expected = evaluate_whole(smooth, x)
    assert abs(found.loss / expected.loss - 1) < 1e-6
    assert len(told) >= 1
    with pytest.raises(MemoryError) as caught:
        group.attempt(lambda: limited(torch.zeros(1, 1, 99)))
    assert out_of_memory(caught.value)


def volumes(group: Group, folder: Path) -> None:
    """The slices of a volume, shared out."""
    generator = torch.Generator().manual_seed(1)
    scan, style = (
        Grid(
            values=torch.rand((1, 1, 26, 22, 20), generator=generator),
            spacing=(1.0, 1.0, 1.0),
            units=("mm",) * 3,
        )
        for _ in range(2)
    )
    options = VolumeOptions(steps=2, precision="float32")
    found = []
    for together in (Group(), group):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Group, "current", lambda together=together: together)
            found.append(stylize_scan(scan, [style], options))
    one, several = found
    assert several.losses == pytest.approx(one.losses, rel=1e-5)
    difference = several.grid.values - one.grid.values
    assert difference.norm() / one.grid.values.norm() < 1e-5


CASES = (evaluations, transfers, memory, volumes)


def work(rank: int, size: int, port: int, folder: Path) -> None:
    os.environ.update(
        RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    group = Group.join()
    for case in CASES:
        case(group, folder)
    Group.leave()


def main() -> None:
    torch.set_num_threads(1)
    fork = multiprocessing.get_context("fork")
    for size in (2, 3, 4):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        processes = [
            fork.Process(target=work, args=(rank, size, port, Path(sys.argv[1])))
            for rank in range(size)
        ]
        for each in processes:
            each.start()
        until = time.monotonic() + 120
        for each in processes:
            each.join(max(0.0, until - time.monotonic()))
        codes = [each.exitcode for each in processes]
        for each in processes:
            each.kill()  # who still waits after that waits for ever
        if codes != [0] * size:
            sys.exit(f"{size} processes ended with {codes}")


if __name__ == "__main__":
    main()
