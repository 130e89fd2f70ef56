"""Errors by their class and their fields, so that a test does not hold an English sentence.

A `ConvndError` says four things: the operation, what it expected, what it got, and the remedy.
Errors that were made of one text are split at the words between the four.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import NamedTuple, TypeVar

import pytest

from convnd.errors import ConvndError, printable

__all__ = ["ErrorFields", "check_error", "raises", "read_fields"]

_TEXT = re.compile(r"(?P<operation>.*?): expected (?P<expected>.*?), got (?P<rest>.*)", re.DOTALL)


Kind = TypeVar("Kind", bound=BaseException)


class ErrorFields(NamedTuple):
    """The parts of an error.

    Args:
        operation: the operation, option or file that the error is about.
        expected: what is accepted.
        got: what arrived.
        remedy: what helps; empty if the error says nothing of it.
    """

    operation: str
    expected: str
    got: str
    remedy: str


def read_fields(error: BaseException | str) -> ErrorFields:
    """Return the fields of an error, or of the line that the command line prints for one.

    Args:
        error: an error; or a text whose last line is ``convnd: OPERATION: expected …, got …; …``.

    Raises:
        AssertionError: the text has no such parts.

    >>> read_fields("convnd: --rate: expected a number, got 'x'; for example 250")
    ErrorFields(operation='--rate', expected='a number', got="'x'", remedy='for example 250')
    """
    if isinstance(error, ConvndError) and error.operation:
        parts = (error.operation, error.expected, error.got, error.remedy)
        return ErrorFields(*map(printable, parts))  # as in the message
    text = error.splitlines()[-1].removeprefix("convnd: ") if isinstance(error, str) else str(error)
    match = _TEXT.fullmatch(text)
    assert match is not None, f"no operation, expected and got in: {text}"
    got, _, remedy = match["rest"].partition("; ")
    return ErrorFields(match["operation"], match["expected"], got, remedy)


def check_error(error: BaseException | str, **words: str) -> None:
    """Check that the fields of an error hold words.

    Args:
        error: see `read_fields`.
        words: by field of `ErrorFields`, a name, number or short phrase that the field contains.

    Raises:
        AssertionError: a field does not hold its words.
    """
    fields = read_fields(error)._asdict()
    for name, text in words.items():
        assert text in fields[name], f"{name}: {text!r} is not in {fields}"


@contextlib.contextmanager
def raises(
    kind: type[Kind] | tuple[type[Kind], ...], **words: str
) -> Iterator[pytest.ExceptionInfo[Kind]]:
    """Like `pytest.raises`, for words that the fields of the error hold.

    Args:
        kind: class of the error.
        words: by field of `ErrorFields`, a name, number or short phrase that the field contains.

    Yields:
        What `pytest.raises` gives.
    """
    with pytest.raises(kind) as caught:
        yield caught
    check_error(caught.value, **words)
