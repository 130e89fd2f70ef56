"""The terms of a volume's objective that one view contributes: statistics, targets and content."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from convnd.losses import StyleLoss, TotalVariationLoss
from convnd.optimize import ProcessGroup, all_reduce_sums
from convnd.stats import STATISTICS, AutocorrelationStatistic, Sums, blend
from convnd_tasks.modalities.volumes.features import FeatureExtractor, VolumeLossConfig
from convnd_tasks.modalities.volumes.noise_texture import NoiseTexture
from convnd_tasks.modalities.volumes.slabs import SlabPlan, View
from convnd_tasks.modalities.volumes.tissues import downsample_labels, gather_by_label

__all__ = ["ViewLoss", "source_of"]

_REACH = 2  # sigmas of the blur: the largest lag of the value statistics; noise reaches no further
_STRUCTURE = 0.15
"""Mean of a class's terms, relative to the style's own size, above which its texture counts as
structure: neighbouring slices have at most 0.13, and contents with vessels that the style lacks
0.17 and 0.29."""

_LEAST = 0.005  # share of the pixels below which a class has no term
_ROUGHNESS = "total_variation"


class ViewLoss:
    """The terms of one view, with their targets.

    A term has the name ``source/label``: the layer or value statistic that it measures, and the
    class of pixels, which is empty where all pixels form one class.

    Args:
        extractor: computes features.
        config: see `VolumeLossConfig`.
        view: the slices.
        pictures: slices ``(n, 1, H, W)`` of each style.
        weights: one for each style.
        content: slabs of the content's slices, ``(n, 1, H, W)`` each.
        group: processes that hold some of these slices each; None is this one alone.
        slices: largest number of a style's slices that the network sees together; None chooses.

    Attributes:
        style_losses: the style terms.
        content_energies: for each content term the sum of squares of its target.
        roughness: total variation of the content; 0 without such a term.
    """

    def __init__(
        self,
        extractor: FeatureExtractor,
        config: VolumeLossConfig,
        view: View,
        *,
        pictures: Sequence[Tensor],
        weights: Sequence[float],
        content: Iterable[Tensor],
        group: ProcessGroup | None = None,
        slices: int | None = None,
    ) -> None:
        self._group = group = ProcessGroup() if group is None else group
        self._slices = slices
        self.extractor, self.config, self.view = extractor, config, view
        self.texture = NoiseTexture(
            view.pixel, config.detail_sigma_mm, config.tissues, config.slope_limits
        )
        self._value_statistics = _value_statistics(config, self.texture)
        if config.is_noise:
            self.texture.fit(pictures)
        self._n_labels = self.texture.n_classes + 1
        slabs = list(content)
        self.style_losses = self._style_losses(pictures, weights, slabs)
        energies: dict[str, float] = {}
        for slab in slabs:
            for name, target in self._content_features(slab).items():
                energies[name] = energies.get(name, 0.0) + float(target.square().sum())
        self.content_energies = {
            name: _or_one(self._all_reduce(energies.get(name, 0.0)))
            for name in self._content_names()
        }
        self._tv = TotalVariationLoss((view.pixel, view.pixel))
        self.roughness = 0.0
        if config.tv_weight:
            total = sum(float(self._tv.sums(slab).total) for slab in slabs)
            self.roughness = _or_one(self._all_reduce(total))

    def sums(self, slices: Tensor, content: Tensor) -> dict[str, Sums]:
        """Sums of every term over a slab; the sums of all slabs add up.

        Args:
            slices: ``(n, 1, H, W)`` of the iterate.
            content: the same slices of the content.
        """
        noise = self.config.is_noise
        with torch.no_grad():
            targets = self._content_features(content)
            labels = self.texture.label(targets["content/"]) if noise else None
        blurred = self.texture.blur(slices) if noise else None
        sums, features = self._style_sums(
            slices, blurred, labels, self.config.layers, terms=self.style_losses
        )
        for name, target in targets.items():
            values = features[name.partition("/")[2]] if blurred is None else blurred
            difference = (values - target).flatten().float()
            sums[name] = Sums(difference.dot(difference), difference.numel())
        if self.roughness:
            sums[_ROUGHNESS] = self._tv.sums(slices)
        return sums

    def content_values(self, sums: Mapping[str, Sums]) -> list[Tensor]:
        """The content terms, see `convnd.losses.ContentLoss`."""
        if self.config.normalization == "balanced":
            return [sums[name].total / energy for name, energy in self.content_energies.items()]
        if self.config.normalization == "mean":
            return [sums[name].total / sums[name].count for name in self.content_energies]
        return [sums[name].total / 2 for name in self.content_energies]

    def roughness_value(self, sums: Mapping[str, Sums]) -> Tensor:
        """Total variation relative to the content's."""
        return sums[_ROUGHNESS].total / self.roughness

    def drop_structure_terms(self, sums: Mapping[str, Sums]) -> None:
        """Drop the style terms of sloping places that are still far from the style.

        Noise does not make these places alike: they differ by structure, which descent would draw
        into the noise.

        Args:
            sums: of a content that has the style's noise.
        """
        distances: dict[int, list[float]] = {}
        for name, loss in self.style_losses.items():
            distances.setdefault(_label(name), []).append(_relative_distance(loss, sums[name]))
        far = {
            label
            for label, values in distances.items()
            if label % self.texture.classes_per_tissue and sum(values) / len(values) > _STRUCTURE
        }
        near = {name: loss for name, loss in self.style_losses.items() if _label(name) not in far}
        self.style_losses = near or self.style_losses

    def label(self, slices: Tensor) -> Tensor | None:
        """Class of each pixel; None where all pixels form one class."""
        return self.texture.label(self.texture.blur(slices)) if self.config.is_noise else None

    def _all_reduce(self, number: float) -> float:
        return float(self._group.all_reduce(torch.tensor(number, dtype=torch.float64)))

    def _style_losses(
        self, pictures: Sequence[Tensor], weights: Sequence[float], slabs: Sequence[Tensor]
    ) -> dict[str, StyleLoss]:
        """The style terms that all styles and the content have enough pixels for."""
        config = self.config
        parts = [self._picture_sums(picture) for picture in pictures]
        present = set.intersection(*map(set, parts)) & set(self._terms_of_content(slabs))
        rest = f"/{self.texture.n_classes}"
        if any(not name.endswith(rest) for name in present):
            # Edges, bone and air are anatomy: how much of them a style has is not its look.
            present = {name for name in present if not name.endswith(rest)}
            self._n_labels -= min(1, len(config.tissues))
        losses = {}
        for name in parts[0]:
            if name not in present:
                continue
            statistic = self._value_statistics.get(source_of(name))
            scale = config.normalization
            if statistic is not None:  # the printed formulas are for Gram matrices
                scale = "mean" if scale == "mean" else "balanced"
            losses[name] = StyleLoss(
                blend([sums[name] for sums in parts], weights),
                layer=name,
                statistic=config.style_loss if statistic is None else statistic,
                normalization=scale,
            )
        return losses

    def _picture_sums(self, pictures: Tensor) -> dict[str, Sums]:
        """Sums of every term with enough pixels over the slices of a style."""
        group = self._group
        count = SlabPlan(group.size).slices_of(pictures.shape[2:])
        count = count if self._slices is None else min(count, self._slices)
        total: dict[str, Sums] = {}
        for part in torch.split(pictures, count)[group.rank :: group.size]:
            blurred = labels = None
            if self.config.is_noise:
                blurred = self.texture.blur(part)
                labels = self.texture.label(blurred)
            terms, _ = self._style_sums(part, blurred, labels, self.config.style_layers)
            for name, sums in terms.items():
                total[name] = total[name] + sums if name in total else sums
        if group.size > 1:
            names = self._term_names()  # this process may have no slice of its own
            parts = [total[name] for name in names] if total else []
            reduced = all_reduce_sums(group, parts, pictures.device, len(names))
            float32 = (Sums(sums.total.float(), sums.count) for sums in reduced)
            total = dict(zip(names, float32, strict=True))
        enough = _LEAST * pictures.numel()
        return {
            name: sums for name, sums in total.items() if sums.count >= enough * self._density(name)
        }

    def _density(self, name: str) -> float:
        source = source_of(name)
        return 1.0 if source in self._value_statistics else self.extractor.density(source)

    def _term_names(self) -> list[str]:
        """Names of the terms of all classes, in the order of `_style_sums`."""
        single = not self.config.is_noise or not self.config.tissues
        labels = [""] if single else list(map(str, range(self._n_labels)))
        sources = (*self._value_statistics, *self.config.style_layers)
        return [f"{source}/{label}" for source in sources for label in labels]

    def _style_sums(
        self,
        slices: Tensor,
        blurred: Tensor | None,
        labels: Tensor | None,
        layers: Sequence[str],
        *,
        terms: Container[str] | None = None,
    ) -> tuple[dict[str, Sums], dict[str, Tensor]]:
        """Sums of the named style terms, or of all, and the features of all layers."""
        values = slices if blurred is None else self.texture.normalize(slices, blurred, labels)
        # The noise texture lies around the network's own grey.
        pictures = values if blurred is None else self.extractor.grey + 0.5 * values
        features = self.extractor.extract(pictures, layers)
        n_labels = 0 if labels is None else self._n_labels
        sums = self._value_sums(values, labels, n_labels, terms)
        for name in self.config.style_layers:
            statistic = self.extractor.statistics[name]
            if labels is None:
                sums[f"{name}/"] = statistic.sums(_stack(features[name]))
                continue
            for label, part in enumerate(gather_by_label(features[name], labels, n_labels)):
                if terms is None or f"{name}/{label}" in terms:
                    sums[f"{name}/{label}"] = statistic.sums(part)
        return sums, features

    def _value_sums(
        self, values: Tensor, labels: Tensor | None, n_labels: int, terms: Container[str] | None
    ) -> dict[str, Sums]:
        """Sums of the value statistics in each class."""
        total = {}
        for name, statistic in self._value_statistics.items():
            for label in range(max(1, n_labels)):
                term = f"{name}/{label if n_labels else ''}"
                if terms is not None and term not in terms:
                    continue
                inside = (
                    torch.ones_like(values)
                    if labels is None
                    else (labels == label).to(values.dtype)
                )
                sums = statistic.sums(values, weights=inside)
                total[term] = Sums(sums.total.sum(0, keepdim=True), sums.count)  # over slices
        return total

    def _terms_of_content(self, slabs: Sequence[Tensor]) -> list[str]:
        """Names of the terms of classes that the content has enough of, also in their layer."""
        names = (*self.config.style_layers, *self.config.value_statistics)
        if not self.config.is_noise or not self.config.tissues:
            return [f"{name}/" for name in names]
        pixels = dict.fromkeys(self.config.value_statistics, 1)
        strides = {name: self.extractor.stride(name) for name in self.config.style_layers} | pixels
        counts = {
            stride: torch.zeros(self._n_labels + 1, dtype=torch.int64)
            for stride in (1, *strides.values())
        }
        for slices in slabs:
            labels = self.label(slices)
            assert labels is not None
            for stride, count in counts.items():
                size = [extent // stride for extent in labels.shape[2:]]
                coarse = downsample_labels(labels, size, self._n_labels).flatten().int()
                count += torch.bincount(coarse, minlength=len(count)).cpu()
        counts = {stride: self._group.all_reduce(count) for stride, count in counts.items()}
        shares = counts[1] / counts[1].sum()
        return [
            f"{name}/{label}"
            for name in names
            for label in range(self._n_labels)
            if shares[label] >= _LEAST and counts[strides[name]][label] > 0
        ]

    def _content_names(self) -> list[str]:
        layers = self.config.content_layers
        return ["content/"] if layers is None else [f"content/{name}" for name in layers]

    def _content_features(self, slices: Tensor) -> dict[str, Tensor]:
        """What is kept of slices ``(n, 1, H, W)``, for each content term."""
        layers = self.config.content_layers
        if layers is None:
            return {"content/": self.texture.blur(slices)}
        features = self.extractor.extract(slices, layers) if layers else {}
        return {f"content/{name}": features[name] for name in layers}


def source_of(name: str) -> str:
    """The layer or value statistic of a term."""
    return name.partition("/")[0]


def _label(name: str) -> int:
    return int(name.partition("/")[2])


def _value_statistics(
    config: VolumeLossConfig, texture: NoiseTexture
) -> dict[str, AutocorrelationStatistic]:
    lags = math.ceil(_REACH * texture.sigma)
    statistics = {}
    for name in config.value_statistics:
        kind = STATISTICS[name]
        assert isinstance(kind, AutocorrelationStatistic)
        statistics[name] = type(kind)(lags=lags, keep_all_axes=True)
    return statistics


def _relative_distance(loss: StyleLoss, sums: Sums) -> float:
    """A style term by the normalization "balanced", whatever its own is."""
    difference = (loss.statistic.summary(sums) - loss.target).flatten()
    return float(difference.dot(difference) / _or_one(loss.target.square().sum().item()))


def _or_one(number: float) -> float:
    # A target of zeros has no scale of its own.
    return number if number > 0 else 1.0


def _stack(features: Tensor) -> Tensor:
    # Slices as a first spatial axis of one field, so that sums run over all of them.
    return features.movedim(1, 0)[None]  # (1, C, n, H, W)
