"""One convolution stack for signals, images, volumes and video.

The rooms, each imported on first use, so that ``import convnd`` and ``convnd --help`` do not wait
for torch:

- `convnd.nn`: convolution, pooling, padding, normalisation and resizing over any number of axes;
- `convnd.shapes`: output sizes and receptive fields, without tensors;
- `convnd.backbones`: pretrained features in every dimension;
- `convnd.stats`, `convnd.losses`: Gram matrices and the objectives made of them;
- `convnd.optimize`: minimising them, coarse to fine;
- `convnd.io`, `convnd.Grid`: files, and values with what their owners need back.

>>> import convnd
>>> convnd.shapes.__name__
'convnd.shapes'
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from convnd.errors import ConvndError

if TYPE_CHECKING:
    from convnd import backbones, io, losses, nn, optimize, shapes, stats
    from convnd.grid import Grid

__all__ = [
    "ConvndError",
    "Grid",
    "__version__",
    "backbones",
    "io",
    "losses",
    "nn",
    "optimize",
    "shapes",
    "stats",
]

__version__ = "0.1.0"

_ROOMS = ("backbones", "io", "losses", "nn", "optimize", "shapes", "stats")


def __getattr__(name: str) -> object:
    if name in _ROOMS:
        return importlib.import_module(f"convnd.{name}")
    if name == "Grid":
        return importlib.import_module("convnd.grid").Grid
    raise AttributeError(f"module 'convnd' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
