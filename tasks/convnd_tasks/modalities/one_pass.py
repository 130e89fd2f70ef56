"""The transfer that makes a result in one pass."""

from __future__ import annotations

from convnd.transfer.color_transfer import ColorTransfer
from convnd.transfer.instant import InstantTransfer
from convnd.transfer.options import TransferOptions

__all__ = ["one_pass_transfer"]


def one_pass_transfer(
    options: TransferOptions, *, spatial_dims: int, in_channels: int
) -> ColorTransfer | InstantTransfer:
    """Make the transfer of colours alone, or by the network for any style.

    Args:
        options: options of the transfers.
        spatial_dims: number of spatial axes.
        in_channels: channels of the values.

    Raises:
        UsageError: the network takes no such data.
    """
    if getattr(options, "colors", "style") == "only":
        return ColorTransfer(options)
    return InstantTransfer(options, spatial_dims=spatial_dims, in_channels=in_channels)
