"""The configuration of a volume's objective, and the features that the network computes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from convnd.backbones import Backbone, Precision
from convnd.stats import STATISTICS, LinearlyMappable, ProjectedStatistic, Statistic

__all__ = ["FeatureExtractor", "VolumeLossConfig"]

_UNKNOWN_STRIDE = 32  # of a user's network whose receptive fields cannot be found


@dataclass(frozen=True, kw_only=True)
class VolumeLossConfig:
    """What the network sees, and which terms the objective has.

    Args:
        style_layers: layers whose statistics become the style's.
        content_layers: layers whose features are kept. None transfers noise: the network sees the
            noise texture, and the blurred values are kept.
        style_weight: of all style terms together.
        content_weight: of all content terms together.
        detail_sigma_mm: see `convnd_tasks.modalities.volumes.noise_texture.NoiseTexture`; only for
            noise, like the next two.
        tissues: lowest and highest blurred value of each tissue.
        slope_limits: see `NoiseTexture`.
        style_loss: one of `convnd.stats.STATISTICS`.
        style_layer_weights: one for each style layer; empty weighs all alike.
        value_statistics: names of statistics of the noise texture itself; only for noise.
        value_statistics_weight: weight of each; None weighs it as much as a style layer.
        normalization: see `convnd.losses.NORMALIZATIONS`.
        tv_weight: weight of the total variation within slices, relative to the content's.
    """

    style_layers: tuple[str, ...]
    content_layers: tuple[str, ...] | None
    style_weight: float
    content_weight: float
    detail_sigma_mm: float
    tissues: tuple[tuple[float, float], ...] = ()
    slope_limits: tuple[float, ...] = (math.inf,)
    style_loss: str = "gram"
    style_layer_weights: tuple[float, ...] = ()
    value_statistics: tuple[str, ...] = ()
    value_statistics_weight: float | None = None
    normalization: str = "balanced"
    tv_weight: float = 0.0

    @property
    def layers(self) -> tuple[str, ...]:
        """Every layer whose features are needed."""
        return tuple(dict.fromkeys((*self.style_layers, *(self.content_layers or ()))))

    @property
    def is_noise(self) -> bool:
        """Whether noise is transferred."""
        return self.content_layers is None

    def weight_of(self, source: str) -> float:
        """Weight of a layer or value statistic in the mean of the style terms; 1 on average."""
        if not self.style_layer_weights or source not in self.style_layers:
            return 1.0
        weights = self.style_layer_weights
        return weights[self.style_layers.index(source)] * len(weights) / sum(weights)


class FeatureExtractor:
    """The network and the statistic of each style layer, which all views share.

    Args:
        net: has two axes and one channel.
        config: see `VolumeLossConfig`.
        precision: number format of the features.

    Attributes:
        grey: value of a pixel without any noise.
    """

    def __init__(self, net: Backbone, config: VolumeLossConfig, precision: Precision) -> None:
        self.net, self.precision = net, precision
        mean = getattr(net, "mean", None)
        self.grey = float(mean.mean()) if isinstance(mean, Tensor) else 0.5
        statistic = STATISTICS[config.style_loss]
        self.statistics: dict[str, Statistic] = dict.fromkeys(config.style_layers, statistic)
        if isinstance(statistic, LinearlyMappable):
            for name in self.statistics:
                is_content = name in (config.content_layers or ())
                projection = None if is_content else net.projection(name)
                if projection is not None:
                    self.statistics[name] = ProjectedStatistic(statistic, projection)

    def extract(self, slices: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Features of slices ``(n, 1, H, W)``, before the projections that statistics apply."""
        raw = [
            name
            for name, statistic in self.statistics.items()
            if isinstance(statistic, ProjectedStatistic) and name in layers
        ]
        features: dict[str, Tensor] = self.net(self.precision.layout(slices), layers, raw=raw)
        return features

    def stride(self, layer: str) -> int:
        """Pixels from one position of a layer to the next, along either axis."""
        field = self.net.receptive_fields.get(layer)
        return 1 if field is None else int(field.stride[0])

    def density(self, layer: str) -> float:
        """Positions of a layer for each pixel; a low guess where the stride is unknown."""
        known = layer in self.net.receptive_fields
        return 1 / (self.stride(layer) if known else _UNKNOWN_STRIDE) ** 2
