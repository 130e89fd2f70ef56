"""Regions of a job: the labels of a map, and the style that each of them takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from convnd.errors import InputFileError, UsageError
from convnd.grid import Grid
from convnd.transfer.regions import StyleRegion, fit_share

if TYPE_CHECKING:
    from torch import Tensor

    from convnd_tasks.modalities.inputs import PreparedInputs, TransferInputs

__all__ = [
    "KEEP",
    "LabelMap",
    "Regions",
    "apply_regions",
    "check_style_part",
    "divide",
    "mask_share",
    "no_style_error",
    "parse_regions",
    "read_style_maps",
]

KEEP = "keep"
"""In place of a style: the region keeps the content."""

LabelMap = Callable[["Grid", Sequence[str], str], Mapping[str, "Tensor"]]
"""Splits a map into the shares of its labels, see `Modality.label_map`."""


class _Region(NamedTuple):
    label: str
    share: Tensor  # (1, 1 or C, *S)
    styles: Sequence[int]


def parse_regions(words: Sequence[str]) -> dict[str, str]:
    """Parse ``LABEL=STYLE`` words.

    Args:
        words: the words.

    Returns:
        The style of each label, or `KEEP`.

    Raises:
        UsageError: a word has another form, or a label has two styles.

    >>> parse_regions(["red=waves", "#00f=keep"])
    {'red': 'waves', '#00f': 'keep'}
    """
    styles: dict[str, str] = {}
    for word in words:
        label, equals, style = (part.strip() for part in word.partition("="))
        if not (label and equals and style) or {"{", "}"} & set(label):
            raise UsageError(
                "--region",
                expected="LABEL=STYLE,...",
                got=repr(word),
                remedy="for example red=painting.jpg,blue=waves,white=keep",
            )
        if label in styles:
            raise UsageError(
                "--region",
                expected="one style for each label",
                got=f"two for {label}",
                remedy="leave one out",
            )
        styles[label] = style
    return styles


class Regions:
    """The regions of one transfer at the size of its content.

    Args:
        inputs: inputs with maps of regions.
        label_map: splits a map into labels.

    Attributes:
        parts: the regions that have styles.
        messages: lines for users about the regions.

    Raises:
        InputFileError: a label has a style and is not in the map, or no region has a style.
    """

    def __init__(self, inputs: TransferInputs, label_map: LabelMap) -> None:
        maps, content = inputs.regions, inputs.content
        if maps is None or content is None:
            raise UsageError(
                "--regions", expected="a content to divide", got="none", remedy="leave it out"
            )
        self._maps, self._inputs = maps, inputs
        labels = label_map(maps.grid, [*maps.styles], maps.name)
        missing = [label for label in maps.styles if label not in labels]
        if missing:
            raise InputFileError(
                f"--region {missing[0]}",
                expected=f"a label of {maps.name}: {', '.join([*labels][:12])}",
                got=repr(missing[0]),
                remedy="name one of these",
            )
        self._labels = {label: fit_share(share, content.shape) for label, share in labels.items()}
        self.parts = [
            _Region(label, share, styles)
            for label, share in self._labels.items()
            if (styles := self._styles_of(label))
        ]
        if not self.parts:
            raise no_style_error(maps.name)
        self._style_labels = read_style_maps(inputs, [*self._labels], label_map)
        for part in self.parts:
            check_style_part(part.label, part.styles, self._style_labels)
        self.messages = self._describe()

    def mask(self) -> Grid | None:
        """Return the mask of the change: 0 where a region keeps the content, and --mask."""
        content, mask = self._inputs.content, self._inputs.mask
        assert content is not None
        styled: Tensor = sum(part.share for part in self.parts)  # type: ignore[assignment]
        styled = styled.clamp(0, 1) if mask is None else styled.clamp(0, 1) * mask_share(mask)
        # Shares add up to 1 up to rounding, and values inside have to be the result's to the bit.
        styled = styled.where(styled < 1 - 1e-5, 1.0)
        return mask if bool((styled == 1).all()) else content.with_values(styled)

    def style_part(self, label: str, number: int) -> Tensor | None:
        """Return the share of a style that has a label; None is the whole style.

        Args:
            label: the label.
            number: index of the style.
        """
        return self._style_labels[number].get(label) if self._style_labels else None

    def _styles_of(self, label: str) -> Sequence[int]:
        if label not in self._maps.styles:
            return self._maps.shared
        number = self._maps.styles[label]
        return () if number is None else (number,)

    def _describe(self) -> list[str]:
        grid, name, content = self._maps.grid, self._maps.name, self._inputs.content
        assert content is not None
        messages = []
        if tuple(grid.shape) != tuple(content.shape):
            sizes = ["x".join(map(str, reversed(one.shape))) for one in (grid, content)]
            messages.append(f"{name}: resized from {sizes[0]} to {sizes[1]}")
        for label, share in self._labels.items():
            styles = self._styles_of(label)
            names = " and ".join(self._inputs.style_name(number) for number in styles)
            text = f"takes {names}" if styles else "keeps the content"
            if not styles and label not in self._maps.styles:
                text += ", since it has no style"
            messages.append(f"region {label} ({100 * share.mean().item():.3g} %) {text}")
        return messages


def no_style_error(name: str) -> InputFileError:
    """Make the error of a map none of whose regions has a style."""
    return InputFileError(
        f"--regions {name}",
        expected="a region with a style",
        got="none, so that nothing would change",
        remedy="name one, as in --region LABEL=STYLE; 0 is no label unless it is named",
    )


def read_style_maps(
    inputs: TransferInputs, names: Sequence[str], label_map: LabelMap
) -> Sequence[Mapping[str, Tensor]]:
    """Return the share of each label in each style, at the style's size; empty without such maps.

    Args:
        inputs: inputs with maps of regions.
        names: the labels.
        label_map: splits a map into labels.

    Raises:
        UsageError: there are more or fewer maps than styles.
    """
    assert inputs.regions is not None
    maps, styles = inputs.regions.style_maps, inputs.styles
    if not maps:
        return ()
    if len(maps) != len(styles):
        raise UsageError(
            "--style-regions",
            expected=f"one map for each of {len(styles)} styles",
            got=len(maps),
            remedy="give as many",
        )
    labels = []
    for number, (grid, style) in enumerate(zip(maps, styles, strict=True), 1):
        shares = label_map(grid, names, f"map of style {number}")
        extent = style.shape if isinstance(style, Grid) else style.info.size
        labels.append({label: fit_share(share, extent) for label, share in shares.items()})
    return labels


def check_style_part(
    label: str, styles: Sequence[int], style_labels: Sequence[Mapping[str, Tensor]]
) -> None:
    """Check that the map of some style of a region has the region's label.

    Args:
        label: the label.
        styles: indices of the styles of the region.
        style_labels: result of `read_style_maps`.
    """
    if style_labels and not any(label in style_labels[number] for number in styles):
        raise InputFileError(
            f"--style-regions, region {label}",
            expected="this label in the map of its style",
            got=", ".join([*style_labels[styles[0]]][:12]) or "none",
            remedy="paint it there, or leave --style-regions out",
        )


def divide(
    inputs: TransferInputs,
    label_map: LabelMap,
    soften: Callable[[Grid], Grid] = lambda mask: mask,
) -> tuple[TransferInputs, Regions | None]:
    """Return the regions of inputs, and the inputs with a mask that keeps the others.

    Args:
        inputs: the inputs.
        label_map: splits a map into labels.
        soften: makes the edges of the mask fit the kind of data.

    Raises:
        InputFileError: see `Regions`.
    """
    if inputs.regions is None:
        return inputs, None
    regions = Regions(inputs, label_map)
    mask = regions.mask()
    if mask is None or mask is inputs.mask:
        return inputs, regions
    names = inputs.names if inputs.mask is not None else [*inputs.names, "mask of the regions"]
    return dataclasses.replace(inputs, mask=soften(mask), names=names), regions


def apply_regions(
    prepared: PreparedInputs, inputs: TransferInputs, regions: Regions | None
) -> PreparedInputs:
    """Add mask, regions and transparency to the encoded inputs of a transfer.

    Args:
        prepared: the encoded inputs.
        inputs: the inputs, with `Regions.mask` as their mask.
        regions: the regions; None is one of all positions.

    Raises:
        UsageError: a region is transparent or masked everywhere.
    """
    mask = None
    if inputs.mask is not None:
        share = mask_share(inputs.mask, inputs.template.values.shape[1])
        mask = prepared.encode_share(share)
    opacity = prepared.opacity
    style_opacities = prepared.style_opacities or (None,) * len(inputs.styles)
    if regions is None:
        if mask is None and all(part is None for part in (opacity, *style_opacities)):
            return prepared
        numbers = tuple(range(len(inputs.styles)))
        visible = _product(mask, opacity)
        everywhere = StyleRegion(visible, numbers, tuple(style_opacities), "visible part")
        return dataclasses.replace(prepared, mask=mask, regions=(everywhere,))
    parts = []
    for label, share, styles in regions.parts:
        style_shares = [
            _product(
                prepared.encode_style_share(number, regions.style_part(label, number)),
                style_opacities[number],
            )
            for number in styles
        ]
        visible = _product(prepared.encode_share(share), opacity)
        parts.append(StyleRegion(visible, tuple(styles), tuple(style_shares), f"region {label}"))
    messages = (*prepared.messages, *regions.messages)
    return dataclasses.replace(prepared, mask=mask, regions=tuple(parts), messages=messages)


def _product(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    if first is None or second is None:
        return second if first is None else first
    return first * second


def mask_share(mask: Grid, channels: int = 1) -> Tensor:
    """Return a mask as shares in ``[0, 1]``.

    Args:
        mask: the mask ``(1, C, *S)``; colours, and other numbers of channels, are averaged.
        channels: channels that a mask may have one share for each of.
    """
    import torch

    share = torch.nan_to_num(mask.values).clamp(0, 1)
    if share.shape[1] not in (1, channels) or mask.channels == ("R", "G", "B"):
        share = share.mean(1, keepdim=True)
    return share
