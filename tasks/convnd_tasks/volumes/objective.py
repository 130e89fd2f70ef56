r"""The objective of a volume, seen through its slices along all three axes.

A network for pictures looks at every slice; statistics are summed over the slices of an axis, so
each axis has its own (after Gutierrez et al. 2020, "On demand solid texture synthesis"). Slices
enter in millimetres: where a pixel is longer than wide, as in a slice across thick slices, the fine
axis is averaged down until pixels are square. A 5 mm step is thus never taken for one of 0.6 mm.
Grain is looked for only where pixels are fine enough to show it (`--fine`).

Two looks. *Texture*: the network sees the grain alone (`convnd_tasks.volumes.grain`), without the
blurred part, which holds the anatomy and is held to the content's; each tissue has statistics of
its own, and edges have none. *Paint*: the network sees the values, and content is features of a
deeper layer, as for pictures.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from convnd.backbones import VGG, Precision
from convnd.errors import UsageError
from convnd.nn import resize_nd
from convnd.optimize import Evaluation, Group, add_sums
from convnd.stats import Sums
from convnd_tasks.volumes.beginning import LackingNoise
from convnd_tasks.volumes.grain import SHORTEST, View
from convnd_tasks.volumes.sight import POSITIONS, Eye, Look, Sight

__all__ = ["ONE_PASS", "SliceObjective"]

ONE_PASS = 2**21  # positions of all views up to which nothing is computed twice


class SliceObjective:
    r"""Loss and gradient of a volume, slab by slab in two passes.

    Slices know nothing of each other, and statistics add up; so the gradient of
    :math:`\sum_t w_t \Phi_t(\sum_{slabs} s_t)` is exact however the slices are cut into slabs, and
    memory is that of one slab.

    Args:
        net: a network of two axes and one channel.
        look: what it sees.
        content: values ``(1, 1, *S)``, about ``[0, 1]``.
        spacing: mm along each axis.
        styles: for each axis of the slices, pictures ``(n, 1, H, W)`` of each style, of the pixel
            size of that view; one list of styles for each of `views`.
        views: as `square_pixels` gives them.
        weights: one for each style.
        precision: number format of the features.
        group: processes that share the slices, each with all of the volume; None is this one alone.
    """

    def __init__(
        self,
        net: VGG,
        look: Look,
        content: Tensor,
        *,
        views: Sequence[View],
        styles: Sequence[Sequence[Tensor]],
        weights: Sequence[float],
        precision: Precision,
        group: Group | None = None,
    ) -> None:
        self.group = Group() if group is None else group
        few = min((content.shape[2 + view.axis] for view in views), default=0)
        if views and few < self.group.size:
            raise UsageError(
                f"volume: expected at most as many processes as slices, {few}, got "
                f"{self.group.size}; start fewer"
            )
        if not views:
            raise UsageError(
                f"volume: expected slices of at least {SHORTEST} x {SHORTEST} square pixels, "
                f"got a volume of {tuple(content.shape[2:])}; give a larger one"
            )
        self.look, self.content = look, content
        self._eye = Eye(net, look, precision)
        with torch.no_grad():
            self._sights = [
                Sight(
                    self._eye,
                    look,
                    view,
                    pictures=pictures,
                    weights=weights,
                    content=[view.slices(content, window) for window in self._slabs(view)],
                )
                for view, pictures in zip(views, styles, strict=True)
            ]
            self._lacking = (
                LackingNoise.between(
                    self._sights[0].grain,
                    [views[0].slices(content, window) for window in self._slabs(views[0])],
                    styles[0],
                    weights,
                )
                if look.tissues
                else None
            )

    def exact(self) -> bool:
        """As `convnd.losses.Objective.exact`."""
        exact = self._eye.precision.exact()
        if exact == self._eye.precision:
            return False
        self._eye.precision = exact
        exact.apply(self._eye.net)
        return True

    def evaluate(self, x: Tensor) -> Evaluation:
        """Loss and gradient at ``x`` ``(1, 1, *S)``."""
        work = [
            (number, window)
            for number, sight in enumerate(self._sights)
            for window in self._slabs(sight.view, self.group)
        ]
        views = [sight.view for sight in self._sights]
        positions = sum(math.prod(view.size) * x.shape[2 + view.axis] for view in views)
        if self.group.size == 1 and positions <= ONE_PASS:
            leaf = x.detach().requires_grad_()
            with torch.enable_grad():
                total, parts = self._value(
                    self._add(
                        [(number, self._sums(number, leaf, window)) for number, window in work]
                    )
                )
                (gradient,) = torch.autograd.grad(total, leaf)
            return Evaluation(float(total.detach()), parts, gradient.contiguous())
        with torch.no_grad():
            sums = self._add([(number, self._sums(number, x, window)) for number, window in work])
            sums = self._together(sums)
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
        for number, window in work:
            axis = views[number].axis
            index = tuple(window if each == axis else slice(None) for each in range(3))
            leaf = x[(slice(None), slice(None), *index)].detach().requires_grad_()
            with torch.enable_grad():
                found = self._sums(number, leaf, window, cut=True)
                names = list(found)
                (slope,) = torch.autograd.grad(
                    [found[name].total for name in names],
                    leaf,
                    [downhill[number][name].to(found[name].total.dtype) for name in names],
                )
            gradient[(slice(None), slice(None), *index)] += slope
        total = self.group.agreed(total.detach())  # so that all decide alike
        return Evaluation(float(total), parts, self.group.sum(gradient))

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
        for window in self._slabs(view):
            slices = view.slices(self.content, window)
            noise = self._lacking.drawn(slices, generator)
            there = start[0, 0].movedim(view.axis, 0)[window]
            there += resize_nd(noise, there.shape[1:], mode="nearest")[:, 0]
        with torch.no_grad():
            for number, sight in enumerate(self._sights):
                windows = self._slabs(sight.view)
                (sums,) = self._add([(0, self._sums(number, start, each)) for each in windows])
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
        plane = [each for axis, each in enumerate(self.content.shape[2:]) if axis != view.axis]
        found = []
        for window in self._slabs(view):
            tissues = sight.tissues(view.slices(self.content, window))
            if tissues is None:
                return 1.0
            found.append(resize_nd(grain.stride(tissues), plane, mode="nearest"))
        stride = torch.cat(found)[:, 0].movedim(0, view.axis)[None, None]
        return stride / stride.mean()

    def _together(self, sums: list[dict[str, Sums]]) -> list[dict[str, Sums]]:
        if self.group.size == 1:
            return sums
        flat = [part for view in sums for part in view.values()]
        device = self.content.device
        totals = iter(add_sums(self.group, flat, device, len(flat)))
        narrow = [{name: next(totals) for name in view} for view in sums]
        return [
            {name: Sums(part.total.float(), part.count) for name, part in view.items()}
            for view in narrow
        ]

    def _slabs(self, view: View, group: Group | None = None) -> Iterator[slice]:
        """Slices that are looked at together; those of this process where a group shares them."""
        group = Group() if group is None else group
        count = max(1, POSITIONS // math.prod(view.size))
        extent = self.content.shape[2 + view.axis]
        first, stop = (extent * n // group.size for n in (group.rank, group.rank + 1))
        for start in range(first, stop, count):
            yield slice(start, min(start + count, stop))

    def _sums(self, number: int, x: Tensor, window: slice, *, cut: bool = False) -> dict[str, Sums]:
        sight = self._sights[number]
        before = sight.view.slices(self.content, window)
        return sight.sums(sight.view.slices(x, None if cut else window), before)

    @staticmethod
    def _add(found: Sequence[tuple[int, dict[str, Sums]]]) -> list[dict[str, Sums]]:
        sums: list[dict[str, Sums]] = []
        for number, part in found:
            if number == len(sums):
                sums.append(dict(part))
            else:
                sums[number] = {name: sums[number][name] + part[name] for name in part}
        return sums

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
