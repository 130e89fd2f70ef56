"""Started by `test_processes`: groups of 2, 3 and 4 processes against one, many cases in each.

A forked process shares the libraries that are loaded already. Every case raises where it fails.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
import torch._dynamo  # which Adam loads at its first step: here once for all processes
from convnd_tasks.modalities.inputs import TransferInputs
from convnd_tasks.modalities.volumes.look_transfer import LookTransfer
from convnd_tasks.modalities.volumes.options import VolumeOptions
from convnd_tasks.runtime.checkpoints import Checkpointer
from convnd_tasks.runtime.interrupts import GracefulInterrupt
from safetensors.torch import load_file, save_file
from torch import Tensor

from convnd.backbones import VGG, VGG19, Backbone, MultiPlanar, Precision
from convnd.errors import is_out_of_memory
from convnd.grid import Grid
from convnd.losses import (
    ContentLoss,
    LocalAffineLoss,
    Objective,
    StyleLoss,
    TemporalLoss,
    Term,
    TotalVariationLoss,
)
from convnd.optimize import (
    ProcessGroup,
    ShardedContent,
    ShardedEvaluation,
    ShardedField,
    Tiler,
    evaluate_whole,
    load_checkpoint,
    sharded_sums,
)
from convnd.optimize.evaluation import tiler as tiler_module
from convnd.stats import STATISTICS, GuidedStatistic
from convnd.transfer import memory as memory_module
from convnd.transfer.memory import MemoryBudget
from convnd.transfer.memory_model import MemoryModel
from convnd.transfer.options import TransferOptions
from convnd.transfer.problem import TransferProblem
from convnd.transfer.progress import Progress
from convnd.transfer.style_transfer import StyleTransfer

Found = dict[str, Tensor]
LAYERS = ("relu1_1", "relu2_1", "relu3_1")
# Two and four processes do what is particular to them: halves, and more of them than positions.
SIZES = {
    2: ((131,),),
    3: ((131,), (29, 23), (9, 1, 40), (15, 11, 10), (5,)),
    4: ((5,),),
}
TRANSFERS = {
    2: [((300,), "lbfgs"), ((30, 42), "adam")],
    3: [((300,), "lbfgs"), ((30, 42), "adam"), ((22, 12, 10), "lbfgs")],
    4: [((300,), "lbfgs")],
}


def evaluations(group: ProcessGroup, folder: Path) -> None:
    """Loss and gradient of every kind of term, tiles larger and smaller than a slab."""
    for name in ("lags", "overlap"):  # the statistic that looks beyond its tile, and not to its end
        setattr(STATISTICS["autocorrelation"], name, 3)
    for size, tile, keep in itertools.product(SIZES[group.size], (None, 8), (True, False)):
        if keep != (tile is None) and len(size) > 2:
            continue
        generator = torch.Generator().manual_seed(1)
        narrow = type(VGG19)(widths=((4, 4), (4, 4), (4,)))
        net = VGG(narrow, spatial_dims=len(size), in_channels=2, generator=generator).double()
        x, content, style = torch.rand(3, 1, 2, *size, generator=generator, dtype=torch.float64)
        tiler, shards = Tiler(tile=tile, workers=group.size), ShardedField(size, group)
        with torch.no_grad():
            contents, targets = net(content, LAYERS), net(style, LAYERS)

        def features(values: torch.Tensor, net: VGG = net) -> dict[str, torch.Tensor]:
            return net(values, LAYERS[1:2])  # type: ignore[no-any-return]

        terms = [
            Term("style", 3.0, StyleLoss(STATISTICS[name].sums(targets[layer]), layer=layer,
                                         statistic=name))
            for layer in LAYERS
            for name in ("gram", "moments", "covariance", "autocorrelation")
        ]  # fmt: skip
        for name, layer in itertools.product(("gram", "autocorrelation"), LAYERS):
            share = torch.rand(1, 1, *targets[layer].shape[2:], generator=generator)
            guide = share.double().where(share > 0.3, 0.0)
            guided_sums = GuidedStatistic(STATISTICS[name], guide).sums(targets[layer])
            loss = StyleLoss(guided_sums, layer=layer, statistic=name, guide=guide)
            terms.append(Term("region", 2.0, loss))
        terms.append(Term("smooth", 0.5, TotalVariationLoss([0.7] * len(size))))
        terms.append(Term("temporal", 0.3, TemporalLoss(style, content[:, :1])))
        overlaps = dict.fromkeys(LAYERS, 3)
        cut = tiler.make_tiling(net, LAYERS, size, overlaps)
        sums = sharded_sums(
            lambda x, net=net: net(x, LAYERS), style, cut,
            dict.fromkeys(LAYERS, STATISTICS["autocorrelation"]), group,
        )  # fmt: skip
        for layer in LAYERS:
            whole_sums = STATISTICS["autocorrelation"].sums(targets[layer])
            assert sums[layer].count == whole_sums.count
            difference = (sums[layer].total - whole_sums.total).abs().max()
            assert difference < 1e-11 * whole_sums.total.abs().max()
        content_loss = ContentLoss(contents[LAYERS[1]], layer=LAYERS[1])
        tiling = tiler.make_tiling(net, LAYERS[1:2], size)
        source = ShardedContent(
            features, content, tiling, LAYERS[1], shards=shards, tiler=tiler, keep=keep
        )
        shared_loss = ContentLoss(source, layer=LAYERS[1])
        precision = Precision(torch.float64)
        whole = Objective(net, [*terms, Term("content", 1.0, content_loss)], precision=precision)
        shared = Objective(net, [*terms, Term("content", 1.0, shared_loss)], precision=precision)
        expected = evaluate_whole(whole, x)
        deep = Tiler(tile=tile and tile // 2, workers=group.size)
        cut = Tiler(tile=tile, workers=group.size, deep_tiler=deep, spare_bytes=lambda *_: 10_000.0)  # type: ignore[assignment]
        for variant in (tiler, tiler, cut):  # the second time with what is kept
            got = ShardedEvaluation(variant, shards)(shared, shards.local_part(x))  # type: ignore[arg-type]
            assert abs(got.loss / expected.loss - 1) < 1e-12
            assert got.parts.keys() == expected.parts.keys()
            assert all(abs(got.parts[n] / expected.parts[n] - 1) < 1e-10 for n in got.parts)
            part = shards.local_part(expected.gradient)
            assert (got.gradient - part).abs().max() <= 1e-11 * expected.gradient.abs().max()
        assert shards.gather(shards.local_part(x)).equal(x)


def planes(group: ProcessGroup, folder: Path) -> None:
    """Kinds of planes one after the other, each shared out along the axis that it does not see."""
    generator = torch.Generator().manual_seed(1)
    narrow = type(VGG19)(widths=((4, 4), (4,)))
    net = VGG(narrow, spatial_dims=2, in_channels=1, generator=generator)
    backbone = MultiPlanar(net, spatial_dims=3).double()
    x, style = torch.rand(2, 1, 1, 9, 14, 11, generator=generator, dtype=torch.float64)
    layers = backbone.plane_layers(["relu1_1", "relu2_1"])
    targets = {name: STATISTICS["gram"].sums(f) for name, f in backbone(style, layers).items()}
    terms = [Term("style", 1.0, StyleLoss(targets[name], layer=name)) for name in layers]
    terms.append(Term("smooth", 0.5, TotalVariationLoss([1.0, 1.0, 1.0])))
    objective = Objective(backbone, terms, precision=Precision(torch.float64))
    expected, shards = evaluate_whole(objective, x), ShardedField(x.shape[2:], group)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiler_module, "_CACHE_POSITIONS", 300)
        tiler = Tiler(workers=group.size, spare_bytes=lambda *_: 1e5)
        for kind in backbone.independent_groups(layers):
            assert tiler.make_tiling(backbone, kind, x.shape[2:]).overhead == 1
        got = ShardedEvaluation(tiler, shards)(objective, shards.local_part(x))
    assert abs(got.loss / expected.loss - 1) < 1e-12
    part = shards.local_part(expected.gradient)
    assert (got.gradient - part).abs().max() <= 1e-11 * expected.gradient.abs().max()


PERIODS = (((131,), 16), ((131,), None), ((48, 20), 16), ((32, 64), None), ((8, 14, 11), 4))


def periods(group: ProcessGroup, folder: Path) -> None:
    """Periodic fields, whose slabs go on at the other end; also through a split network."""
    generator = torch.Generator().manual_seed(1)
    narrow = type(VGG19)(widths=((4, 4), (4, 4), (4,)))
    for size, tile in PERIODS:
        net: Backbone = VGG(
            narrow, spatial_dims=min(2, len(size)), in_channels=2, generator=generator
        ).double()
        net = net if len(size) < 3 else MultiPlanar(net, spatial_dims=3)
        layers = LAYERS if len(size) < 3 else net.plane_layers(LAYERS)  # type: ignore[operator]
        x, content, style = torch.rand(3, 1, 2, *size, generator=generator, dtype=torch.float64)
        plain, net, shards = net, net.as_periodic(), ShardedField(size, group)
        with torch.no_grad():
            targets, contents = plain(style, layers), net(content, layers)
        terms = [
            Term("style", 1.0, StyleLoss(STATISTICS["gram"].sums(targets[name]), layer=name))
            for name in layers
        ]
        terms.append(Term("smooth", 0.5, TotalVariationLoss([1.0] * len(size))))
        terms.append(Term("affine", 0.5, LocalAffineLoss(content, periodic=True)))
        tiler = Tiler(tile=tile, workers=group.size)

        def features(
            crop: Tensor,
            cut_axes: tuple[int, ...] = (),
            net: Backbone = net,
            layers: Sequence[str] = layers,
        ) -> dict[str, Tensor]:
            return net.cut_along(cut_axes)(crop, layers[1:2])  # type: ignore[no-any-return]

        tiling = tiler.make_tiling(net, layers[1:2], size)
        source = ShardedContent(
            features, content, tiling, layers[1], shards=shards, tiler=tiler, keep=True
        )
        losses = [ContentLoss(aim, layer=layers[1]) for aim in (contents[layers[1]], source)]
        whole, shared = (
            Objective(net, [*terms, Term("content", 1.0, loss)], precision=Precision(torch.float64))
            for loss in losses
        )
        expected = evaluate_whole(whole, x)
        deep = Tiler(tile=tile and tile // 2, workers=group.size)
        for variant in (tiler, Tiler(tile=tile, workers=group.size, deep_tiler=deep)):
            got = ShardedEvaluation(variant, shards)(shared, shards.local_part(x))
            assert abs(got.loss / expected.loss - 1) < 1e-12
            part = shards.local_part(expected.gradient)
            assert (got.gradient - part).abs().max() <= 1e-11 * expected.gradient.abs().max()


def transfers(group: ProcessGroup, folder: Path) -> None:
    """Whole transfers, and going on with another number of processes."""
    for size, optimizer in TRANSFERS[group.size]:  # type: ignore[attr-defined]
        options = TransferOptions(
            backbone="compact", precision="float32", steps=4, scales=2, size=0,
            optimizer=optimizer, tv_weight=0.1, style_layers=("relu1_1", "relu3_1"),
            content_layers=("relu3_1",),
        )  # fmt: skip
        # Numbers for which no ReLU lies so near its kink that rounding decides.
        generator = torch.Generator().manual_seed(2)
        content, style = torch.rand(2, 1, 1, *size, generator=generator)
        transfer = StyleTransfer(options, spatial_dims=len(size), in_channels=1)
        name = f"{len(size)}-{optimizer}"
        alone = once(group, folder / f"{name}-alone", partial(whole_walk, transfer, content, style))
        together = []
        for progress in transfer.run(TransferProblem(content, [style]), group=group):
            together.append(progress)
            keep(folder / f"{name}-{group.size}-{progress.step}", progress, group)
        for number, several in enumerate(together):
            values = several.shards.gather(several.values)  # type: ignore[union-attr]
            one = alone[f"values{number}"]
            difference = (values - one).norm() / one.norm()
            assert difference < 1e-5, (name, number, float(difference))
            assert several.size == values.shape[2:]
        assert len(alone["losses"]) == len(together)
        # In float32 the second step of L-BFGS overshoots to where the loss knows five digits.
        change = together[-1].loss / float(alone["losses"][-1]) - 1
        assert abs(change) < 1e-5, (name, change)
        end = alone[f"values{number}"]
        # The same processes go on bit by bit; another number of them to the same result.
        for count in (group.size, group.size - 1, 1):
            checkpoint = folder / f"{name}-{count}-2.checkpoint"
            if not checkpoint.exists():
                assert count == group.size - 1
                continue
            state = load_checkpoint(checkpoint, "mark", group)
            *_, last = transfer.run(TransferProblem(content, [style]), group=group, resume=state)
            if count == group.size:
                assert last.values.equal(together[-1].values)
                assert last.loss == together[-1].loss
            values = last.shards.gather(last.values)  # type: ignore[union-attr]
            assert (values - end).norm() / end.norm() < 1e-5
        if group.rank == 0:  # and one alone
            state = load_checkpoint(folder / f"{name}-{group.size}-2.checkpoint", "mark")
            *_, last = transfer.run(TransferProblem(content, [style]), resume=state)
            assert (last.values - end).norm() / end.norm() < 1e-5


def whole_walk(transfer: StyleTransfer, content: Tensor, style: Tensor, checkpoint: Path) -> Found:
    """What one process does, with its checkpoints."""
    values: Found = {}
    losses = []
    for number, progress in enumerate(transfer.run(TransferProblem(content, [style]))):
        keep(
            checkpoint.with_name(f"{checkpoint.name.replace('alone', '1')}-{progress.step}"),
            progress,
            None,
        )
        values[f"values{number}"] = progress.values
        losses.append(progress.loss)
    return {**values, "losses": torch.tensor(losses)}


def keep(path: Path, progress: Progress, group: ProcessGroup | None) -> None:
    """A checkpoint as a job keeps it."""
    checkpointer = Checkpointer(path, 1, group)
    checkpointer._fingerprint = "mark"
    checkpointer.after_step(progress)


def once(group: ProcessGroup, path: Path, work: Callable[[Path], Found]) -> Found:
    """What is the same for all groups is made once."""
    if group.rank == 0 and not path.exists():
        save_file(work(path), path)
    group.all_reduce_max(0)  # which waits
    return load_file(path)


def memory(group: ProcessGroup, folder: Path) -> None:
    """Memory that runs out in one process makes tiles smaller in all."""
    net = VGG(VGG19.truncate(["relu1_1"]), spatial_dims=1, in_channels=1)
    smooth = Objective(net, [Term("smooth", 1.0, TotalVariationLoss([1.0]))])
    shards = ShardedField((200,), group)
    x = torch.rand(1, 1, 200, generator=torch.Generator().manual_seed(1))
    shrinks = []  # type: ignore[var-annotated]
    tiler = Tiler(workers=group.size, on_shrink=shrinks.append)
    features = smooth.features

    def limited(values: torch.Tensor, **more: Any) -> dict[str, torch.Tensor]:
        if group.rank == 1 and values.shape[-1] > 30:
            raise RuntimeError("not enough memory")
        return features(values, **more)

    smooth.features = limited  # type: ignore[assignment, method-assign]
    evaluated = ShardedEvaluation(tiler, shards)(smooth, shards.local_part(x))
    smooth.features = features  # type: ignore[method-assign]
    expected = evaluate_whole(smooth, x)
    assert abs(evaluated.loss / expected.loss - 1) < 1e-6
    assert len(shrinks) >= 1
    with pytest.raises(MemoryError) as caught:
        group.run_together(lambda: limited(torch.zeros(1, 1, 99)))
    assert is_out_of_memory(caught.value)


def scarce(group: ProcessGroup, folder: Path) -> None:
    """Memory that runs out before an exchange ends it for all; tiles are the same for all."""
    shards = ShardedField((20,), group)
    boxes = [shards.slab(0, 0, 20)] * group.size
    for give in (False, True):
        values = torch.rand(1, 1, 20) if give else shards.local_part(torch.rand(1, 1, 20))
        if group.rank == 1:
            values = values.as_subclass(Scarce)
        with pytest.raises(MemoryError, match="memory ran out in one of the processes"):
            (shards.scatter_add if give else shards.gather_region)(values, boxes)
    net = VGG(VGG19.truncate(["relu1_1"]), spatial_dims=1, in_channels=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory_module, "_free_bytes", lambda _: (group.rank + 1) * 2**24)
        model = MemoryModel(TransferOptions(), net, torch.device("cpu"), group=group)
        budget = MemoryBudget(model)
    assert budget.free == int(0.85 * 2**24) // group.size


class Scarce(Tensor):
    """A field where there is no memory for another one."""

    def new_empty(self, *_: object, **__: object) -> NoReturn:
        raise RuntimeError("not enough memory")

    new_zeros = new_empty


def signals(group: ProcessGroup, folder: Path) -> None:
    """A signal to one process ends the step of all, and a second one changes nothing."""
    interrupt = GracefulInterrupt(group)
    with interrupt.signals():
        assert interrupt.received() == 0
        if group.rank == 1:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
        assert interrupt.received() == signal.SIGTERM


def scan_of(noise: float, seed: int) -> Grid:
    """Two frames of soft tissue beside lung, in HU."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.where(torch.arange(40) < 22, 40.0, -850.0).view(1, 1, -1, 1, 1)
    values = values + noise * torch.randn((1, 2, 40, 18, 20), generator=generator)
    return Grid(values=values, spacing=(2.0, 2.0, 2.0), units=("mm",) * 3)


def volumes(group: ProcessGroup, folder: Path) -> None:
    """The look of a scan: every process does the work, and the first one has the result."""
    inputs = TransferInputs(content=scan_of(5, 1), styles=[scan_of(20, 2)], names=["scan", "style"])

    def alone(_: Path) -> Found:
        transfer = LookTransfer(inputs, VolumeOptions())
        *_, last = transfer.run(state=None, group=None, on_message=None)  # type: ignore[assignment]
        result = transfer.result(last)
        assert result is not None
        return {"values": result.values}

    one = once(group, folder / "volume", alone)
    transfer = LookTransfer(inputs, VolumeOptions())
    *_, last = transfer.run(state=None, group=group, on_message=None)
    result = transfer.result(last)
    assert (result is None) == (group.rank != 0)
    if result is not None:
        assert torch.equal(result.values, one["values"])


CASES = (evaluations, periods, transfers, volumes, planes, memory, scarce, signals)


def work(rank: int, size: int, port: int, folder: Path) -> None:
    os.environ.update(
        RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    group = ProcessGroup.join()
    for case in CASES if size < 4 else (evaluations, periods, transfers, planes):
        case(group, folder)
    ProcessGroup.shutdown()


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
        for process in processes:
            process.start()
        until = time.monotonic() + 120
        for process in processes:
            process.join(max(0.0, until - time.monotonic()))
        codes = [process.exitcode for process in processes]
        for process in processes:
            process.kill()  # who still waits after that waits for ever
        if codes != [0] * size:
            sys.exit(f"{size} processes ended with {codes}")


if __name__ == "__main__":
    main()
