"""What a run logs about itself."""

from __future__ import annotations

import logging

import torch

from convnd.backbones import Precision

__all__ = ["log_run_settings"]


def log_run_settings(
    logger: logging.Logger, backbone: str, device: torch.device, precision: Precision
) -> None:
    """Log network, device, number format and threads, for ``-v`` and ``--json``.

    Args:
        logger: of the calling module.
        backbone: name of the network.
        device: where it runs.
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
