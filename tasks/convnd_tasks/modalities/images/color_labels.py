"""Maps of regions painted in colours."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from convnd.errors import UsageError
from convnd_tasks.modalities.label_map import number_labels

if TYPE_CHECKING:
    from torch import Tensor

    from convnd.grid import Grid

__all__ = ["color_labels", "parse_color"]

_LEAST_AREA = 0.005  # share of the map that makes a colour a label of its own
_SAME = 48  # largest distance of one colour's pixels, of 255 for each channel
_STEPS = 16  # codes that are counted together
_MOST_COLORS = 64


def color_labels(grid: Grid, labels: Collection[str], name: str) -> Mapping[str, Tensor]:
    """Split a painted map into one share for each colour.

    A pixel between two colours of the map, as an editor draws along smooth edges, belongs to both
    in part: its share follows from its projection onto the line between the colours.

    Args:
        grid: the map ``(1, 3, H, W)`` in ``[0, 1]``, or numbers of labels ``(1, 1, H, W)``.
        labels: names or codes of colours as they were typed; if all are whole numbers, they are
            codes of a grey map.
        name: name of the file, for messages.

    Returns:
        The share of each label in the map, ``(1, 1, H, W)``. Colours without a
        label that cover at least 0.5 % of the map are labels too, named by their code.

    Raises:
        UsageError: a label is no colour.
        InputFileError: a map of numbers has too many of them.

    >>> import torch
    >>> from convnd.grid import Grid
    >>> red, blue = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 1.0])
    >>> row = torch.stack([*[red] * 300, (red + blue) / 2, *[blue] * 300], 1)[None, :, None]
    >>> shares = color_labels(Grid(values=row), ["red", "blue"], "map.png")
    >>> [round(share, 2) for share in shares["red"].flatten().tolist()[299:302]]
    [1.0, 0.5, 0.0]
    """
    import torch

    if grid.values.shape[1] == 1:  # numbers in memory
        return number_labels(grid, labels, name)
    if labels and all(label.isascii() and label.isdecimal() for label in labels):
        codes = grid.with_values((grid.values.mean(1, keepdim=True) * 255).round())
        return number_labels(codes, labels, name)
    pixels = (grid.values[0].flatten(1).T * 255).contiguous()  # (N, 3)
    palette = {label: torch.tensor(parse_color(label)).to(pixels) for label in labels}
    palette |= _frequent_colors(pixels, list(palette.values()))
    shares = _shares(pixels, torch.stack(list(palette.values())))
    present = {
        label: share.view(1, 1, *grid.shape)
        for label, share in zip(palette, shares.T, strict=True)
        if bool((share > 0).any())
    }
    # A label that no pixel has as its nearest colour is not in the map.
    return {label: share for label, share in present.items() if bool((share > 0.5).any())}


def parse_color(text: str) -> tuple[int, int, int]:
    """Parse a colour: a name, ``#rrggbb``, or a grey level.

    Raises:
        UsageError: it is no colour.

    >>> parse_color("red"), parse_color("#00f"), parse_color("128")
    ((255, 0, 0), (0, 0, 255), (128, 128, 128))
    """
    from PIL import ImageColor

    if text.isascii() and text.isdecimal() and int(text) < 256:
        return (int(text),) * 3
    try:
        red, green, blue, *_ = ImageColor.getrgb(text)
    except ValueError:
        raise UsageError(
            f"--region {text}",
            expected="a colour of the map",
            got=repr(text),
            remedy="for example red, #ff8000, or the grey level 128",
        ) from None
    return red, green, blue


def _frequent_colors(pixels: Tensor, known: Sequence[Tensor]) -> dict[str, Tensor]:
    """Return the colours of large areas that are none of the known ones, by their codes."""
    import torch

    cells, counts = torch.unique((pixels / _STEPS).floor(), dim=0, return_counts=True)
    order = counts.argsort(descending=True)[:_MOST_COLORS].tolist()
    colors = list(known)
    found: dict[str, Tensor] = {}
    for number in order:
        if counts[number] < _LEAST_AREA * len(pixels):
            break
        inside = ((pixels / _STEPS).floor() == cells[number]).all(1)
        color = pixels[inside].median(0).values
        if all((color - other).norm() > _SAME for other in colors):
            colors.append(color)
            found[_color_name(color)] = color
    return found


def _color_name(color: Tensor) -> str:
    """Return the code of a colour, or its name if it has one."""
    from PIL import ImageColor

    codes = tuple(round(code) for code in color.tolist())
    names = (name for name in ImageColor.colormap if ImageColor.getrgb(name) == codes)
    return next(names, "#{:02x}{:02x}{:02x}".format(*codes))


def _shares(pixels: Tensor, palette: Tensor) -> Tensor:
    """Divide each pixel among the two colours that it lies between.

    Args:
        pixels: ``(N, 3)``.
        palette: ``(K, 3)``.

    Returns:
        ``(N, K)``, rows add up to 1.
    """
    import torch

    distances = torch.cdist(pixels, palette)
    nearest = distances.argmin(1)
    shares = torch.zeros_like(distances)
    shares.scatter_(1, nearest[:, None], 1.0)
    if len(palette) == 1:
        return shares
    mixed = distances.gather(1, nearest[:, None])[:, 0] > _SAME / 4
    if not bool(mixed.any()):
        return shares
    points, first = pixels[mixed], palette[nearest[mixed]]  # (M, 3)
    lines = palette[None] - first[:, None]  # (M, K, 3), from the nearest colour to each other one
    squares = lines.square().sum(2).clamp_min(1e-6)
    along = ((points - first)[:, None] * lines).sum(2).div(squares).clamp(0, 1)
    misses = (first[:, None] + along[..., None] * lines - points[:, None]).norm(dim=2)
    misses.scatter_(1, nearest[mixed][:, None], torch.inf)
    second = misses.argmin(1, keepdim=True)
    part = along.gather(1, second)
    # Far from any line, as in a photograph, the nearest colour has all of the pixel.
    part = torch.where(misses.gather(1, second) < _SAME, part, 0.0)
    rows = torch.zeros_like(along).scatter_(1, second, part)
    shares[mixed] = rows.scatter_add_(1, nearest[mixed][:, None], 1 - part)
    return shares
