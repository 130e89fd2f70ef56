"""HTML of a `convnd.Grid` for notebooks: a small picture or curves, and its properties."""

from __future__ import annotations

import base64
import html
import io
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

__all__ = ["grid_html"]

_SIDE = 256  # pixels
_CURVES = 12  # channels of a signal that are drawn


def grid_html(
    values: Tensor,
    *,
    axes: Sequence[str],
    spacing: Sequence[float],
    units: Sequence[str],
    channels: Sequence[str],
) -> str:
    """Return the HTML of a grid, without anything of its header, which may name a patient.

    Pictures are shown in their colours, other fields in grey from the 1st to the 99th percentile;
    of more than two axes the slice in the middle of all but the last two.
    """
    figure = _curves(values) if len(axes) == 1 else _picture(values, channels)
    finite = values[values.isfinite()]
    span = (
        f"{float(finite.min()):.4g} … {float(finite.max()):.4g}" if finite.numel() else "no number"
    )
    missing = values.numel() - finite.numel()
    rows = {
        "shape": " × ".join(map(str, values.shape[2:])),
        "axes": ", ".join(axes),
        "spacing": ", ".join(
            f"{step:.6g} {unit}" for step, unit in zip(spacing, units, strict=True)
        ),
        "channels": ", ".join(channels),
        "values": span + (f", {missing} missing" if missing else ""),
        "type": f"{str(values.dtype).removeprefix('torch.')}, {values.device}",
    }
    cells = "".join(
        f"<tr><th style='text-align:left'>{name}</th>"
        f"<td style='text-align:left'>{html.escape(text)}</td></tr>"
        for name, text in rows.items()
    )
    return f"<div>{figure}<table>{cells}</table></div>"


def _picture(values: Tensor, channels: Sequence[str]) -> str:
    """The field, or its middle slice, as an ``img`` element."""
    from PIL import Image

    is_color = values.ndim == 4 and channels[:3] == ("R", "G", "B")
    values = values[0].detach().cpu().float()
    while values.ndim > 3:
        values = values[:, values.shape[1] // 2]
    values = values[:3] if is_color else _scaled(values[:1])
    step = math.ceil(max(values.shape[1:]) / _SIDE)
    values = values[:, ::step, ::step].nan_to_num(0.5).clamp(0, 1)
    codes = (255 * values).round().byte().movedim(0, -1)
    image = Image.fromarray((codes if is_color else codes[..., 0]).numpy())
    file = io.BytesIO()
    image.save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    return f"<img alt='the grid' src='data:image/png;base64,{data}'/>"


def _scaled(values: Tensor) -> Tensor:
    """Values from the 1st to the 99th percentile as 0 to 1."""
    finite = values[values.isfinite()]
    if not finite.numel():
        return values
    finite = finite[:: max(1, finite.numel() // 2**20)].sort().values
    low, high = finite[len(finite) // 100], finite[-1 - len(finite) // 100]
    return (values - low) / (high - low if high > low else 1)


def _curves(values: Tensor) -> str:
    """A curve for each channel, as an ``svg`` element; the extremes of every column stay."""
    channels = values[0, :_CURVES].detach().cpu().double()
    high = _SIDE // 4
    lines = []
    for number, channel in enumerate(channels):
        columns = channel.tensor_split(min(2 * _SIDE, len(channel)))
        finite = channel[channel.isfinite()]
        low, span = (finite.min(), finite.max() - finite.min()) if finite.numel() else (0.0, 0.0)
        points = []
        for place, column in enumerate(columns):
            column = column[column.isfinite()]
            for value in (column.min(), column.max()) if column.numel() else ():
                part = float((value - low) / span) if span > 0 else 0.5
                points.append(f"{place},{(number + 1 - 0.9 * part) * high:.1f}")
        lines.append(f"<polyline fill='none' stroke='currentColor' points='{' '.join(points)}'/>")
    size = f"width='{2 * _SIDE}' height='{len(channels) * high}'"
    return f"<svg xmlns='http://www.w3.org/2000/svg' {size}>{''.join(lines)}</svg>"
