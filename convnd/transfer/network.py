"""The network of a style transfer: its names, its device and its number format."""

from __future__ import annotations

import logging
from collections.abc import Collection

import torch

from convnd.backbones import (
    BACKBONES,
    INFLATIONS,
    Backbone,
    MultiPlanar,
    Precision,
    choose_device,
    choose_precision,
    load,
)
from convnd.backbones.base import no_periodic_network_error
from convnd.backbones.user_models import is_user_model, load_user_model
from convnd.errors import UsageError
from convnd.losses import check_normalization
from convnd.optimize import OPTIMIZERS
from convnd.registry import unknown_name
from convnd.stats import STATISTICS
from convnd.transfer.options import TransferOptions

__all__ = ["check_names", "load_network", "log_run_settings"]


def check_names(options: TransferOptions) -> None:
    """Check that every name among the options exists, before anything is read or loaded.

    Raises:
        UnknownNameError: no such backbone, layer, inflation, statistic, optimizer or normalization.
        UsageError: the options change pooling or rank of a user's module.
    """
    changed = options.pooling != TransferOptions.pooling or (
        options.inflation != TransferOptions.inflation
    )
    for name in options.backbones:
        if not is_user_model(name):
            BACKBONES[name].plan.truncate(options.layers)
        elif changed:
            raise UsageError(
                "backbone",
                expected="one of the shipped networks with pooling and inflation",
                got=f"{name}, which is run as it is",
                remedy="leave them out",
            )
        elif options.seamless:
            raise no_periodic_network_error(name)
    if options.inflation not in (*INFLATIONS, "multiplanar", "auto"):
        raise unknown_name("inflation", options.inflation, ["auto", "multiplanar", *INFLATIONS])
    for name in (options.style_loss, *options.value_statistics):
        STATISTICS[name]
    OPTIMIZERS[options.optimizer]
    check_normalization(options.normalization)


def load_network(
    options: TransferOptions,
    *,
    spatial_dims: int,
    in_channels: int,
    planes: Collection[tuple[int, ...]] | None = None,
) -> tuple[Backbone, Precision]:
    """Load the network that the options name, and move it to their device.

    Args:
        options: options of the transfer.
        spatial_dims: number of spatial axes of the data.
        in_channels: channels of the data.
        planes: planes that a network of two axes sees of data of more axes, see
            `convnd.backbones.MultiPlanar`.

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


def log_run_settings(
    logger: logging.Logger, backbone: str, device: torch.device, precision: Precision
) -> None:
    """Log network, device, number format and threads, for ``-v`` and ``--json``.

    Args:
        logger: logger of the calling module.
        backbone: name of the network.
        device: device that it runs on.
        precision: number format of its features.
    """
    kind = str(precision.dtype).removeprefix("torch.")
    fast = " with fast convolutions" if precision.winograd else ""
    threads = torch.get_num_threads()
    logger.info(
        "%s on %s in %s%s; torch %s, threads: %d",
        *(backbone, device, kind, fast, torch.__version__, threads),
        extra={
            "figures": {
                "backbone": backbone,
                "device": str(device),
                "precision": kind,
                "fast_convolutions": precision.winograd,
                "torch": str(torch.__version__),
                "threads": threads,
            }
        },
    )
