"""Gaussian blur along any number of axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function_unary

from convnd.errors import ShapeError, UsageError
from convnd.nn._native import NO_NODE, check_batched, trace_as_leaf
from convnd.nn._rounding import in_floating_point, to_type
from convnd.nn._scripting import is_scripting, script_blur
from convnd.nn.pad import check_mode, pad_nd
from convnd.shapes import ntuple

__all__ = ["GaussianBlurNd", "gaussian_blur_nd"]


def gaussian_blur_nd(
    x: Tensor,
    sigma: float | Sequence[float],
    *,
    padding_mode: str = "replicate",
    truncate: float = 4.0,
) -> Tensor:
    r"""Convolve every channel with a Gaussian.

    .. math:: y_i = \frac{\sum_{|k| \le r} x_{i+k}\, e^{-k^2 / 2\sigma^2}}
              {\sum_{|k| \le r} e^{-k^2 / 2\sigma^2}}

    along one axis after the other. With ``padding_mode="replicate"`` and the default ``truncate``,
    it is ``scipy.ndimage.gaussian_filter`` with ``mode="nearest"``.

    Args:
        x: ``(B, C, *S)``, any number of spatial axes.
        sigma: standard deviation in samples, one for all axes or one for each; 0 leaves an axis as
            it is.
        padding_mode: values beyond the border, one of `PADDING_MODES`.
        truncate: radius of the kernel in standard deviations, rounded to whole samples.

    Returns:
        ``(B, C, *S)``, of the type of ``x``, whole numbers rounded; ``x`` itself if ``sigma`` is 0.

    Raises:
        UnknownNameError: no such padding mode.
        UsageError: ``sigma`` or ``truncate`` is negative or not finite.
        ShapeError: ``x`` has no spatial axis, or there is another number of deviations than axes.

    >>> step = torch.tensor([[[0.0, 0.0, 0.0, 1.0, 1.0, 1.0]]])
    >>> [round(value, 3) for value in gaussian_blur_nd(step, 0.5).flatten().tolist()]
    [0.0, 0.0, 0.107, 0.893, 1.0, 1.0]
    """
    if has_torch_function_unary(x):
        result: Tensor = handle_torch_function(
            gaussian_blur_nd, (x,), x, sigma, padding_mode=padding_mode, truncate=truncate
        )
        return result
    check_mode(padding_mode)
    deviations = _deviations(sigma, x.ndim - 2, truncate)
    radii = [int(truncate * deviation + 0.5) for deviation in deviations]
    if not any(radii):
        return x
    y = in_floating_point(x)
    for axis, (deviation, radius) in enumerate(zip(deviations, radii, strict=True), 2):
        if radius:
            y = _blur_axis(y, axis, deviation, radius, padding_mode)
    return to_type(y, x.dtype)


def _deviations(sigma: float | Sequence[float], ndim: int, truncate: float) -> list[float]:
    """Check the deviations, and return one for each axis."""
    deviations = [sigma] * max(1, ndim) if isinstance(sigma, (int, float)) else [*sigma]
    for name, number in (*(("sigma", one) for one in deviations), ("truncate", truncate)):
        if not 0 <= number < math.inf:
            raise UsageError(
                f"gaussian_blur_nd: {name}",
                expected="a finite number of at least 0",
                got=str(number),
                remedy="0 changes nothing",
            )
    if ndim < 1 or len(deviations) != ndim:
        raise ShapeError(
            "gaussian_blur_nd",
            expected=f"an input (B, C, *S) with {len(deviations)} spatial axes",
            got=f"one with {ndim}",
            remedy="give one standard deviation, or one for each axis",
        )
    return [float(one) for one in deviations]


def _blur_axis(x: Tensor, axis: int, deviation: float, radius: int, padding_mode: str) -> Tensor:
    """Blur along one axis."""
    offsets = torch.arange(-radius, radius + 1, device=x.device, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (offsets / deviation) ** 2)
    kernel = (kernel / kernel.sum()).to(x.dtype).view(1, 1, -1)
    lines = x.movedim(axis, -1)
    flat = lines.reshape(-1, 1, lines.shape[-1])
    if padding_mode == "zeros":
        filtered = F.conv1d(flat, kernel, padding=radius)
    else:
        filtered = F.conv1d(pad_nd(flat, radius, padding_mode), kernel)
    return filtered.view(lines.shape).movedim(-1, axis)


class GaussianBlurNd(nn.Module):
    """`gaussian_blur_nd` as a module. It has no weights.

    Args:
        sigma: standard deviation in samples, one for all axes or one for each; 0 leaves an axis as
            it is.
        padding_mode: values beyond the border, one of `PADDING_MODES`.
        truncate: radius of the kernel in standard deviations, rounded to whole samples.
        spatial_dims: number of spatial axes.

    Raises:
        UnknownNameError: no such padding mode.
        UsageError: ``sigma`` or ``truncate`` is negative or not finite.
        ShapeError: another number of deviations than axes; in `forward`, the input has another
            rank.

    >>> GaussianBlurNd(1.5, spatial_dims=4)(torch.ones(1, 2, 3, 4, 5, 6)).mean().round().item()
    1.0
    """

    def __init__(
        self,
        sigma: float | Sequence[float],
        *,
        padding_mode: str = "replicate",
        truncate: float = 4.0,
        spatial_dims: int,
    ) -> None:
        super().__init__()
        check_mode(padding_mode)
        self.spatial_dims = ntuple(spatial_dims, 1, "spatial_dims")[0]
        _deviations(sigma, self.spatial_dims, truncate)  # checks the arguments
        self.sigma = tuple(sigma) if isinstance(sigma, Sequence) else sigma
        self.padding_mode = padding_mode
        self.truncate = float(truncate)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, *S)`` to ``(B, C, *S)``."""
        if is_scripting():
            y = script_blur(x, self._script_sigma, self.padding_mode, self.truncate)
        else:
            y = trace_as_leaf(self, x) if has_torch_function_unary(x) else NO_NODE
            if y is None:
                if not has_torch_function_unary(x):
                    check_batched("GaussianBlurNd", x, self.spatial_dims)
                y = gaussian_blur_nd(
                    x, self.sigma, padding_mode=self.padding_mode, truncate=self.truncate
                )
        return y

    def __prepare_scriptable__(self) -> GaussianBlurNd:
        """Store one deviation for each axis; called by ``torch.jit.script``."""
        self._script_sigma = _deviations(self.sigma, self.spatial_dims, self.truncate)
        return self

    def extra_repr(self) -> str:
        """The arguments, for ``print``."""
        options = f"padding_mode={self.padding_mode!r}, truncate={self.truncate}"
        return f"sigma={self.sigma}, {options}, spatial_dims={self.spatial_dims}"
