"""Files of trained networks in the format ONNX, for programs without torch."""

from __future__ import annotations

import importlib.util
import logging
import os
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convnd.errors import DependencyError, OutputFileError
from convnd.feedforward.transform_net import TransformNet, field_statistics
from convnd.io.atomic import atomic_path
from convnd.losses import INPUT

__all__ = ["write_onnx"]

_PACKAGES = ("onnx", "onnxscript")


class _AnySize(nn.Module):
    """Pads an input to a multiple of the network's stride by operators that take any size."""

    def __init__(self, network: TransformNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        statistics = {INPUT: field_statistics(x, self.network.basis)}
        step, padded = self.network.shape.stride, x
        for axis, extent in enumerate(x.shape[2:], 2):
            places = torch.arange((extent + step - 1) // step * step, device=x.device)
            padded = padded.index_select(axis, places.clamp(max=extent - 1))
        result: Tensor = self.network(padded, statistics)
        for axis, extent in enumerate(x.shape[2:], 2):
            result = result.narrow(axis, 0, extent)
        return result


def write_onnx(
    path: str | os.PathLike[str], network: TransformNet, *, overwrite: bool = False
) -> None:
    """Write a network as a graph of ONNX, whole or not at all.

    The graph has an input ``x`` and an output ``y``, both ``(B, C, *S)`` in float32. Batch and
    sizes are free. Its values are those of the network up to rounding.

    Args:
        path: path of the file, whose name ends in ``.onnx``.
        network: a network over one to three axes.
        overwrite: whether an existing file may be replaced.

    Raises:
        DependencyError: a package of ``_PACKAGES`` is missing.
        OutputExistsError: the file exists and may not be replaced.
        OutputFileError: ONNX has no convolution over so many axes, or the file cannot be written.
    """
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise DependencyError(
            "ONNX",
            expected=f"the packages {' and '.join(_PACKAGES)}",
            got=f"no {missing[0]}",
            remedy='run: pip install "convnd-toolkit[onnx]"',
        )
    shape = network.shape
    if shape.spatial_dims > 3:
        raise OutputFileError(
            str(path),
            expected="a network of one to three axes, as ONNX has them",
            got=f"one of {shape.spatial_dims}",
            remedy="use it in torch",
        )
    with atomic_path(path, overwrite=overwrite) as temporary:
        mode = temporary.stat().st_mode
        _export(network).save(temporary)
        Path(temporary).chmod(mode)


def _export(network: TransformNet) -> Any:
    """Trace the network with free batch and sizes."""
    shape = network.shape
    example = torch.zeros(2, shape.channels, *[6 * shape.stride] * shape.spatial_dims)
    free = dict.fromkeys((0, *range(2, example.ndim)), torch.export.Dim.DYNAMIC)
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)  # it warns of torchvision, which is not needed
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.onnx.export(
                _AnySize(network).to("cpu").eval(),
                (example,),
                dynamo=True,
                dynamic_shapes={"x": free},
                input_names=["x"],
                output_names=["y"],
                verbose=False,
            )
    finally:
        log.setLevel(level)
