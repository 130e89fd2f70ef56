"""The network of a style transfer, on its device and in its number format."""

from __future__ import annotations

from collections.abc import Collection

from convnd.backbones import Backbone, MultiPlanar, Precision, choose_device, choose_precision, load
from convnd.backbones.user_models import is_user_model, load_user_model
from convnd.transfer.options import TransferOptions

__all__ = ["load_network"]


def load_network(
    options: TransferOptions,
    *,
    spatial_dims: int,
    in_channels: int,
    planes: Collection[tuple[int, ...]] | None = None,
) -> tuple[Backbone, Precision]:
    """Load the network that the options name, and move it to their device.

    Args:
        options: of the transfer.
        spatial_dims: number of spatial axes of the data.
        in_channels: channels of the data.
        planes: see `convnd.backbones.MultiPlanar`.

    Raises:
        UsageError: an option names something that does not exist, see `convnd.backbones.load`.
    """
    name, precision = options.backbone, options.precision
    network: Backbone
    if is_user_model(name):
        network = load_user_model(
            name, options.layers, spatial_dims=spatial_dims, in_channels=in_channels
        )
        # Some layers of users' networks do not work in bfloat16.
        precision = "float32" if precision == "auto" else precision
    else:
        unchanged = options.inflation in ("auto", "multiplanar")
        planar = spatial_dims > 2 and unchanged
        vgg = load(
            name,
            spatial_dims=2 if planar else spatial_dims,
            in_channels=in_channels,
            layers=options.layers,
            pooling=options.pooling,
            inflation="mean" if unchanged else options.inflation,
        )
        vgg.padding = options.padding
        network = vgg
        if planar:
            network = MultiPlanar(vgg, spatial_dims=spatial_dims, planes=planes)
    device = choose_device(options.device)
    number_format = choose_precision(device, precision)
    number_format.apply(network.to(device))
    return network, number_format
