"""The arguments of `convnd.stylize` about regions, which may be files or data in memory."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from convnd_tasks.modalities.inputs import RegionInputs
from convnd_tasks.modalities.regions import KEEP, parse_regions
from convnd_tasks.pipeline.in_memory import as_input

__all__ = ["RegionArguments"]


class RegionArguments(NamedTuple):
    """The arguments of `stylize` about regions.

    Args:
        regions: map of the content's regions; None is no regions.
        region: style of each label, or ``"keep"``.
        style_regions: map of each style.
    """

    regions: Any
    region: Mapping[str, Any]
    style_regions: Sequence[Any]

    @classmethod
    def take_from(cls, settings: dict[str, Any]) -> RegionArguments:
        """Remove the arguments from the settings."""
        region = settings.pop("region", {})
        if not isinstance(region, Mapping):
            region = parse_regions([region] if isinstance(region, str) else region)
        maps = settings.pop("style_regions", ())
        maps = list(maps) if isinstance(maps, list | tuple) else [maps]
        regions = settings.pop("regions", None)
        return cls(regions, {str(label): style for label, style in region.items()}, maps)

    @property
    def data(self) -> list[Any]:
        """Maps and styles, which are names or data in memory."""
        return [
            *([] if self.regions is None else [self.regions]),
            *self.styles,
            *self.style_regions,
        ]

    @property
    def styles(self) -> list[Any]:
        """The styles of regions."""
        return [style for style in self.region.values() if not _is_keep(style)]

    def as_settings(self) -> dict[str, Any]:
        """Return the arguments as settings of files."""
        if self.regions is None:
            return {}
        words = tuple(f"{label}={os.fspath(style)}" for label, style in self.region.items())
        maps = tuple(os.fspath(name) for name in self.style_regions)
        return {"regions": os.fspath(self.regions), "region": words, "style_regions": maps}

    def open(self, shared: int, dim: int, rate: str | None) -> RegionInputs | None:
        """Convert data in memory, and open files.

        Args:
            shared: number of styles besides those of regions.
            dim: number of spatial axes.
            rate: samples per second of signals that do not hold it, or None.
        """
        if self.regions is None:
            return None
        numbers = itertools.count(shared)
        return RegionInputs(
            grid=as_input(self.regions, dim, "regions", rate),
            name="regions",
            style_maps=[as_input(one, dim, "regions", rate) for one in self.style_regions],
            styles={
                label: None if _is_keep(style) else next(numbers)
                for label, style in self.region.items()
            },
            shared=range(shared),
        )


def _is_keep(style: Any) -> bool:
    return isinstance(style, str) and style == KEEP
