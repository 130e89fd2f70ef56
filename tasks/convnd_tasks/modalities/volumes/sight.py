"""What is seen of the slices across one axis of a volume, and how it is compared with the style."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from convnd.backbones import VGG, Precision
from convnd.losses import StyleLoss
from convnd.optimize import ProcessGroup, all_reduce_sums
from convnd.stats import (
    STATISTICS,
    AutocorrelationStatistic,
    LinearlyMappable,
    ProjectedStatistic,
    Statistic,
    Sums,
    blend,
)
from convnd_tasks.modalities.volumes.grain import Grain, View
from convnd_tasks.modalities.volumes.tissues import at_positions, by_tissue

__all__ = ["POSITIONS", "Eye", "Look", "Sight"]

POSITIONS = 2**19
"""Of a slab that is looked at at once: about 400 MiB in the compact network."""

_REACH = 2  # sigmas of the blur that facts of the grain look far: no further does it correlate
_STRUCTURE = 0.15
"""Mean of a class's terms, each relative to the style's own size, above which it is no noise: 0.13
at most for neighbours' slices, 0.17 and 0.29 where a content has vessels that the style has not."""

_LEAST = 0.005  # share of a tissue below which it has no term


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
        flat: see `convnd_tasks.modalities.volumes.grain.Grain`; likewise.
        statistic: one of `convnd.stats.STATISTICS`.
        facts: names of `AutocorrelationStatistic`'s kind, of the grain itself; likewise.
    """

    style_layers: tuple[str, ...]
    content_layer: str | None
    style_weight: float
    content_weight: float
    fine: float
    tissues: tuple[tuple[float, float], ...] = ()
    flat: tuple[float, ...] = (math.inf,)
    statistic: str = "gram"
    facts: tuple[str, ...] = ()

    @property
    def layers(self) -> tuple[str, ...]:
        """Every layer that is asked for."""
        kept = () if self.content_layer is None else (self.content_layer,)
        return (*self.style_layers, *kept)


class Eye:
    """The network, and the statistic of each of its layers, which all views share.

    Args:
        net: of two axes and one channel.
        look: what it sees.
        precision: number format of the features.
    """

    def __init__(self, net: VGG, look: Look, precision: Precision) -> None:
        self.net, self.precision = net, precision
        statistic = STATISTICS[look.statistic]
        self.statistics: dict[str, Statistic] = dict.fromkeys(look.style_layers, statistic)
        if isinstance(statistic, LinearlyMappable):
            for name in self.statistics:
                tap = None if name == look.content_layer else net.projection(name)
                if tap is not None:
                    self.statistics[name] = ProjectedStatistic(statistic, tap)

    def features(self, slices: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Of ``(n, 1, H, W)``, before their taps where the statistics are."""
        raw = [
            name
            for name, each in self.statistics.items()
            if isinstance(each, ProjectedStatistic) and name in layers
        ]
        features: dict[str, Tensor] = self.net(self.precision.layout(slices), layers, raw=raw)
        return features

    def stride(self, layer: str) -> int:
        """Pixels from one position of a layer to the next, along either axis."""
        return int(self.net.receptive_fields[layer].stride[0])

    def share(self, layer: str) -> float:
        """Positions of a layer over pixels."""
        return 1 / self.stride(layer) ** 2


class Sight:
    """One view: its grain, and the targets of its terms.

    Args:
        eye: what looks.
        look: what it sees.
        view: the slices.
        pictures: of each style, ``(n, 1, H, W)``.
        weights: one for each style.
        content: slabs of the content's slices, ``(n, 1, H, W)`` each.
        group: processes that have a share of these slices each; None is this one alone.
    """

    def __init__(
        self,
        eye: Eye,
        look: Look,
        view: View,
        *,
        pictures: Sequence[Tensor],
        weights: Sequence[float],
        content: Iterable[Tensor],
        group: ProcessGroup | None = None,
    ) -> None:
        group = ProcessGroup() if group is None else group
        self._group = group
        self.eye, self.look, self.view = eye, look, view
        self.grain = Grain(view.pixel, look.fine, look.tissues, look.flat)
        lags = math.ceil(_REACH * self.grain.sigma)
        self._facts: dict[str, AutocorrelationStatistic] = {}
        for name in look.facts:
            kind = STATISTICS[name]
            assert isinstance(kind, AutocorrelationStatistic)
            self._facts[name] = type(kind)(lags=lags, keep_all_axes=True)
        if look.content_layer is None:
            self.grain.measure(pictures)
        self._many = self.grain.many + 1
        parts = [self._style_sums(each) for each in pictures]
        slabs = list(content)
        present = set.intersection(*map(set, parts)) & set(self._content_names(slabs, group))
        rest = f"/{self.grain.many}"
        if any(not name.endswith(rest) for name in present):
            # Edges, bone and air are anatomy: how much of them a style has is no way to look.
            present = {name for name in present if not name.endswith(rest)}
            self._many -= min(1, len(look.tissues))
        self.styles = {
            name: StyleLoss(
                blend([sums[name] for sums in parts], weights),
                layer=name,
                statistic=self._facts.get(_layer(name), look.statistic),
            )
            for name in parts[0]
            if name in present
        }
        own = sum(float(self._kept(slab).square().sum()) for slab in slabs)
        energy = float(group.all_reduce(torch.tensor(own, dtype=torch.float64)))
        self.energy = energy if energy > 0 else 1.0

    def sums(self, slices: Tensor, before: Tensor) -> dict[str, Sums]:
        """Sums of every term that adds up over slices.

        Args:
            slices: ``(n, 1, H, W)`` of the iterate.
            before: the same ones of the content.
        """
        layer = self.look.content_layer
        with torch.no_grad():
            target = self._kept(before)
            tissues = None if layer is not None else self.grain.tissues(target)
        blurred = None if layer is not None else self.grain.blurred(slices)
        found, features = self._style_terms(
            slices, blurred, tissues, self.look.layers, wanted=self.styles
        )
        kept = features[layer] if layer is not None else blurred
        assert kept is not None
        difference = (kept - target).flatten().float()
        found["content"] = Sums(difference.dot(difference), 1)
        return found

    def leave_out_structure(self, sums: Mapping[str, Sums]) -> None:
        """Give up the terms of sloping places that are still far from the style.

        Args:
            sums: of a content with the style's noise in it.
        """
        values: dict[int, list[float]] = {}
        for name, loss in self.styles.items():
            values.setdefault(_class(name), []).append(float(loss.value(sums[name])))
        far = {
            number
            for number, each in values.items()
            if number % self.grain.classes and sum(each) / len(each) > _STRUCTURE
        }
        kept = {name: loss for name, loss in self.styles.items() if _class(name) not in far}
        self.styles = kept or self.styles

    def tissues(self, slices: Tensor) -> Tensor | None:
        """Number of each pixel's tissue; None where there is only one."""
        if self.look.content_layer is not None:
            return None
        return self.grain.tissues(self.grain.blurred(slices))

    def _style_sums(self, pictures: Tensor) -> dict[str, Sums]:
        """Of all pictures, which processes share out."""
        group = self._group
        count = max(1, POSITIONS // group.size // math.prod(pictures.shape[2:]))
        found: dict[str, Sums] = {}
        for part in torch.split(pictures, count)[group.rank :: group.size]:
            blurred = tissues = None
            if self.look.content_layer is None:
                blurred = self.grain.blurred(part)
                tissues = self.grain.tissues(blurred)
            terms, _ = self._style_terms(part, blurred, tissues, self.look.style_layers)
            for name, sums in terms.items():
                found[name] = found[name] + sums if name in found else sums
        if group.size > 1:
            names = self._names()  # there may be no picture for this one
            own = [found[name] for name in names] if found else []
            totals = all_reduce_sums(group, own, pictures.device, len(names))
            narrow = (Sums(each.total.float(), each.count) for each in totals)
            found = dict(zip(names, narrow, strict=True))
        enough = _LEAST * pictures.numel()
        return {
            name: sums
            for name, sums in found.items()
            if sums.count
            >= enough * (1.0 if _layer(name) in self._facts else self.eye.share(_layer(name)))
        }

    def _names(self) -> list[str]:
        """Terms of all tissues, as `_style_terms` has them."""
        one = self.look.content_layer is not None or not self.look.tissues
        numbers = [""] if one else list(map(str, range(self._many)))
        facts = [f"{name}/{number}" for name in self._facts for number in numbers]
        layers = [f"{name}/{number}" for name in self.look.style_layers for number in numbers]
        return [*facts, *layers]

    def _style_terms(
        self,
        slices: Tensor,
        blurred: Tensor | None,
        tissues: Tensor | None,
        layers: Sequence[str],
        *,
        wanted: Container[str] | None = None,
    ) -> tuple[dict[str, Sums], dict[str, Tensor]]:
        """Sums of each layer in each tissue, or of those that are wanted; and all features."""
        # What the network gets: values, or grain, which lies around its own grey.
        seen = slices if blurred is None else self.grain.seen(slices, blurred, tissues)
        shown = seen if blurred is None else float(self.eye.net.mean.mean()) + 0.5 * seen
        features = self.eye.features(shown, layers)
        many = 0 if tissues is None else self._many
        found = {}
        for fact, order in self._facts.items():
            for tissue in range(max(1, many)):
                term = f"{fact}/{tissue if many else ''}"
                if wanted is not None and term not in wanted:
                    continue
                share = (
                    torch.ones_like(seen) if tissues is None else (tissues == tissue).to(seen.dtype)
                )
                each = order.sums(seen, weights=share)
                total = each.total.sum(0, keepdim=True)  # over slices
                found[term] = Sums(total, each.count)
        for name in self.look.style_layers:
            here, statistic = features[name], self.eye.statistics[name]
            if tissues is None:
                found[f"{name}/"] = statistic.sums(_stacked(here))
                continue
            for tissue, part in enumerate(by_tissue(here, tissues, many)):
                if wanted is None or f"{name}/{tissue}" in wanted:
                    found[f"{name}/{tissue}"] = statistic.sums(part)
        return found, features

    def _content_names(self, slabs: Sequence[Tensor], group: ProcessGroup) -> list[str]:
        """Terms of tissues that the content has enough of, and shows in their layer at all."""
        names = (*self.look.style_layers, *self.look.facts)
        if self.look.content_layer is not None or not self.look.tissues:
            return [f"{name}/" for name in names]
        pixels = dict.fromkeys(self.look.facts, 1)
        strides = {name: self.eye.stride(name) for name in self.look.style_layers} | pixels
        counts = {
            step: torch.zeros(self._many + 1, dtype=torch.int64) for step in (1, *strides.values())
        }
        for slices in slabs:
            numbers = self.tissues(slices)
            assert numbers is not None
            for step, count in counts.items():
                size = [extent // step for extent in numbers.shape[2:]]
                here = at_positions(numbers, size, self._many).flatten().int()
                count += torch.bincount(here, minlength=len(count)).cpu()
        counts = {step: group.all_reduce(count) for step, count in counts.items()}
        shares = counts[1] / counts[1].sum()
        return [
            f"{name}/{tissue}"
            for name in names
            for tissue in range(self._many)
            if shares[tissue] >= _LEAST and counts[strides[name]][tissue] > 0
        ]

    def _kept(self, slices: Tensor) -> Tensor:
        layer = self.look.content_layer
        if layer is None:
            return self.grain.blurred(slices)
        return self.eye.features(slices, [layer])[layer]


def _layer(name: str) -> str:
    """Of a term: layer or fact, behind which the tissue stands."""
    return name.partition("/")[0]


def _class(name: str) -> int:
    """Of a term of several: the number of the class that stands behind the layer."""
    return int(name.partition("/")[2])


def _stacked(features: Tensor) -> Tensor:
    # Slices as a first spatial axis of one field, so that sums run over all of them.
    return features.movedim(1, 0)[None]  # (1, C, n, H, W)
