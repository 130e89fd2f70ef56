"""What is seen of the slices across one axis of a volume, and how it is compared with the style."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from convnd.backbones import VGG, Precision
from convnd.losses import StyleLoss
from convnd.nn import resize_nd
from convnd.stats import (
    STATISTICS,
    AutocorrelationStatistic,
    Mappable,
    Statistic,
    Sums,
    TappedStatistic,
    blend,
)
from convnd_tasks.volume_grain import Grain, View

__all__ = ["POSITIONS", "Eye", "Look", "Sight"]

POSITIONS = 2**19
"""Of a slab that is looked at at once: about 400 MiB in the compact network."""

_REACH = 2  # sigmas of the blur that facts of the grain look far: no further does it correlate
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
        if isinstance(statistic, Mappable):
            for name in self.statistics:
                tap = None if name == look.content_layer else net.tap(name)
                if tap is not None:
                    self.statistics[name] = TappedStatistic(statistic, tap)

    def features(self, slices: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Of ``(n, 1, H, W)``, before their taps where the statistics are."""
        untapped = [
            name
            for name, each in self.statistics.items()
            if isinstance(each, TappedStatistic) and name in layers
        ]
        features: dict[str, Tensor] = self.net(
            self.precision.layout(slices), layers, untapped=untapped
        )
        return features

    def share(self, layer: str) -> float:
        """Positions of a layer over pixels."""
        return 1 / math.prod(map(int, self.net.fields[layer].stride))


class Sight:
    """One view: its grain, and the targets of its terms.

    Args:
        eye: what looks.
        look: what it sees.
        view: the slices.
        pictures: of each style, ``(n, 1, H, W)``.
        weights: one for each style.
        content: slabs of the content's slices, ``(n, 1, H, W)`` each.
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
    ) -> None:
        self.eye, self.look, self.view = eye, look, view
        self.grain = Grain(view.pixel, look.fine, look.tissues, look.flat)
        lags = math.ceil(_REACH * self.grain.sigma)
        self._facts: dict[str, AutocorrelationStatistic] = {}
        for name in look.facts:
            kind = STATISTICS[name]
            assert isinstance(kind, AutocorrelationStatistic)
            self._facts[name] = type(kind)(lags=lags, every_axis=True)
        if look.content_layer is None:
            self.grain.measure(pictures)
        parts = [self._style_sums(each) for each in pictures]
        slabs = list(content)
        present = set.intersection(*map(set, parts)) & set(self._content_names(slabs))
        self.styles = {
            name: StyleLoss(
                blend([sums[name] for sums in parts], weights),
                layer=name,
                statistic=self._facts.get(_layer(name), look.statistic),
            )
            for name in parts[0]
            if name in present
        }
        energy = sum(float(self._kept(slab).square().sum()) for slab in slabs)
        self.energy = energy if energy > 0 else 1.0

    def sums(self, slices: Tensor, before: Tensor) -> dict[str, Sums]:
        """Sums of every term that adds up over slices.

        Args:
            slices: ``(n, 1, H, W)`` of the iterate.
            before: the same ones of the content.
        """
        look = self.look
        with torch.no_grad():
            target = self._kept(before)
            tissues = self.tissues(before)
        seen = self._seen(slices, tissues)
        features = self.eye.features(self._shown(seen), look.layers)
        found = {
            name: sums
            for name, sums in self._style_terms(seen, features, tissues).items()
            if name in self.styles
        }
        here = features.get(look.content_layer or "")
        kept = self.grain.blurred(slices) if here is None else here
        difference = (kept - target).flatten().float()
        found["content"] = Sums(difference.dot(difference), 1)
        return found

    def tissues(self, slices: Tensor) -> list[Tensor]:
        """Share of each tissue in each pixel; none where there is only one."""
        return [] if self.look.content_layer is not None else self.grain.tissues(slices)

    def _style_sums(self, pictures: Tensor) -> dict[str, Sums]:
        count = max(1, POSITIONS // math.prod(pictures.shape[2:]))
        found: dict[str, Sums] = {}
        for part in torch.split(pictures, count):
            tissues = self.tissues(part)
            seen = self._seen(part, tissues)
            features = self.eye.features(self._shown(seen), self.look.style_layers)
            for name, sums in self._style_terms(seen, features, tissues).items():
                found[name] = found[name] + sums if name in found else sums
        enough = _LEAST * pictures.numel()
        return {
            name: sums
            for name, sums in found.items()
            if sums.count
            >= enough * (1.0 if _layer(name) in self._facts else self.eye.share(_layer(name)))
        }

    def _style_terms(
        self, seen: Tensor, features: dict[str, Tensor], tissues: Sequence[Tensor]
    ) -> dict[str, Sums]:
        """Sums of each layer in each tissue, a position counting as far as it is of the tissue."""
        found = {}
        for fact, order in self._facts.items():
            for tissue, share in enumerate(tissues or [torch.ones_like(seen)]):
                each = order.sums(seen, share=share)
                total = each.total.sum(0, keepdim=True)  # over slices
                found[f"{fact}/{tissue if tissues else ''}"] = Sums(total, each.count)
        for name in self.look.style_layers:
            here, statistic = features[name], self.eye.statistics[name]
            for tissue, share in enumerate(tissues):
                small = resize_nd(share, here.shape[2:], mode="area")
                sums = statistic.sums(_stacked(here * small.sqrt().to(here.dtype)))
                # Never 0: a slab may have none of it.
                found[f"{name}/{tissue}"] = Sums(sums.total, float(small.sum()))  # type: ignore[arg-type]
            if not tissues:
                found[f"{name}/"] = statistic.sums(_stacked(here))
        return found

    def _content_names(self, slabs: Sequence[Tensor]) -> list[str]:
        """Terms of tissues that the content has enough of."""
        counts: list[float] = []
        pixels = 0
        for slices in slabs:
            shares = [float(share.sum()) for share in self.tissues(slices)]
            counts = [a + b for a, b in zip(counts, shares, strict=True)] if counts else shares
            pixels += slices.numel()
        kept = [str(n) for n, count in enumerate(counts) if count >= _LEAST * pixels] or [""]
        names = (*self.look.style_layers, *self.look.facts)
        return [f"{name}/{tissue}" for name in names for tissue in kept]

    def _kept(self, slices: Tensor) -> Tensor:
        layer = self.look.content_layer
        if layer is None:
            return self.grain.blurred(slices)
        return self.eye.features(slices, [layer])[layer]

    def _seen(self, slices: Tensor, tissues: Sequence[Tensor]) -> Tensor:
        if self.look.content_layer is not None:
            return slices
        return self.grain.seen(slices, tissues)

    def _shown(self, seen: Tensor) -> Tensor:
        """What the network gets: grain lies around its own grey."""
        if self.look.content_layer is not None:
            return seen
        return float(self.eye.net.mean.mean()) + 0.5 * seen


def _layer(name: str) -> str:
    """Of a term: layer or fact, behind which the tissue stands."""
    return name.partition("/")[0]


def _stacked(features: Tensor) -> Tensor:
    # Slices as a first spatial axis of one field, so that sums run over all of them.
    return features.movedim(1, 0)[None]  # (1, C, n, H, W)
