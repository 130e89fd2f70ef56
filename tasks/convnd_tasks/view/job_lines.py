"""What a page asks for, as the words of a command."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

from convnd_tasks import samples
from convnd_tasks.pipeline.folders import ARRAY_SUFFIXES
from convnd_tasks.view.guard import RequestError
from convnd_tasks.view.kinds import DIMS, UNITS, kind_of_file
from convnd_tasks.view.options import option_words
from convnd_tasks.view.units import COMMAND

__all__ = ["JobLine", "read_job_line"]

_MAPS = ("mask", "regions", "init")
_COMMANDS = {"volumes": "stylize-volume", "videos": "stylize-video"}
"""Commands for one kind of data; others take its number of axes as an option."""


class JobLine(NamedTuple):
    """The command of a job.

    Args:
        words: its words, with places for its inputs.
        inputs: names of files in the folder, or of samples.
        kind: the kind of data, one of `convnd_tasks.view.kinds`.
    """

    words: list[str]
    inputs: list[str]
    kind: str


class _Inputs:
    """Collects inputs, and returns their places.

    Args:
        check: refuses a name that is neither a file of the folder nor a sample.
    """

    def __init__(self, check: Callable[[str], str]) -> None:
        self.names: list[str] = []
        self._check = check

    def place(self, name: object) -> str:
        """Add an input, and return its place."""
        self._check(str(name))
        self.names.append(str(name))
        return f"{{{len(self.names) - 1}}}"


def read_job_line(typed: Mapping[str, Any], check: Callable[[str], str]) -> JobLine:
    """Return the command that a page describes.

    Args:
        typed: the request of the page: content, styles, options, maps and regions.
        check: refuses a name that is neither a file of the folder nor a sample, and returns
            its path.

    Raises:
        RequestError: a part is missing, or no such thing.
    """
    content, styles = typed.get("content"), typed.get("styles", [])
    options, searches = typed.get("options", {}), typed.get("kind") == UNITS
    is_list = isinstance(styles, list) and all(isinstance(name, str) for name in styles)
    has_content = bool(styles) if searches else isinstance(content, str)
    if not (has_content and is_list and isinstance(options, dict)):
        raise RequestError(HTTPStatus.BAD_REQUEST, "a content, styles and options are needed")
    inputs = _Inputs(check)
    if searches:
        words = [COMMAND, *map(inputs.place, styles), "--dim=2"]
        return JobLine(words + option_words(options), inputs.names, UNITS)
    content = str(content)
    kind = _kind(typed.get("kind"), content, check(content))
    words = [_COMMANDS.get(kind, "stylize"), inputs.place(content)]
    words += [f"--style={inputs.place(name)}" for name in styles]
    words += [f"--dim={DIMS[kind]}"] if kind not in _COMMANDS else []
    words += [f"--{role}={inputs.place(typed[role])}" for role in _MAPS if _is_text(typed, role)]
    words += _region_words(typed.get("region"), inputs)
    words += _keyframe_words(typed.get("keyframe"), inputs)
    return JobLine(words + option_words(options), inputs.names, kind)


def _is_text(typed: Mapping[str, Any], name: str) -> bool:
    return isinstance(typed.get(name), str)


def _kind(asked: object, content: str, path: str) -> str:
    """Return the kind of data; of samples, which have several ranks, the page says it.

    The page says it of arrays as well, which may be signals.

    Raises:
        RequestError: the page makes no jobs of it.
    """
    if samples.is_sample(content):
        return asked if isinstance(asked, str) and asked in DIMS else "pictures"
    is_array = path.lower().endswith(ARRAY_SUFFIXES)
    kind = "signals" if is_array and asked == "signals" else kind_of_file(path)
    if not kind:
        text = f"{content} is neither a picture, a signal, a scan nor a video"
        raise RequestError(HTTPStatus.BAD_REQUEST, text)
    return kind


def _region_words(regions: object, inputs: _Inputs) -> list[str]:
    if not isinstance(regions, dict):
        return []
    return [
        f"--region={label}={'keep' if style == 'keep' else inputs.place(style)}"
        for label, style in regions.items()
    ]


def _keyframe_words(frames: object, inputs: _Inputs) -> list[str]:
    if not isinstance(frames, dict):
        return []
    return [f"--keyframe={number}={inputs.place(name)}" for number, name in frames.items()]
