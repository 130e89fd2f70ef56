"""Tables of named components for the library, the command line and the generic tests."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from convnd.errors import UnknownNameError, UsageError

__all__ = ["Registry", "check_name", "unknown_name"]

T = TypeVar("T")


def unknown_name(kind: str, name: str, choices: list[str]) -> UnknownNameError:
    """The error for a name that is not in a table; it lists all choices and the nearest match.

    >>> print(unknown_name("layer", "relu11", ["relu1_1", "relu2_1"]))
    layer: expected one of relu1_1, relu2_1, got 'relu11'; did you mean 'relu1_1'?
    """
    close = difflib.get_close_matches(name, choices, n=1)
    remedy = f"did you mean {close[0]!r}?" if close else "choose one of these"
    return UnknownNameError(
        kind, expected=f"one of {', '.join(choices)}", got=repr(name), remedy=remedy
    )


def check_name(kind: str, name: str, choices: Iterable[str]) -> None:
    """Check that a name is one of the choices; raises `unknown_name` if not."""
    names = list(choices)
    if name not in names:
        raise unknown_name(kind, name, names)


class Registry(Generic[T]):
    """A table of components by name, in the order of registration.

    Args:
        kind: what the entries are ("statistic", "backbone"), for messages.

    >>> shapes = Registry[int]("shape")
    >>> shapes.add("triangle", 3)
    3
    >>> shapes["triangle"], list(shapes)
    (3, ['triangle'])
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def add(self, name: str, entry: T) -> T:
        """Register ``entry`` and return it.

        Raises:
            UsageError: the name is taken.
        """
        if name in self._entries:
            raise UsageError(
                self.kind, expected="a new name", got=repr(name), remedy="choose another"
            )
        self._entries[name] = entry
        return entry

    def __getitem__(self, name: str) -> T:
        """The entry called ``name``.

        Raises:
            UnknownNameError: no such entry; the message lists the names and the nearest one.
        """
        try:
            return self._entries[name]
        except KeyError:
            raise unknown_name(self.kind, name, list(self._entries)) from None

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
