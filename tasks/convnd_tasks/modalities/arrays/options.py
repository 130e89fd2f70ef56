"""The options of stylising arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from convnd.transfer.options import TransferOptions

__all__ = ["ArrayOptions"]


@dataclass(frozen=True, kw_only=True)
class ArrayOptions(TransferOptions):
    """How an array is stylised; the other options are those of `TransferOptions`.

    >>> ArrayOptions.for_dim(3).backbone, ArrayOptions.for_dim(2).backbone
    ('compact', 'vgg19')
    """

    size: int = 0

    @classmethod
    def for_dim(cls, spatial_dims: int, **given: Any) -> Self:
        """Make the options for a number of axes.

        From three axes on, the defaults are cheaper: VGG-19 and 100 steps would take minutes.

        Args:
            spatial_dims: number of spatial axes.
            given: values of options; None is the default.
        """
        defaults = {"backbone": "compact", "steps": 40} if spatial_dims > 2 else {}
        values = {name: value for name, value in given.items() if value is not None}
        return super().for_dim(spatial_dims, **{**defaults, **values})
