"""One convolution stack for signals, images, volumes and video.

- `convnd.stylize`: style transfer on files, tensors, arrays, PIL images and grids of any rank;
- `convnd.train`: a network of one's own that gives one style in a single pass;
- `convnd.evaluate`: measures of a result;
- `convnd.RandStyle`, `convnd.ScanLook`, `convnd.SignalLook`: the style of other pictures, the noise
  of other scans and the spectrum of other recordings, as augmentations of training data;
- `convnd.read`, `convnd.write`: files.

The rooms, each imported on first use, so that ``import convnd`` and ``convnd --help`` do not wait
for torch:

- `convnd.nn`: convolution, pooling, padding, normalisation and resizing over any number of axes;
- `convnd.shapes`: output sizes and receptive fields, without tensors;
- `convnd.backbones`: pretrained features in every dimension;
- `convnd.stats`, `convnd.losses`: Gram matrices and the objectives made of them;
- `convnd.optimize`: minimising them, coarse to fine;
- `convnd.feedforward`: networks that stylise in one pass, their files, and ONNX;
- `convnd.io`, `convnd.Grid`: files, and values with what their owners need back.

>>> import convnd
>>> convnd.shapes.__name__
'convnd.shapes'
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from convnd.errors import ConvndError

if TYPE_CHECKING:
    from convnd import backbones, feedforward, io, losses, nn, optimize, shapes, stats, transfer
    from convnd.grid import Grid
    from convnd.io import read, write

    # Types of the application, which this package never imports.
    stylize: Callable[..., Any]
    train: Callable[..., Any]
    evaluate: Callable[..., Any]
    RandStyle: Callable[..., Any]
    ScanLook: Callable[..., Any]
    SignalLook: Callable[..., Any]

__all__ = [
    "ConvndError",
    "Grid",
    "RandStyle",
    "ScanLook",
    "SignalLook",
    "__version__",
    "backbones",
    "evaluate",
    "feedforward",
    "io",
    "losses",
    "nn",
    "optimize",
    "read",
    "shapes",
    "stats",
    "stylize",
    "train",
    "transfer",
    "write",
]

__version__ = "0.1.0"

_FUNCTIONS = {
    "Grid": "convnd.grid",
    "read": "convnd.io",
    "write": "convnd.io",
    # The application is another package, which plugs in as its commands do.
    "RandStyle": "convnd_tasks.pipeline.rand_style",
    "ScanLook": "convnd_tasks.modalities.volumes.scan_look",
    "SignalLook": "convnd_tasks.modalities.signals.signal_look",
    "evaluate": "convnd_tasks.pipeline.api",
    "stylize": "convnd_tasks.pipeline.api",
    "train": "convnd_tasks.pipeline.train_api",
}
_ROOMS = (
    *("backbones", "feedforward", "io", "losses", "nn", "optimize", "shapes", "stats", "transfer"),
)


def __getattr__(name: str) -> object:
    if name in _ROOMS:
        return importlib.import_module(f"convnd.{name}")
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(_FUNCTIONS[name]), name)
    raise AttributeError(f"module 'convnd' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
