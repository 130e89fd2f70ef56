"""The command inside a record, which may be made up: its words are checked before it runs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd.errors import InputFileError, UsageError
from convnd.options import flag_name, flags_of
from convnd.transfer.objective_options import split_backbones
from convnd_tasks.modalities import MODALITIES, options_class
from convnd_tasks.pipeline.recorded_inputs import LISTED_INPUTS, PLACE
from convnd_tasks.runtime.settings import JobSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["check_line", "parse_record"]

_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_COMMANDS = ("stylize", "stylize-volume", "stylize-video")
_INPUT_OPTIONS = (
    *("--style", "--init", "--mask", "--regions", "--region", "--style-regions", "--keyframe"),
)
"""Options whose value is an input; that of ``--init`` may be a named starting point instead."""


def parse_record(
    result: Path, record: Mapping[str, str]
) -> tuple[list[str], list[Mapping[str, str]]]:
    """Return the recorded command and the entries of its inputs.

    Args:
        result: the file that holds the record, for messages.
        record: the record.

    Raises:
        InputFileError: it is no record of a command that makes results, or one of another version.
    """
    from convnd_tasks.pipeline.provenance import FORMAT

    try:
        line = json.loads(record["convnd:command"])
        entries = json.loads(record["convnd:inputs"])
        valid = (
            isinstance(line, list)
            and all(isinstance(word, str) for word in line)
            and line[0] in _COMMANDS
            and isinstance(entries, list)
            and all(_is_entry(entry) for entry in entries)
        )
        if not valid:
            raise ValueError
    except (KeyError, TypeError, ValueError, IndexError, RecursionError) as error:
        raise InputFileError(
            "rerun",
            expected="a result that holds the record of a stylize command",
            got=f"{result} without one",
            remedy="it was made with --no-metadata or by another program, or was changed since",
        ) from error
    if record.get("convnd:record") != FORMAT:
        raise InputFileError(
            "rerun",
            expected=f"a record of version {FORMAT}",
            got=f"that of another version in {result}",
            remedy="type the command again",
        )
    return line, entries


def _is_entry(entry: object) -> bool:
    """Return whether an entry holds a name without a folder, and a valid sha256 or none."""
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        return False
    name, sha256 = entry["name"], entry.get("sha256")
    plain = name not in ("", ".", "..") and not {"/", "\\", "\0"} & set(name) and len(name) < 256
    return plain and (sha256 is None or bool(isinstance(sha256, str) and _SHA256.fullmatch(sha256)))


def check_line(result: Path, line: Sequence[str], inputs: int, *, trusted: bool) -> None:
    """Check that a recorded command holds inputs and options of the result, and nothing else.

    Args:
        result: the file that holds the record, for messages.
        line: the words of the command, with places for its inputs.
        inputs: number of inputs.
        trusted: whether networks may be named whose import runs code.

    Raises:
        InputFileError: a word is something else.
        UsageError: a network is none of the shipped ones.
    """
    allowed = _recorded_options()
    for word in line[1:]:
        option, equals, value = word.partition("=")
        place = PLACE.fullmatch(value if equals else word)
        if option in LISTED_INPUTS:
            parts, form = value.split(","), LISTED_INPUTS[option]
            fits = all(map(form.fullmatch, parts)) and all(
                int(number) < inputs for number in PLACE.findall(value)
            )
        elif place is not None:
            fits = int(place[1]) < inputs and (not equals or option in _INPUT_OPTIONS)
        else:
            fits = option in allowed and "{" not in value
            fits = fits and (option not in _INPUT_OPTIONS or _is_named_start(option, value))
        if not fits:
            raise InputFileError(
                "rerun",
                expected=f"inputs and options of {line[0]} in the record",
                got=f"{word[:80]!r} in {result}",
                remedy="the record is damaged or made up",
            )
        if option == "--backbone" and not trusted:
            for name in split_backbones(value):
                _check_backbone(name)


def _recorded_options() -> set[str]:
    """Return the options that a record may hold: none that writes or replaces files."""
    names = {"--dim", *_INPUT_OPTIONS}
    kinds: list[type[Any]] = [JobSettings, *map(options_class, MODALITIES)]
    for kind in kinds:
        for name, (_, flag) in flags_of(kind).items():
            if flag.recorded or name in ("tile", "memory"):
                names |= set((flag.names[0] if flag.names else flag_name(name)).split("/"))
    return names


def _is_named_start(option: str, value: str) -> bool:
    from convnd.transfer.options import INITS

    return option == "--init" and value in INITS


def _check_backbone(name: str) -> None:
    from convnd.backbones import BACKBONES

    if name not in BACKBONES:
        raise UsageError(
            "rerun",
            expected="one of the shipped networks",
            got=f"{name[:80]!r}, whose import runs code",
            remedy="allow it if you trust it (--trust-remote-code)",
        )
