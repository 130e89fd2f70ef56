"""`convnd.RandStyle`: the style of other pictures as an augmentation of training data."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from convnd.errors import InputFileError, ShapeError, UsageError
from convnd.feedforward import StylePart, StyleTargets
from convnd.grid import Grid
from convnd.optimize import Tiler
from convnd.transfer.instant import InstantTransfer
from convnd.transfer.options import TransferOptions
from convnd_tasks.modalities.augmentation import StyleAugmentation
from convnd_tasks.modalities.base import MIN_EXTENT
from convnd_tasks.modalities.images.hidden import fill_hidden_pixels
from convnd_tasks.modalities.tensors import as_tensor
from convnd_tasks.pipeline.in_memory import as_input

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    Picture = str | os.PathLike[str] | Grid | Image | Tensor | NDArray[np.generic]

__all__ = ["RandStyle"]

_MOST_TARGETS = 32
"""Styles at a size whose statistics and patches stay in memory, 1.6 MB each at 128 x 128."""


class RandStyle(StyleAugmentation[Tensor]):
    """An augmentation that gives pictures the colours and textures of other pictures.

    A call draws a style and a strength, and changes the picture in one pass of the network of
    ``convnd stylize --instant``. Every pixel stays in its place, so that masks, boxes and labels
    stay valid. Networks that are trained so rely less on texture and more on shape (Geirhos et al.,
    2019).

    Objects are plain callables for a pipeline of torchvision (after ``ToTensor``), MONAI or, inside
    ``torchio.Lambda``, of TorchIO. They draw from torch's global generator, which data loaders seed
    differently in each worker.

    Args:
        styles: one picture or several: paths, names of built-in styles, `convnd.Grid`, PIL images,
            or tensors and arrays as those that are changed.
        strength: share of the change, from 0 to 1, or a range from which it is drawn uniformly.
        probability: probability that a call changes its picture.
        keys: names of the entries of a dictionary to change; empty if calls get pictures.
        value_range: values that are black and white in tensors and arrays; None is 0 and 255 for
            uint8, and 0 and 1 for other types.
        device: device of the network. Workers of a data loader need ``"cpu"``.

    Raises:
        InputFileError: a style cannot be read, or is no picture.
        UsageError: a number is out of range.

    >>> import torch
    >>> augment = RandStyle(["ink", "marble"], strength=(0.3, 1.0))
    >>> picture = torch.rand(3, 64, 48)
    >>> augment(picture).shape, bool((augment.apply(picture, style=1) - picture).std() > 0.05)
    (torch.Size([3, 64, 48]), True)
    """

    def __init__(
        self,
        styles: Picture | Sequence[Picture],
        *,
        strength: float | tuple[float, float] = (0.0, 1.0),
        probability: float = 1.0,
        keys: Sequence[str] = (),
        value_range: tuple[float, float] | None = None,
        device: str = "cpu",
    ) -> None:
        if value_range is not None and not value_range[0] < value_range[1]:
            raise UsageError(
                "RandStyle",
                expected="a value_range from black to white",
                got=value_range,
                remedy="for example (0, 255)",
            )
        self.value_range = value_range
        options = TransferOptions(device=device)
        self._transfer = InstantTransfer(options, spatial_dims=2, in_channels=3)
        self._targets: dict[tuple[int, ...], StyleTargets] = {}
        super().__init__(styles, strength=strength, probability=probability, keys=keys)

    def apply(self, data: Any, style: int = 0, strength: float = 1.0) -> Any:
        """Return a copy of a picture, or of several, with a given style and strength.

        Args:
            data: ``(H, W)``, ``(C, H, W)`` or ``(B, C, H, W)``, a tensor or an array of one or
                three channels; or ``(C, W, H, 1)``, as TorchIO has pictures. The results of a batch
                differ in their noise.
            style: index of the style.
            strength: from 0 to 1.

        Returns:
            The same shape and type; float32 for integers other than uint8. A picture of one channel
            gets the mean of the three.

        Raises:
            ShapeError: another shape, or fewer than 16 pixels along a side.
            UsageError: values lie outside of ``value_range``; or there is no such style or
                strength.
        """
        values = self._check(data, style, strength)
        pictures, (low, high) = self._pictures(values)
        change = torch.empty_like(pictures)
        for number, picture in enumerate(pictures.split(1)):
            change[number] = (self._stylize(picture, style) - picture)[0]
        change *= strength * (high - low)
        if values.ndim == 4 and values.shape[-1] == 1:
            change = change[0].mT
        change = change.reshape(values.shape).to(values.device)
        if values.dtype == torch.uint8:
            result = (values + change).round().clamp(0, 255).to(torch.uint8)
        else:
            result = values + (change.to(values.dtype) if values.is_floating_point() else change)
        return result if isinstance(data, Tensor) else result.numpy()

    def __getstate__(self) -> dict[str, Any]:
        """The state without what is computed from the styles, which workers compute again."""
        return {**self.__dict__, "_targets": {}}

    def _stylize(self, picture: Tensor, style: int) -> Tensor:
        """Return a picture ``(1, C, H, W)`` with the style, on the CPU."""
        targets = self._read_style(style, tuple(picture.shape[2:]))
        content = picture.expand(-1, 3, -1, -1).to(self._transfer.device)
        seed = int(torch.randint(2**62, ()))
        result = self._transfer.network.stylize(content, [StylePart(targets)], Tiler(), seed=seed)
        result = result.clamp(0, 1).cpu()
        return result if picture.shape[1] == 3 else result.mean(1, keepdim=True)

    def _read_style(self, style: int, size: tuple[int, ...]) -> StyleTargets:
        """Read a style at the size at which a picture of a size is compared with it."""
        key = (style, *size)
        if key not in self._targets:
            values = self._transfer.resizer.style_at(self._styles[style], size)
            while len(self._targets) >= _MOST_TARGETS:
                del self._targets[next(iter(self._targets))]
            self._targets[key] = self._transfer.network.read_styles([values], [1.0], Tiler())
        return self._targets[key]

    def _open(self, style: Any) -> Tensor:
        if isinstance(style, str | os.PathLike | Grid) or hasattr(style, "convert"):
            grid = fill_hidden_pixels(as_input(style, 2, "style", None), "RandStyle")
            pictures = grid.values.float().clamp(0, 1)
            if grid.ndim != 2 or pictures.shape[1] not in (1, 3):
                raise InputFileError(
                    "RandStyle",
                    expected="styles that are pictures",
                    got=f"{grid.ndim} axes and {pictures.shape[1]} channels",
                    remedy="give pictures of one or three channels",
                )
        else:
            values = as_tensor(style, self._name)
            pictures, _ = self._pictures(values)
        return pictures[:1].expand(-1, 3, -1, -1)

    def _pictures(self, values: Tensor) -> tuple[Tensor, tuple[float, float]]:
        """Return pictures ``(B, C, H, W)`` in [0, 1] on the CPU, and the range of their values."""
        plain = values.detach().as_subclass(Tensor).cpu()
        if plain.ndim == 4 and plain.shape[-1] == 1:
            plain = plain[..., 0].mT
        pictures = plain[(None,) * (4 - plain.ndim)] if 2 <= plain.ndim <= 4 else plain
        if pictures.ndim != 4 or pictures.shape[1] not in (1, 3) or min(plain.shape) < 1:
            raise ShapeError(
                "RandStyle",
                expected="(H, W), (C, H, W) or (B, C, H, W) of one or three channels",
                got=tuple(values.shape),
                remedy="give pictures with the channels before the pixels; ScanLook takes volumes, "
                "SignalLook recordings",
            )
        if min(pictures.shape[2:]) < MIN_EXTENT:
            raise ShapeError(
                "RandStyle",
                expected=f"at least {MIN_EXTENT} pixels along each side",
                got=tuple(values.shape),
                remedy="put it before the crop, or after the resizing",
            )
        low, high = self.value_range or (0, 255 if values.dtype == torch.uint8 else 1)
        pictures = (pictures.float() - low) / (high - low)
        least, most = (float(end) * (high - low) + low for end in pictures.aminmax())
        slack = 0.05 * (high - low)  # interpolation overshoots
        if not (least >= low - slack and most <= high + slack):  # NaN is refused too
            raise UsageError(
                "RandStyle",
                expected=f"values from {low:g} to {high:g}",
                got=f"{least:.4g} to {most:.4g}",
                remedy="give value_range, or scale the values before",
            )
        return pictures.clamp(0, 1), (low, high)
