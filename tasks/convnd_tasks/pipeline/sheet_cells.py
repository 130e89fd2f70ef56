"""The cells of a sheet: which styles and values of options they have, and their labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_origin

from convnd.errors import UsageError
from convnd.options import flag_name, flags_of
from convnd_tasks.modalities import options_class
from convnd_tasks.modalities.style_network import is_network

if TYPE_CHECKING:
    from convnd_tasks.pipeline.job_spec import JobSpec

__all__ = ["Cell", "parse_variations", "short_name"]

DEFAULT_VARIATION = "strength=0.4,0.7,1"
"""Options and values that vary where nothing else was asked for."""

_NAME_LENGTH = 24
"""Letters of a style's name in a label."""


@dataclass(frozen=True)
class Cell:
    """One result of a sheet.

    Args:
        number: its number, from 1.
        style: path or sample name of its style.
        values: values of the options that vary, by field.
    """

    number: int
    style: str
    values: Mapping[str, Any]

    @property
    def label(self) -> str:
        """The text above the cell.

        >>> Cell(7, "art/waves.jpg", {"style_scale": 0.5}).label
        '7  waves, style-scale 0.5'
        """
        words = [f"{flag_name(name)[2:]} {_text(value)}" for name, value in self.values.items()]
        return f"{self.number}  {', '.join([short_name(self.style), *words])}"


def parse_variations(text: str, spec: JobSpec) -> dict[str, list[Any]]:
    """Parse the values of options that vary, ``"strength=0.5,1 style-scale=1,2"``.

    Args:
        text: options with spaces between; empty varies nothing.
        spec: the job, whose kind of data has the options.

    Returns:
        Values by field.

    Raises:
        UsageError: there is no such option, or a value does not fit it.
    """
    kinds = flags_of(options_class(spec.modality))
    variations: dict[str, list[Any]] = {}
    for word in text.split():
        option, equals, values = word.partition("=")
        name = option.removeprefix("--").replace("-", "_")
        kind = next(
            (
                part
                for part in (int, float, str)
                if name in kinds and part in _types(kinds[name][0])
            ),
            None,
        )
        items = [item for item in values.split(",") if item]
        if kind is None or not equals or not items or name in variations:
            raise UsageError(
                "--vary",
                expected="options with one value, as strength=0.5,1 or colors=style,match",
                got=repr(word),
                remedy="separate values by commas, and options by spaces",
            )
        try:
            variations[name] = [kind(item) for item in items]
        except ValueError:
            raise UsageError(
                "--vary",
                expected=f"numbers for {option}",
                got=repr(values),
                remedy=f"for example {DEFAULT_VARIATION}",
            ) from None
    return variations


def short_name(name: str) -> str:
    """Return the name of a file or sample as labels show it.

    >>> short_name("art/starry_night.jpg")
    'starry_night'
    """
    stem = Path(name).name
    stem = stem.removesuffix(".safetensors") if is_network(stem) else stem.partition(".")[0] or stem
    return stem if len(stem) <= _NAME_LENGTH else f"{stem[: _NAME_LENGTH - 1]}…"


def _types(annotation: Any) -> tuple[Any, ...]:
    """The types of one value; none for options of several values."""
    return () if get_origin(annotation) is tuple else (annotation, *get_args(annotation))


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
