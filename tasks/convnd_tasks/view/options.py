"""Options that a page sends, as words of the command line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from convnd_tasks.runtime.changes import Change
from convnd_tasks.view.guard import RequestError

__all__ = ["changed_options", "option_words"]

_OPTION = re.compile(r"[a-z][a-z0-9-]{0,40}", re.ASCII)


def option_words(options: Mapping[str, Any]) -> list[str]:
    """Return the words of the command line for options of a page.

    Their values are checked where the command runs, see `recorded_command.check_line`.

    Args:
        options: texts, numbers or truth values by the option's name without ``--``.

    Raises:
        RequestError: a name or a value is none of these.

    >>> option_words({"strength": 0.5, "instant": True, "seamless": False})
    ['--strength=0.5', '--instant']
    """
    words = []
    for name, value in options.items():
        is_plain = isinstance(value, str | int | float) and len(str(value)) <= 200
        if not (_OPTION.fullmatch(name) and is_plain):
            raise RequestError(HTTPStatus.BAD_REQUEST, f"{name[:40]!r} is no option with a value")
        if isinstance(value, bool):
            words += [f"--{name}"] * value
        else:
            words.append(f"--{name}={value}")
    return words


def changed_options(typed: Mapping[str, Any]) -> dict[str, str]:
    """Return the options of a request to change, as `convnd_tasks.runtime.changes` takes them."""
    options = typed.get("options", {})
    if not isinstance(options, dict):
        raise RequestError(HTTPStatus.BAD_REQUEST, "options are needed")
    option_words(options)
    texts = {name: str(value).replace(",", ":") for name, value in options.items()}
    for name, text in texts.items():
        Change.parse(f"0:{name}={text}")
    return texts
