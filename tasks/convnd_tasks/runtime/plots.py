"""Figures for reports and files, drawn by matplotlib without a screen.

matplotlib is imported for the first figure. Its global state (``pyplot``) is not used, so figures
and settings of the caller stay as they are.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from convnd.errors import printable
from convnd.io.silence import silence_libraries

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

__all__ = ["COLORS", "encode", "encode_pixels", "join_pictures", "loss_curve", "new_figure"]

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555")
"""Colors for readers with color-vision deficiencies as well (Okabe and Ito, 2008)."""

# Characters of a text in a figure. matplotlib measures a text many times while it lays out.
_LONGEST_LINE, _LONGEST_TEXT = 300, 5000
_SETTINGS: Any = {  # matplotlib's stubs list every key as a literal
    "axes.prop_cycle": f"cycler('color', {list(COLORS)})",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "svg.hashsalt": "convnd",  # the same figure gives the same bytes
}


def new_figure(width: float, height: float, *, rows: int = 1, columns: int = 1) -> Any:
    r"""Create a figure in the project's style.

    Args:
        width: width in inches; a report shows 96 pixels per inch.
        height: height in inches.
        rows: number of rows of axes.
        columns: number of columns of axes.

    Returns:
        The figure, and an array ``(rows, columns)`` of axes.

    >>> figure, axes = new_figure(4, 2, columns=2)
    >>> _ = axes[0, 0].plot([1, 2, 3])
    >>> encode(figure).startswith(b"\x89PNG")
    True
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=(width, height), dpi=96, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(rows, columns, squeeze=False)
    return figure, axes


def encode(figure: Figure, kind: str = "png", *, dpi: float = 144) -> bytes:
    """Encode a figure as a file; equal figures give equal bytes.

    Texts are drawn literally: a dollar sign in the name of a lead begins no formula, and a
    character that the font lacks is a box without a warning.

    Args:
        figure: the figure.
        kind: ``"png"`` or ``"svg"``.
        dpi: pixels per inch of a PNG.
    """
    import matplotlib as mpl

    buffer = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with mpl.rc_context(_SETTINGS), silence_libraries():
        _take_texts_literally(figure)
        figure.savefig(buffer, format=kind, dpi=dpi, facecolor="white", metadata=metadata)
    return buffer.getvalue()


def _take_texts_literally(figure: Figure) -> None:
    from matplotlib.axis import Axis
    from matplotlib.text import Text

    numbers = set()  # at ticks; matplotlib writes some as formulas, for example powers of ten
    for axis in figure.findobj(Axis):
        for tick in (*axis.majorTicks, *axis.minorTicks):
            numbers |= {tick.label1, tick.label2}
    for text in figure.findobj(Text):
        if text not in numbers:
            text.set_parse_math(False)
            lines = text.get_text()[:_LONGEST_TEXT].split("\n")
            text.set_text("\n".join(_cut(printable(line)) for line in lines))


def _cut(line: str) -> str:
    return line if len(line) <= _LONGEST_LINE else f"{line[: _LONGEST_LINE - 1]}…"


def encode_pixels(pixels: NDArray[Any]) -> bytes:
    """Encode pixels as a PNG file.

    Args:
        pixels: ``(H, W)`` or ``(H, W, 3)``, 8-bit.
    """
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def join_pictures(pictures: Sequence[NDArray[Any]], *, axis: int, gap: int) -> NDArray[Any]:
    """Join pictures with a white gap between them.

    Args:
        pictures: ``(H, W, 3)`` each, 8-bit, of equal extent along the other axis.
        axis: 0 joins them from top to bottom, 1 from left to right.
        gap: width of the gap in pixels.
    """
    import numpy as np

    shape = list(pictures[0].shape)
    shape[axis] = gap
    parts = [pictures[0]]
    for picture in pictures[1:]:
        parts += [np.full(shape, 255, picture.dtype), picture]
    return np.concatenate(parts, axis=axis)


def loss_curve(losses: Mapping[str, Sequence[float]]) -> bytes:
    """Plot losses over steps; the scale is logarithmic if all values are positive.

    Args:
        losses: values of each curve at every step, by name.

    Returns:
        An SVG file.
    """
    figure, axes = new_figure(7, 3)
    axis = axes[0, 0]
    for name, values in losses.items():
        axis.plot(range(len(values)), values, label=name)
    if all(value > 0 for values in losses.values() for value in values):
        axis.set_yscale("log")
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.set_xlabel("step")
    axis.set_ylabel("loss")
    axis.grid(axis="y", alpha=0.25, linewidth=0.5)
    if len(losses) > 1:
        axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))  # outside of the curves
    return encode(figure, "svg")
