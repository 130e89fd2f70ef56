r"""The objective of a volume, seen through its slices along all three axes.

A network for pictures looks at every slice; statistics are summed over the slices of an axis, so
each axis has its own (after Gutierrez et al. 2020, "On demand solid texture synthesis"). Slices
enter in millimetres: where a pixel is longer than wide, as in a slice across thick slices, the fine
axis is averaged down until pixels are square. A 5 mm step is thus never taken for one of 0.6 mm.
Grain is looked for only where pixels are fine enough to show it (`detail_sigma_mm`).

Two looks. *Texture*: the network sees the grain alone (`grain`), without the
blurred part, which holds the anatomy and is held to the content's; each tissue has statistics of
its own, and edges have none. *Paint*: the network sees the values, and content is features of a
deeper layer, as for pictures.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from convnd.backbones import VGG, Precision
from convnd.errors import UsageError
from convnd.nn import resize_nd
from convnd.optimize import Evaluation, ProcessGroup, ShardedField, all_reduce_sums
from convnd.stats import Sums
from convnd_tasks.modalities.volumes.beginning import LackingNoise
from convnd_tasks.modalities.volumes.grain import SHORTEST, View
from convnd_tasks.modalities.volumes.sight import POSITIONS, Eye, Look, Sight

__all__ = ["ONE_PASS", "SliceObjective"]

ONE_PASS = 2**21  # positions of all views up to which nothing is computed twice


class SliceObjective:
    r"""Loss and gradient of a volume, slab by slab in two passes.

    Slices know nothing of each other, and statistics add up; so the gradient of
    :math:`\sum_t w_t \Phi_t(\sum_{slabs} s_t)` is exact however the slices are cut into slabs, and
    memory is that of one slab. Of several processes each has a part of the volume. For each view it
    fetches the slices across that view's axis that it works on, and gives their gradient back.

    Args:
        net: a network of two axes and one channel.
        look: what it sees.
        content: values ``(1, 1, *S)``, about ``[0, 1]``; this process's part.
        views: as `square_pixels` gives them.
        styles: for each view, pictures ``(n, 1, H, W)`` of each style, of the pixel size of that
            view; may be made while they are asked for.
        weights: one for each style.
        precision: number format of the features.
        shards: who has which part of the volume; None is this process alone.
    """

    def __init__(
        self,
        net: VGG,
        look: Look,
        content: Tensor,
        *,
        views: Sequence[View],
        styles: Iterable[Sequence[Tensor]],
        weights: Sequence[float],
        precision: Precision,
        shards: ShardedField | None = None,
    ) -> None:
        self.shards = ShardedField(content.shape[2:], ProcessGroup()) if shards is None else shards
        self.group = self.shards.group
        few = min((self.shards.size[view.axis] for view in views), default=0)
        if views and few < self.group.size:
            raise UsageError(
                f"volume: expected at most as many processes as slices, {few}, got "
                f"{self.group.size}; start fewer"
            )
        if not views:
            raise UsageError(
                f"volume: expected slices of at least {SHORTEST} x {SHORTEST} square pixels, "
                f"got a volume of {self.shards.size}; give a larger one"
            )
        self.look, self.content = look, content
        self._eye = Eye(net, look, precision)
        self._sights: list[Sight] = []
        self._lacking: LackingNoise | None = None
        made = iter(styles)
        with torch.no_grad():
            for view in views:
                pictures = next(made)
                slices = self._seen(content, view)
                slabs = [view.slices(slices, window) for window in self._slabs(view)]
                sight = Sight(
                    self._eye,
                    look,
                    view,
                    pictures=pictures,
                    weights=weights,
                    content=slabs,
                    group=self.group,
                )
                if look.tissues and not self._sights:
                    self._lacking = LackingNoise.between(
                        sight.grain, slabs, pictures, weights, self.group
                    )
                self._sights.append(sight)
                del pictures, slices, slabs  # before the next ones are made

    def switch_to_float32(self) -> bool:
        """As `convnd.losses.Objective.exact`."""
        exact = self._eye.precision.exact()
        if exact == self._eye.precision:
            return False
        self._eye.precision = exact
        exact.apply(self._eye.net)
        return True

    def evaluate(self, x: Tensor) -> Evaluation:
        """Loss, and gradient at ``x`` ``(1, 1, *S)``, this process's part."""
        views = [sight.view for sight in self._sights]
        size = self.shards.size
        positions = sum(math.prod(view.size) * size[view.axis] for view in views)
        if self.group.size == 1 and positions <= ONE_PASS:
            leaf = x.detach().requires_grad_()
            with torch.enable_grad():
                total, parts = self._value([self._sums(sight, leaf) for sight in self._sights])
                (gradient,) = torch.autograd.grad(total, leaf)
            return Evaluation(float(total.detach()), parts, gradient.contiguous())
        with torch.no_grad():
            sums = self._together([self._sums(sight, x) for sight in self._sights])
        fixed = [
            {
                name: Sums(part.total.detach().requires_grad_(), part.count)
                for name, part in view.items()
            }
            for view in sums
        ]
        with torch.enable_grad():
            total, parts = self._value(fixed)
            leaves = [part.total for view in fixed for part in view.values()]
            slopes = iter(torch.autograd.grad(total, leaves))
            downhill = [{name: next(slopes) for name in view} for view in fixed]
        gradient = torch.zeros_like(x)
        for sight, steep in zip(self._sights, downhill, strict=True):
            self._add_gradient(gradient, sight, steep, x)
        total = self.group.broadcast(total.detach())  # so that all decide alike
        return Evaluation(float(total), parts, gradient)

    def _add_gradient(
        self, gradient: Tensor, sight: Sight, steep: Mapping[str, Tensor], x: Tensor
    ) -> None:
        """The part of it that comes through one view, where its sums have this one."""
        view = sight.view
        seen, before = self._seen(x, view), self._seen(self.content, view)
        # In place, where this process owns what it sees.
        found = gradient if seen is x else torch.zeros_like(seen)
        for window in self._slabs(view):
            index = _across(view, window)
            leaf = seen[index].detach().requires_grad_()
            with torch.enable_grad():
                sums = sight.sums(view.slices(leaf), view.slices(before, window))
                (slope,) = torch.autograd.grad(
                    [part.total for part in sums.values()],
                    leaf,
                    [steep[name].to(part.total.dtype) for name, part in sums.items()],
                )
            found[index] += slope
        if found is not gradient:
            gradient += self._given(found, view)

    def terms(self) -> list[list[str]]:
        """Names of the style terms of each view."""
        return [list(sight.styles) for sight in self._sights]

    def leave_only(self, terms: Sequence[Sequence[str]]) -> None:
        """Give up all style terms of each view but these."""
        for sight, names in zip(self._sights, terms, strict=True):
            sight.styles = {name: sight.styles[name] for name in names}

    def beginning(self, seed: int) -> Tensor:
        """Where to begin ``(1, 1, *S)``: the content, and the noise that its tissues lack.

        Places that slope are no style from then on where noise does not make them alike: they
        differ by structure, which would be drawn into the noise.

        Args:
            seed: of the noise, which is drawn in the slices of the finest pixels.
        """
        if self._lacking is None:
            return self.content
        view, generator = self._sights[0].view, torch.Generator().manual_seed(seed)
        start = self.content.clone()
        seen = self._seen(self.content, view)
        noisy = start if seen is self.content else torch.zeros_like(seen)
        first, stop = self._share(view)
        # In the slabs of one process, whatever of it is this one's.
        for whole in _slabs(view, self.shards.size[view.axis], 1):
            mine = [min(max(each, whole.start), whole.stop) for each in (first, stop)]
            window = slice(mine[0] - first, mine[1] - first)
            noise = self._lacking.drawn(
                view.slices(seen, window),
                generator,
                before=mine[0] - whole.start,
                behind=whole.stop - mine[1],
            )
            there = noisy[0, 0].movedim(view.axis, 0)[window]
            there += resize_nd(noise, there.shape[1:], mode="nearest")[:, 0]
        if noisy is not start:
            start += self._given(noisy, view)
        with torch.no_grad():
            found = self._together([self._sums(sight, start) for sight in self._sights])
        for sight, sums in zip(self._sights, found, strict=True):
            sight.leave_out_structure(sums)
        return start

    def stride(self) -> Tensor | float:
        """How far a step of the optimizer is to go in each voxel, relative to the mean.

        In units of its tissue's noise a voxel matters as much as any other. Without this the noisy
        tissues would be done long before the quiet ones.

        Returns:
            ``(1, 1, *S)``; or 1, where there is one tissue only.
        """
        sight = self._sights[0]
        view, grain = sight.view, sight.grain
        seen = self._seen(self.content, view)
        plane = [each for axis, each in enumerate(self.shards.size) if axis != view.axis]
        found = []
        for window in self._slabs(view):
            tissues = sight.tissues(view.slices(seen, window))
            if tissues is None:
                return 1.0
            found.append(resize_nd(grain.stride(tissues), plane, mode="nearest"))
        stride = torch.cat(found)[:, 0].movedim(0, view.axis)[None, None]
        stride = self._given(stride, view)
        return stride / (self.group.all_reduce(stride.sum()) / math.prod(self.shards.size))

    def _together(self, sums: list[dict[str, Sums]]) -> list[dict[str, Sums]]:
        if self.group.size == 1:
            return sums
        flat = [part for view in sums for part in view.values()]
        device = self.content.device
        totals = iter(all_reduce_sums(self.group, flat, device, len(flat)))
        narrow = [{name: next(totals) for name in view} for view in sums]
        return [
            {name: Sums(part.total.float(), part.count) for name, part in view.items()}
            for view in narrow
        ]

    def _seen(self, part: Tensor, view: View) -> Tensor:
        """The slices across a view's axis that this process works on."""
        return self.shards.gather_region(part, self.shards.even_boxes(view.axis))

    def _given(self, slices: Tensor, view: View) -> Tensor:
        """To who owns them: the transpose of `_seen`."""
        return self.shards.scatter_add(slices, self.shards.even_boxes(view.axis))

    def _share(self, view: View) -> tuple[int, int]:
        """First of the slices of this process, and the one behind the last."""
        return self.shards.even_boxes(view.axis)[self.group.rank][view.axis]

    def _slabs(self, view: View) -> Iterator[slice]:
        """Of the slices of this process, those that are looked at together."""
        first, stop = self._share(view)
        return _slabs(view, stop - first, self.group.size)

    def _sums(self, sight: Sight, x: Tensor) -> dict[str, Sums]:
        """Of this process's slices in one view."""
        view = sight.view
        seen, before = self._seen(x, view), self._seen(self.content, view)
        total: dict[str, Sums] = {}
        for window in self._slabs(view):
            found = sight.sums(view.slices(seen, window), view.slices(before, window))
            total = {name: total[name] + part for name, part in found.items()} if total else found
        return total

    def _value(self, sums: Sequence[dict[str, Sums]]) -> tuple[Tensor, dict[str, float]]:
        look = self.look
        style, content = [], []
        for part, sight in zip(sums, self._sights, strict=True):
            style += [loss.value(part[name]) for name, loss in sight.styles.items()]
            content.append(part["content"].total / sight.energy)
        shares = {
            "content": torch.stack(content).mean() * look.content_weight,
            "style": torch.stack(style).mean() * look.style_weight,
        }
        total = shares["content"] + shares["style"]
        return total, {name: float(share.detach()) for name, share in shares.items()}


def _slabs(view: View, count: int, processes: int) -> Iterator[slice]:
    """Slices that are looked at together; of several processes on a machine each looks at fewer."""
    together = max(1, POSITIONS // processes // math.prod(view.size))
    for start in range(0, count, together):
        yield slice(start, min(start + together, count))


def _across(view: View, window: slice) -> tuple[slice, ...]:
    """Where slices lie in ``(1, 1, *S)``."""
    return (
        slice(None),
        slice(None),
        *(window if n == view.axis else slice(None) for n in range(3)),
    )
