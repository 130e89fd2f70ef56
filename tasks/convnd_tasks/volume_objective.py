r"""The objective of a volume, seen through its slices along all three axes.

A network for pictures looks at every slice; statistics are summed over the slices of an axis, so
each axis has its own (after Gutierrez et al. 2020, "On demand solid texture synthesis"). Slices
enter in millimetres: where a pixel is longer than wide, as in a slice across thick slices, the fine
axis is averaged down until pixels are square. A 5 mm step is thus never taken for one of 0.6 mm.

Two looks. *Texture*: the network sees the grain alone (`convnd_tasks.volume_grain`), without the
blurred part, which holds the anatomy and is held to the content's; each tissue has statistics of
its own. *Paint*: the network sees the values, and content is features of a deeper layer, as for
pictures.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from convnd.backbones import VGG, Precision
from convnd.errors import UsageError
from convnd.losses import StyleLoss
from convnd.nn import resize_nd
from convnd.optimize import Evaluation, Group, add_sums
from convnd.stats import (
    STATISTICS,
    AutocorrelationStatistic,
    Mappable,
    Statistic,
    Sums,
    TappedStatistic,
    blend,
)
from convnd_tasks.volume_grain import SHORTEST, Grain, View

__all__ = ["Look", "SliceObjective"]

_POSITIONS = 2**19  # of a slab that is evaluated at once: about 400 MiB in the compact network
_REACH = 2  # sigmas of the blur that facts of the grain look far: no further does it correlate
_LEAST = 0.005  # share of a tissue below which it has no term
_ONE_PASS = 2**21  # positions of all views up to which nothing is computed twice


@dataclass(frozen=True, kw_only=True)
class Look:
    """What the network sees and what is kept.

    Args:
        style_layers: layers whose statistics are style.
        content_layer: layer whose features are content; None keeps the blurred values instead.
        style_weight: of all style terms together.
        content_weight: of all content terms together.
        fine: sigma in mm that tells grain from anatomy; only without a content layer.
        tissues: lowest and highest blurred value of each tissue; the rest is one more; likewise.
        flat: see `convnd_tasks.volume_grain.Grain`; likewise.
        statistic: one of `convnd.stats.STATISTICS`.
        facts: names of `AutocorrelationStatistic`'s kind, of the grain itself; likewise.
    """

    style_layers: tuple[str, ...]
    content_layer: str | None
    style_weight: float
    content_weight: float
    fine: float
    tissues: tuple[tuple[float, float], ...] = ()
    flat: float = math.inf
    statistic: str = "gram"
    facts: tuple[str, ...] = ()

    @property
    def layers(self) -> tuple[str, ...]:
        """Every layer that is asked for."""
        kept = () if self.content_layer is None else (self.content_layer,)
        return (*self.style_layers, *kept)


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
        self.net, self.look, self.content = net, look, content
        self.views = tuple(views)
        self.precision = precision
        self._statistics = self._untap(STATISTICS[look.statistic])
        self._grains = [Grain(view.pixel, look.fine, look.tissues, look.flat) for view in views]
        self._styles: list[dict[str, StyleLoss]] = []
        self._energies: list[float] = []
        with torch.no_grad():
            for number, (view, pictures) in enumerate(zip(views, styles, strict=True)):
                if look.content_layer is None:
                    self._grains[number].measure(pictures)
                parts = [self._style_sums(number, each) for each in pictures]
                present = set.intersection(*map(set, parts)) & set(self._content_names(number))
                self._styles.append(
                    {
                        name: StyleLoss(
                            blend([sums[name] for sums in parts], weights),
                            layer=name,
                            statistic=self._fact(number, name) or look.statistic,
                        )
                        for name in parts[0]
                        if name in present
                    }
                )
                energy = sum(
                    float(self._kept(number, view.slices(content, window)).square().sum())
                    for window in self._slabs(view)
                )
                self._energies.append(energy if energy > 0 else 1.0)

    def exact(self) -> bool:
        """As `convnd.losses.Objective.exact`."""
        exact = self.precision.exact()
        if exact == self.precision:
            return False
        self.precision = exact
        exact.apply(self.net)
        return True

    def evaluate(self, x: Tensor) -> Evaluation:
        """Loss and gradient at ``x`` ``(1, 1, *S)``."""
        work = [
            (number, window)
            for number, view in enumerate(self.views)
            for window in self._slabs(view, self.group)
        ]
        positions = sum(math.prod(view.size) * x.shape[2 + view.axis] for view in self.views)
        if self.group.size == 1 and positions <= _ONE_PASS:
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
            axis = self.views[number].axis
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

    def stride(self) -> Tensor | float:
        """How far a step of the optimizer is to go in each voxel, relative to the mean.

        In units of its tissue's noise a voxel matters as much as any other. Without this the noisy
        tissues would be done long before the quiet ones.

        Returns:
            ``(1, 1, *S)``; or 1, where there is one tissue only.
        """
        view, grain = self.views[0], self._grains[0]
        plane = [each for axis, each in enumerate(self.content.shape[2:]) if axis != view.axis]
        found = []
        for window in self._slabs(view):
            tissues = self._tissues(0, view.slices(self.content, window))
            if not tissues:
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
        count = max(1, _POSITIONS // math.prod(view.size))
        extent = self.content.shape[2 + view.axis]
        first, stop = (extent * n // group.size for n in (group.rank, group.rank + 1))
        for start in range(first, stop, count):
            yield slice(start, min(start + count, stop))

    def _sums(self, number: int, x: Tensor, window: slice, *, cut: bool = False) -> dict[str, Sums]:
        view, look = self.views[number], self.look
        slices = view.slices(x, None if cut else window)
        with torch.no_grad():
            before = view.slices(self.content, window)
            target = self._kept(number, before)
            tissues = self._tissues(number, before)
        seen = self._seen(number, slices, tissues)
        features = self._features(self._shown(seen), look.layers)
        found = {
            name: sums
            for name, sums in self._style_terms(number, seen, features, tissues).items()
            if name in self._styles[number]
        }
        here = features.get(look.content_layer or "")
        kept = self._grains[number].blurred(slices) if here is None else here
        difference = (kept - target).flatten().float()
        found["content"] = Sums(difference.dot(difference), 1)
        return found

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
        for part, losses, energy in zip(sums, self._styles, self._energies, strict=True):
            style += [loss.value(part[name]) for name, loss in losses.items()]
            content.append(part["content"].total / energy)
        shares = {
            "content": torch.stack(content).mean() * look.content_weight,
            "style": torch.stack(style).mean() * look.style_weight,
        }
        total = shares["content"] + shares["style"]
        return total, {name: float(share.detach()) for name, share in shares.items()}

    def _style_sums(self, number: int, pictures: Tensor) -> dict[str, Sums]:
        count = max(1, _POSITIONS // math.prod(pictures.shape[2:]))
        found: dict[str, Sums] = {}
        for part in torch.split(pictures, count):
            tissues = self._tissues(number, part)
            seen = self._seen(number, part, tissues)
            features = self._features(self._shown(seen), self.look.style_layers)
            for name, sums in self._style_terms(number, seen, features, tissues).items():
                found[name] = found[name] + sums if name in found else sums
        enough = _LEAST * pictures.numel()
        return {
            name: sums for name, sums in found.items() if sums.count >= enough * self._ratio(name)
        }

    def _style_terms(
        self, number: int, seen: Tensor, features: dict[str, Tensor], tissues: Sequence[Tensor]
    ) -> dict[str, Sums]:
        """Sums of each layer in each tissue, a position counting as far as it is of the tissue."""
        found = {}
        for fact in self.look.facts:
            order = self._fact(number, fact)
            assert order is not None
            for tissue, share in enumerate(tissues or [torch.ones_like(seen)]):
                each = order.sums(seen, share=share)
                total = each.total.sum(0, keepdim=True)  # over slices
                found[f"{fact}/{tissue if tissues else ''}"] = Sums(total, each.count)
        for name in self.look.style_layers:
            here, statistic = features[name], self._statistics[name]
            for tissue, share in enumerate(tissues):
                small = resize_nd(share, here.shape[2:], mode="area")
                sums = statistic.sums(_stacked(here * small.sqrt().to(here.dtype)))
                # Never 0: a slab may have none of it.
                found[f"{name}/{tissue}"] = Sums(sums.total, float(small.sum()))  # type: ignore[arg-type]
            if not tissues:
                found[f"{name}/"] = statistic.sums(_stacked(here))
        return found

    def _ratio(self, name: str) -> float:
        """Positions of a layer over pixels."""
        layer = name.partition("/")[0]
        if layer in self.look.facts:
            return 1.0
        return 1 / math.prod(map(int, self.net.fields[layer].stride))

    def _fact(self, number: int, name: str) -> AutocorrelationStatistic | None:
        """The statistic of the grain itself that a term is; None for terms of features."""
        fact = name.partition("/")[0]
        if fact not in self.look.facts:
            return None
        kind = STATISTICS[fact]
        assert isinstance(kind, AutocorrelationStatistic)
        lags = math.ceil(_REACH * self._grains[number].sigma)
        return type(kind)(lags=lags, every_axis=True)

    def _content_names(self, number: int) -> list[str]:
        """Terms of tissues that the content has enough of."""
        view = self.views[number]
        counts: list[float] = []
        pixels = 0
        for window in self._slabs(view):
            slices = view.slices(self.content, window)
            shares = [float(share.sum()) for share in self._tissues(number, slices)]
            counts = [a + b for a, b in zip(counts, shares, strict=True)] if counts else shares
            pixels += slices.numel()
        kept = [str(n) for n, count in enumerate(counts) if count >= _LEAST * pixels] or [""]
        names = (*self.look.style_layers, *self.look.facts)
        return [f"{name}/{tissue}" for name in names for tissue in kept]

    def _tissues(self, number: int, slices: Tensor) -> list[Tensor]:
        return [] if self.look.content_layer is not None else self._grains[number].tissues(slices)

    def _kept(self, number: int, slices: Tensor) -> Tensor:
        layer = self.look.content_layer
        if layer is None:
            return self._grains[number].blurred(slices)
        return self._features(slices, [layer])[layer]

    def _seen(self, number: int, slices: Tensor, tissues: Sequence[Tensor]) -> Tensor:
        if self.look.content_layer is not None:
            return slices
        return self._grains[number].seen(slices, tissues)

    def _shown(self, seen: Tensor) -> Tensor:
        """What the network gets: grain lies around its own grey."""
        if self.look.content_layer is not None:
            return seen
        return float(self.net.mean.mean()) + 0.5 * seen

    def _features(self, slices: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        untapped = [
            name
            for name, each in self._statistics.items()
            if isinstance(each, TappedStatistic) and name in layers
        ]
        features: dict[str, Tensor] = self.net(
            self.precision.layout(slices), layers, untapped=untapped
        )
        return features

    def _untap(self, statistic: Statistic) -> dict[str, Statistic]:
        """That of each style layer; of features before their tap where they can be."""
        found = dict.fromkeys(self.look.style_layers, statistic)
        if isinstance(statistic, Mappable):
            for name in found:
                tap = None if name == self.look.content_layer else self.net.tap(name)
                if tap is not None:
                    found[name] = TappedStatistic(statistic, tap)
        return found


def _stacked(features: Tensor) -> Tensor:
    # Slices as a first spatial axis of one field, so that sums run over all of them.
    return features.movedim(1, 0)[None]  # (1, C, n, H, W)
