"""Plans that keep a style transfer at one size within the memory that it may use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from convnd.backbones import Backbone
from convnd.errors import UsageError
from convnd.losses import INPUT
from convnd.optimize import HISTORY, LEAST_HISTORY, OPTIMIZERS, DiskOffload, Tiler
from convnd.shapes import Tiling
from convnd.transfer.byte_size import gib
from convnd.transfer.memory_model import MemoryModel

__all__ = ["MemoryEstimate", "TilingPlan", "choose_tiling", "size_text"]

_CERTAIN_SHARE = 0.95
"""Share of the bytes left by the estimate that are used for speed alone."""

OnMessage = Callable[[str], None]


@dataclass(frozen=True)
class MemoryEstimate:
    """The tiles of one size, and the memory and the work that they take.

    Attributes:
        tiles: description of the tiles.
        work: computation relative to that of one piece. Halos add to it, and tiles that the second
            pass computes again.
        components: bytes of each part that is in memory at the peak, by name.
    """

    tiles: str
    work: float
    components: Mapping[str, int]

    @property
    def total(self) -> int:
        """Bytes of all components."""
        return sum(self.components.values())

    def table(self) -> str:
        """Return the components as lines of text.

        >>> print(MemoryEstimate("one piece", 1.0, {"fields": 3 * 2**29, "crop": 2**29}).table())
             1.5 GiB  fields
             0.5 GiB  crop
             2.0 GiB  in all
        """
        rows = {**self.components, "in all": self.total}
        return "\n".join(f"{gib(size):>12}  {name}" for name, size in rows.items())


@dataclass(frozen=True)
class _Cut:
    """A split of the network in two, see `convnd.optimize.evaluation.split`.

    Attributes:
        layers: the layers of the front part, the one at the cut last.
        deep: the deep part.
        cut_bytes: bytes of the features at the cut and of their gradient.
    """

    layers: tuple[str, ...]
    deep: Backbone
    cut_bytes: int


@dataclass(frozen=True)
class TilingPlan:
    """A plan that keeps a transfer at one size within the free memory.

    Attributes:
        model: bytes of the parts of the transfer.
        size: extent along each axis.
        tiler: chooses the tiles of evaluations; None forbids tiles.
        keep_content: whether the content's features are kept; otherwise they are recomputed for
            every tile.
        use_disk: whether the steps' values and Adam's moments are stored on the disk.
        cut: split of the network; None does not split it.
        history: number of pairs that L-BFGS remembers.
    """

    model: MemoryModel
    size: Sequence[int]
    tiler: Tiler | None
    keep_content: bool
    use_disk: bool
    cut: _Cut | None
    history: int = HISTORY

    def offload(self) -> DiskOffload:
        """Return the storage of the steps' values and of Adam's moments."""
        return DiskOffload() if self.use_disk else DiskOffload.disabled()

    def estimate(self) -> MemoryEstimate:
        """Return the bytes and the work that the plan takes."""
        model, layers, tiler = self.model, self.model.options.layers, self.tiler
        state = model.state_bytes(self.size, offload=self.use_disk, history=self.history)
        fixed = {"fields and optimizer": state}
        if self.keep_content:
            fixed["content features"] = model.content_bytes(self.size)
        if tiler is None:
            crop = {"the network": model.crop_bytes(self.size, layers)}
            return MemoryEstimate("one piece", 1.0, {**fixed, **crop})
        if len(groups := model.backbone.independent_groups(layers)) > 1:
            return self._estimate_groups(tiler, groups, fixed)
        front = layers if self.cut is None else self.cut.layers
        tiling = tiler.make_tiling(model.backbone, (*front, INPUT), self.size, model.overlaps)
        saved, work = self._saved_bytes(tiler, tiling, front)
        crop = {"one tile of the network": model.crop_bytes(tiling.largest_crop, front)}
        tiles = (
            f"{len(tiling)} tiles of {size_text(tiling.tile)}" if len(tiling) > 1 else "one piece"
        )
        if self.cut is not None and tiler.deep_tiler is not None:
            count, deep = _deep_tiles(model, self.size, self.cut, tiler.deep_tiler)
            tiles += f" up to {front[-1]}, {count} behind it"
            crop = max(
                {"features at the cut": self.cut.cut_bytes // 2, **crop},
                {"features at the cut": self.cut.cut_bytes, "one tile of deep layers": deep},
                key=lambda parts: sum(parts.values()),
            )
        return MemoryEstimate(tiles, work, {**fixed, **crop, "saved for the second pass": saved})

    def _estimate_groups(
        self, tiler: Tiler, groups: Sequence[tuple[str, ...]], fixed: Mapping[str, int]
    ) -> MemoryEstimate:
        """Return the estimate for groups of layers that are evaluated one after the other."""
        model = self.model
        counts, needs, works = [], [], []
        for group in groups:
            overlaps = {name: model.overlaps.get(name, 0) for name in group}
            tiling = tiler.make_tiling(model.backbone, (*group, INPUT), self.size, overlaps)
            saved, work = self._saved_bytes(tiler, tiling, group)
            counts.append(str(len(tiling)))
            needs.append(
                {
                    "one tile of the network": model.crop_bytes(tiling.largest_crop, group),
                    "saved for the second pass": saved,
                }
            )
            works.append(work)
        largest = max(needs, key=lambda parts: sum(parts.values()))
        tiles = f"{', '.join(counts)} tiles of {len(groups)} kinds"
        return MemoryEstimate(tiles, sum(works) / len(works), {**fixed, **largest})

    def _saved_bytes(
        self, tiler: Tiler, tiling: Tiling, layers: Sequence[str]
    ) -> tuple[int, float]:
        """Return the bytes saved between the passes, at most, and the work that is left."""
        if len(tiling) == 1:
            return 0, 1.0
        tile_bytes = self.model.batch * self.model.backbone.peak_bytes(tiling.largest_crop, layers)
        all_tiles = len(tiling) * tile_bytes
        saved = min(int(tiler.spare_bytes(tiling, layers)), all_tiles)
        return saved, tiling.overhead * (1.5 - 0.5 * saved / all_tiles)


def choose_tiling(
    model: MemoryModel, size: Sequence[int], free: int, on_message: OnMessage | None = None
) -> TilingPlan:
    """Choose the plan that keeps a transfer at one size within the free memory.

    The state of Adam is stored on the disk if it would take more than half of the memory. L-BFGS
    remembers fewer pairs if the job does not fit otherwise: as many as take half of the memory with
    all other fields, and at least `LEAST_HISTORY`. The content's features are recomputed for every
    tile if they would take more than half of the rest. If one piece is too large, the network is
    split where this saves memory, and evaluated in tiles.

    Args:
        model: bytes of the parts of the transfer.
        size: extent along each axis.
        free: bytes that may be used.
        on_message: is called with a line if memory runs out nevertheless.

    Raises:
        UsageError: several processes have to share tiles, and the options forbid tiles.
    """
    plan = _plan_with_history(model, size, free, HISTORY, on_message)
    if plan.estimate().total <= free or not OPTIMIZERS[model.options.optimizer].pairs:
        return plan
    history = next(
        pairs
        for pairs in range(HISTORY, LEAST_HISTORY - 1, -1)
        if pairs == LEAST_HISTORY
        or model.state_bytes(size, offload=False, history=pairs) <= free // 2
    )
    return _plan_with_history(model, size, free, history, on_message)


def _plan_with_history(
    model: MemoryModel,
    size: Sequence[int],
    free: int,
    history: int,
    on_message: OnMessage | None,
) -> TilingPlan:
    """Make the plan in which L-BFGS remembers a number of pairs, see `choose_tiling`."""
    use_disk = _use_disk(model, size, free)
    state = model.state_bytes(size, offload=use_disk, history=history)
    keep_content = model.content_bytes(size) <= (free - state) // 2
    left = free - state - (model.content_bytes(size) if keep_content else 0)
    cut = _choose_cut(model, size, left) if keep_content else None
    tiler = None
    if model.options.tile != "off":
        tiler = _TileMemory(model, size, left, keep_content, cut).tiler(on_message)
    elif model.group.size > 1:
        raise UsageError(
            "tile",
            expected="tiles, for several processes to share",
            got="off",
            remedy="leave it out",
        )
    return TilingPlan(model, size, tiler, keep_content, use_disk, cut, history)


def _use_disk(model: MemoryModel, size: Sequence[int], free: int) -> bool:
    options = model.options
    one_process = model.group.size == 1 and model.device.type == "cpu"
    if not one_process or options.optimizer != "adam" or options.tile == "off":
        return False
    return model.field_bytes(size) * OPTIMIZERS["adam"].copies() > free // 2


def _choose_cut(model: MemoryModel, size: Sequence[int], left: int) -> _Cut | None:
    """Return where to split the network; None if one piece fits, or a split would not help.

    The content's features must be kept: a deep part cannot recompute them.
    """
    layers, group = model.options.layers, model.group
    large_tile = model.tile is None or model.tile >= max(size)
    if large_tile and group.size == 1 and model.crop_bytes(size, layers) <= left:
        return None
    split = model.backbone.split_at(layers, size)
    if split is None:
        return None
    name, deep = split
    cut_bytes = 2 * model.batch * model.backbone.activation_bytes(size, [name])
    if group.size > 1:  # each process holds the features of its tiles, and its slab of them
        cut_bytes = 2 * cut_bytes // group.size
    if cut_bytes > left * 3 // 4:  # small tiles are better, even with a halo of a third
        return None
    return _Cut((*(layer for layer in layers if layer not in deep.layers), name), deep, cut_bytes)


@dataclass(frozen=True)
class _TileMemory:
    """The memory for tiles, beside everything that stays in memory during an evaluation.

    Attributes:
        model: bytes of the parts of the transfer.
        size: extent along each axis.
        left: bytes that are left for crops and for the features at the cut.
        keep_content: as for `TilingPlan`.
        cut: as for `TilingPlan`.
    """

    model: MemoryModel
    size: Sequence[int]
    left: int
    keep_content: bool
    cut: _Cut | None

    def tiler(self, on_message: OnMessage | None) -> Tiler:
        """Return the tiler that uses the functions of this class."""

        def on_shrink(tiling: Tiling) -> None:
            if on_message is not None:
                on_message(
                    f"memory ran out with tiles of {size_text(tiling.tile)}; continuing with "
                    "smaller ones"
                )

        workers = self.model.group.size
        deep_tiler = None
        if self.cut is not None:
            deep_tiler = Tiler(
                fits=partial(self.fits_deep, self.cut), on_shrink=on_shrink, workers=workers
            )
        return Tiler(
            tile=self.model.tile,
            fits=self.fits,
            spare_bytes=partial(self.spare_bytes, deep_tiler),
            on_shrink=on_shrink,
            workers=workers,
            deep_tiler=deep_tiler,
        )

    @property
    def for_crops(self) -> int:
        """Bytes that are left for crops.

        Before the deep part is evaluated there is no gradient at the cut, and afterwards there are
        no features, so that half of the bytes of the cut are in use.
        """
        return self.left - (0 if self.cut is None else self.cut.cut_bytes // 2)

    def crop_bytes(self, crop: Sequence[int], layers: Sequence[str]) -> float:
        """Return the bytes of a crop and of the content's features that are recomputed for it."""
        return self.model.crop_bytes(crop, layers) * (1.0 if self.keep_content else 1.5)

    def fits(self, crop: tuple[int, ...], layers: Sequence[str]) -> bool:
        """Return whether a crop of the network, or of its front part, fits."""
        return self.for_crops > 0 and self.crop_bytes(crop, layers) <= self.for_crops

    def fits_deep(self, cut: _Cut, crop: tuple[int, ...], layers: Sequence[str]) -> bool:
        """Return whether a crop of the deep part fits, beside its gradient."""
        needed = self.model.crop_bytes(crop, layers, cut.deep) + cut.cut_bytes // 2
        return needed <= self.for_crops

    def spare_bytes(
        self, deep_tiler: Tiler | None, crop: tuple[int, ...], layers: Sequence[str]
    ) -> float:
        """Return the bytes in which the first pass may save graphs, beside a crop."""
        needed = self.crop_bytes(crop, layers)
        spare = self.for_crops - needed
        if self.cut is not None and deep_tiler is not None:  # the graphs stay during the deep part
            _, deep = _deep_tiles(self.model, self.size, self.cut, deep_tiler)
            spare = min(spare, self.for_crops - self.cut.cut_bytes // 2 - deep)
        # The first graph is saved before it is measured, and the estimate does not count all.
        return _CERTAIN_SHARE * spare if spare >= needed else 0


def _deep_tiles(
    model: MemoryModel, size: Sequence[int], cut: _Cut, deep_tiler: Tiler
) -> tuple[int, int]:
    """Return the number of tiles of the deep part, and the bytes of one."""
    layers = [name for name in model.options.layers if name in cut.deep.layers]
    stride = model.backbone.receptive_fields[cut.layers[-1]].stride
    extent = [max(1, n // int(step)) for n, step in zip(size, stride, strict=True)]
    tiling = deep_tiler.make_tiling(cut.deep, (*layers, INPUT), extent, model.overlaps)
    return len(tiling), model.crop_bytes(tiling.largest_crop, layers, cut.deep)


def size_text(size: Sequence[int]) -> str:
    """Write extents with the last axis first, as in "640x480" for 480 rows and 640 columns."""
    return "x".join(str(extent) for extent in reversed(size))
