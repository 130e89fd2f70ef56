"""How much memory a transfer takes, and the tiles that keep it within what there is."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import psutil
import torch
from torch import Tensor

from convnd.backbones import Backbone
from convnd.errors import ResourceError, UsageError
from convnd.losses import INPUT
from convnd.optimize import OPTIMIZERS, DiskOffload, ProcessGroup, Tiler
from convnd.shapes import Tiling
from convnd.stats import STATISTICS, overlap_of, peak_bytes_of
from convnd.transfer.byte_size import parse_memory

__all__ = ["KEPT_PAGES", "Budget", "MemoryOptions"]

_LOG = logging.getLogger(__name__)

_SHARE = 0.85
"""Of the memory that is free, what is used; others live there too."""

_SURE = 0.95
"""Of what seems to be left, what is taken for more speed only."""

_WORTH_SAYING = 1.05
"""Times the work of one piece."""

KEPT_PAGES = 512 * 2**20
"""What the allocator holds between blocks that are too small to be given back: measured along one
axis, half as much over more."""

Say = Callable[[str], None]


class MemoryOptions(Protocol):
    """The options that decide how much memory a transfer takes.

    Attributes:
        tile: "auto", "off", or samples of a tile along each axis.
        memory: what may be used, see `convnd.transfer.byte_size.parse_memory`.
        optimizer: one of `convnd.optimize.OPTIMIZERS`.
        style_loss: one of `convnd.stats.STATISTICS`, taken of the style layers' features.
        value_statistics: statistics of the values themselves.
        content_weight: 0 means that the content's features are not computed.
        content_layers: layers whose features are compared.
        style_layers: layers whose statistics are compared.
        layers: both.
    """

    @property
    def tile(self) -> str: ...  # noqa: D102
    @property
    def memory(self) -> str: ...  # noqa: D102
    @property
    def optimizer(self) -> str: ...  # noqa: D102
    @property
    def style_loss(self) -> str: ...  # noqa: D102
    @property
    def value_statistics(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def content_weight(self) -> float: ...  # noqa: D102
    @property
    def content_layers(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def style_layers(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def layers(self) -> tuple[str, ...]: ...  # noqa: D102


@dataclass(frozen=True)
class _Cut:
    """Where the network is cut in two, see `convnd.optimize.evaluation.split`."""

    layers: tuple[str, ...]  # up to the cut, and it
    rest: Backbone
    joint: int  # bytes of the features at the cut and of their gradient


class Budget:
    """The memory of one transfer.

    Args:
        options: reads ``tile``, ``memory``, ``optimizer`` and layers.
        backbone: the network.
        device: where it runs.
        batch: fields that are worked on together.
        group: the processes that share the work, each with memory of its own.
        content: what is counted at other sizes only, since here it is in memory.
        say: is told in a line when an input is cut, or memory runs out.

    Raises:
        ResourceError: less is left of ``memory`` than the program itself takes.
    """

    def __init__(
        self,
        options: MemoryOptions,
        backbone: Backbone,
        device: torch.device,
        batch: int,
        say: Say | None = None,
        group: ProcessGroup | None = None,
        content: Tensor | None = None,
    ) -> None:
        self.group = ProcessGroup() if group is None else group
        self._device = device
        self._there = None if content is None else (content.device, tuple(content.shape[2:]))
        self.options = options
        self.backbone = backbone
        self.batch = batch
        self._summed = self._costly()
        self.say: Say = (lambda _: None) if say is None else say
        asked = parse_memory(options.memory)
        if asked is None:
            # Also of processes that work on files of their own.
            shared = ProcessGroup.current().local_size if device.type == "cpu" else 1
            self.free = int(_SHARE * _free(device)) // shared
        else:
            taken = psutil.Process().memory_info().rss if device.type == "cpu" else 0
            self.free = asked - taken
        # Tiles depend on it, and have to be the same ones for all.
        self.free = -self.group.all_reduce_max(-self.free)
        if asked is not None and self.free <= 0:
            raise ResourceError(
                f"--memory: expected more than the {_gib(asked - self.free)} that the program and "
                f"its inputs take, got {options.memory}; allow more"
            )

    def tiler(self, extent: Sequence[int]) -> Tiler | None:
        """Tiles for evaluations at a size; None where tiles are not to be used."""
        if self.options.tile == "off":
            if self.group.size > 1:
                raise UsageError(
                    "--tile: expected tiles, for several processes to share, got off; leave it out"
                )
            return None
        budget = self.free - self._fixed(extent)
        cut = self._cut(extent)
        if cut is not None:  # before the deep part no gradient is there, and behind it no features
            budget -= cut.joint // 2

        def told(tiling: Tiling) -> None:
            self.say(
                f"memory ran out with tiles of {_times(tiling.tile)}; going on with smaller ones"
            )

        # Made again, the content's features come forwards beside a tile's own.
        times = 1.0 if self.keeps_content(extent) else 1.5

        def fits(crop: tuple[int, ...], layers: Sequence[str]) -> bool:
            return budget > 0 and self._crop(crop, layers) * times <= budget

        def fits_behind(crop: tuple[int, ...], layers: Sequence[str]) -> bool:
            assert cut is not None
            return self._crop(crop, layers, cut.rest) + cut.joint // 2 <= budget

        def rest(crop: tuple[int, ...], layers: Sequence[str]) -> float:
            beside = self._crop(crop, layers) * times
            left = budget - beside
            if cut is not None and deep is not None:  # which is worked on meanwhile
                left = min(left, budget - cut.joint // 2 - self._behind(extent, cut, deep)[1])
            # The first one is kept before it is measured; and what is estimated is not all of it.
            return _SURE * left if left >= beside else 0

        workers = self.group.size
        deep = None if cut is None else Tiler(fits=fits_behind, on_shrink=told, workers=workers)
        return Tiler(
            tile=self._tile,
            fits=fits,
            spare_bytes=rest,
            on_shrink=told,
            workers=workers,
            deep_tiler=deep,
        )

    def _behind(self, extent: Sequence[int], cut: _Cut, deep: Tiler) -> tuple[int, int]:
        """Tiles behind the cut, and what one of them takes."""
        layers = [name for name in self.options.layers if name in cut.rest.layers]
        steps = self.backbone.receptive_fields[cut.layers[-1]].stride
        size = [max(1, n // int(step)) for n, step in zip(extent, steps, strict=True)]
        tiling = deep.make_tiling(cut.rest, (*layers, INPUT), size, self._overlaps())
        return len(tiling), self._crop(tiling.largest_crop, layers, cut.rest)

    def _cut(self, extent: Sequence[int]) -> _Cut | None:
        """Where to cut the network; None where it does not take tiles, or is left in one."""
        layers, room = self.options.layers, self.free - self._fixed(extent)
        if self._whole(extent):
            return None
        # What is made again for every tile is made from the content itself.
        if not self.keeps_content(extent):
            return None
        found = self.backbone.split_at(layers, extent)
        if found is None:
            return None
        name, rest = found
        joint = 2 * self.batch * self.backbone.activation_bytes(extent, [name])
        if self.group.size > 1:  # each has what its tiles see, and what it owns
            joint = 2 * joint // self.group.size
        if joint > room * 3 // 4:  # a halo of a third is worth small tiles
            return None
        front = (*(each for each in layers if each not in rest.layers), name)
        return _Cut(front, rest, joint)

    def _whole(self, extent: Sequence[int]) -> bool:
        """Whether all of it is worked on in one piece."""
        large = self._tile is None or self._tile >= max(extent)
        room = self.free - self._fixed(extent)
        return large and self._crop(extent, self.options.layers) <= room and self.group.size == 1

    def offload(self, extent: Sequence[int]) -> DiskOffload:
        """Where what is looked at once a step is kept: on the disk, where it is half of it all."""
        return DiskOffload() if self._offloads(extent) else DiskOffload.disabled()

    def _offloads(self, extent: Sequence[int]) -> bool:
        alone = self.group.size == 1 and self._device.type == "cpu"
        if not alone or self.options.optimizer != "adam" or self.options.tile == "off":
            return False
        return self._field(extent) * OPTIMIZERS["adam"].copies > self.free // 2

    def keeps_content(self, extent: Sequence[int]) -> bool:
        """Whether the content's features are kept, and not made again for every tile."""
        return self._content(extent) <= (self.free - self._iterates(extent)) // 2

    def check(self, extent: Sequence[int], styles: Sequence[Sequence[int]]) -> None:
        """Say what the largest size takes.

        Args:
            extent: of the result.
            styles: of each style as it is used.

        Raises:
            ResourceError: it is more than there is.
        """
        layers = self.options.layers
        cut = "no tiles, as asked for"
        if self.options.tile == "off":
            needed = self._fixed(extent) + self._crop(extent, layers)
            for style in styles:  # forwards only, where about half of it is alive
                forwards = self._crop(style, layers) // 2
                needed = max(needed, forwards)
            remedy = "use --tile auto, a smaller --size or --style-scale, or --backbone compact"
        else:
            cut, needed, work = self.division(extent)
            remedy = "use a smaller --size, --backbone compact" + (
                ", or --optimizer adam" if self.options.optimizer == "lbfgs" else ""
            )
            if overlap_of(STATISTICS[self.options.style_loss]):  # each tile sees far more than it
                remedy += ", or --style-loss gram"
            if needed <= self.free and work > _WORTH_SAYING:
                self.say(f"{cut}, {work:.2f} times the work of one piece, about {_gib(needed)}")
            if needed <= self.free and self._offloads(extent):
                self.say("what Adam remembers is kept in files, in TMPDIR or /var/tmp")
        _LOG.info(
            "%s in %s, about %s of %s",
            *(_times(extent), cut, _gib(needed), _gib(self.free)),
            extra={"figures": {"tiles": cut, "memory_needed": needed, "memory_free": self.free}},
        )
        if needed > self.free:
            raise ResourceError(
                f"style transfer: expected at most {_gib(self.free)}, which is free, got a job of "
                f"about {_gib(needed)} at {_times(extent)}; {remedy}"
            )

    def division(self, extent: Sequence[int]) -> tuple[str, int, float]:
        """How a size is worked on: tiles in words, bytes of all, and the work.

        Args:
            extent: of the result.

        Returns:
            The last is what is computed over what one piece would compute: halos, and forwards
            what is not kept for the way back.
        """
        tiler = self.tiler(extent)
        layers, fixed = self.options.layers, self._fixed(extent)
        if tiler is None:
            return "one piece", fixed + self._crop(extent, layers), 1.0
        overlaps = self._overlaps()
        groups = self.backbone.independent_groups(layers)
        if len(groups) > 1:
            counts, needs, works = [], [], []
            for each in groups:
                own = {name: overlaps.get(name, 0) for name in each}
                tiling = tiler.make_tiling(self.backbone, (*each, INPUT), extent, own)
                kept, work = self._kept(tiler, tiling, each)
                counts.append(str(len(tiling)))
                needs.append(self._crop(tiling.largest_crop, each) + kept)
                works.append(work)
            tiles = f"{', '.join(counts)} tiles of {len(groups)} kinds"
            return tiles, fixed + max(needs), sum(works) / len(works)
        cut = self._cut(extent)
        front = layers if cut is None else cut.layers
        tiling = tiler.make_tiling(self.backbone, (*front, INPUT), extent, overlaps)
        kept, work = self._kept(tiler, tiling, front)
        needed = self._crop(tiling.largest_crop, front)
        words = f"{len(tiling)} tiles of {_times(tiling.tile)}" if len(tiling) > 1 else "one piece"
        if cut is not None and tiler.deep_tiler is not None:
            count, behind = self._behind(extent, cut, tiler.deep_tiler)
            needed = max(cut.joint // 2 + needed, cut.joint + behind)
            words += f" up to {front[-1]}, {count} behind it"
        return words, fixed + needed + kept, work

    def _kept(self, tiler: Tiler, tiling: Tiling, layers: Sequence[str]) -> tuple[int, float]:
        """Bytes that are kept between the passes, at most, and the work as `division` says it."""
        if len(tiling) == 1:
            return 0, 1.0
        all_of_it = len(tiling) * self.batch * self.backbone.peak_bytes(tiling.largest_crop, layers)
        kept = min(int(tiler.spare_bytes(tiling, layers)), all_of_it)
        return kept, tiling.overhead * (1.5 - 0.5 * kept / all_of_it)

    @property
    def _tile(self) -> int | None:
        return None if self.options.tile in ("auto", "off") else int(self.options.tile)

    def _crop(
        self, crop: Sequence[int], layers: Sequence[str], backbone: Backbone | None = None
    ) -> int:
        """What a crop takes, forwards and back."""
        backbone = self.backbone if backbone is None else backbone
        statistic = STATISTICS[self.options.style_loss]
        found = backbone.peak_bytes(crop, layers)
        for name, channels in self._summed.items():
            if name in layers:
                stride = map(int, backbone.receptive_fields[name].stride)
                extent = [max(1, each // step) for each, step in zip(crop, stride, strict=True)]
                found += channels * peak_bytes_of(statistic, extent)
        values = [peak_bytes_of(STATISTICS[name], crop) for name in self.options.value_statistics]
        found += self.backbone.in_channels * sum(values)
        if self.backbone.spatial_dims > 1:
            return found * self.batch + min(found * self.batch, KEPT_PAGES) // 2
        # Along one axis deep layers hold as much as shallow ones, and the peak is where losses are:
        # a gradient for every layer, and the content's differences three times in float32.
        found += self.backbone.activation_bytes(crop, [name for name in layers if name != INPUT])
        if self.options.content_weight:
            content = self.backbone.activation_bytes(crop, self.options.content_layers)
            found += 12 * content // self._width
        return found * self.batch + min(found * self.batch, KEPT_PAGES)

    @property
    def _width(self) -> int:
        """Bytes of a number of the features; the first layer's weights may be wider."""
        return min((each.element_size() for each in self.backbone.parameters()), default=4)

    def _costly(self) -> dict[str, int]:
        """Channels of each layer where the sums themselves take memory that counts."""
        one = [1] * self.backbone.spatial_dims
        if not peak_bytes_of(STATISTICS[self.options.style_loss], one):
            return {}
        return {
            name: self.backbone.activation_bytes(one, [name]) // self._width
            for name in self.options.style_layers
            if name in self.backbone.receptive_fields
        }

    def _overlaps(self) -> dict[str, int]:
        """What tiles have to see behind their own, by layer; see `convnd.losses.Loss`."""
        options = self.options
        values = max((overlap_of(STATISTICS[name]) for name in options.value_statistics), default=0)
        overlap = overlap_of(STATISTICS[options.style_loss])
        return {INPUT: values, **dict.fromkeys(options.style_layers, overlap)}

    def _fixed(self, extent: Sequence[int]) -> int:
        kept = self._content(extent) if self.keeps_content(extent) else 0
        return self._iterates(extent) + kept

    def _iterates(self, extent: Sequence[int]) -> int:
        copies = OPTIMIZERS[self.options.optimizer].copies
        copies += (
            len(self.backbone.independent_groups(self.options.layers)) > 1
        )  # a gradient of each kind
        if self._offloads(extent):
            copies -= 4  # the iterate before, the best and both moments
        field = self._field(extent)
        # The content is whole everywhere; the rest is shared out.
        content = field * (self._there not in (None, (self._device, tuple(extent))))
        if self.group.size > 1:
            copies += 2  # what tiles see and its gradient, beside one's own
        return content + field * copies // self.group.size

    def _field(self, extent: Sequence[int]) -> int:
        """Bytes of an iterate."""
        return 4 * self.batch * self.backbone.in_channels * math.prod(extent)

    def _content(self, extent: Sequence[int]) -> int:
        if not self.options.content_weight:
            return 0
        held = self.batch * self.backbone.activation_bytes(extent, self.options.content_layers)
        return held // self.group.size


def _free(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"


def _times(extent: Sequence[int]) -> str:
    return "x".join(str(each) for each in reversed(extent))
