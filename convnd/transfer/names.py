"""Whether the names among the options exist."""

from __future__ import annotations

from convnd.backbones import BACKBONES, INFLATIONS
from convnd.backbones.user_models import is_user_model
from convnd.errors import UsageError
from convnd.losses import check_normalization
from convnd.optimize import OPTIMIZERS
from convnd.registry import unknown_name
from convnd.stats import STATISTICS
from convnd.transfer.options import TransferOptions

__all__ = ["check_names"]


def check_names(options: TransferOptions) -> None:
    """Check that every name among the options exists, before anything is read or loaded.

    Raises:
        UnknownNameError: no such backbone, layer, inflation, statistic, optimizer or normalization.
        UsageError: pooling or rank of a user's module is to be changed.
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
    if options.inflation not in (*INFLATIONS, "multiplanar", "auto"):
        raise unknown_name("inflation", options.inflation, ["auto", "multiplanar", *INFLATIONS])
    for name in (options.style_loss, *options.value_statistics):
        STATISTICS[name]
    OPTIMIZERS[options.optimizer]
    check_normalization(options.normalization)
