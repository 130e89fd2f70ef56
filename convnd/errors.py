"""The one family of errors, each with the exit code of its kind.

Every message is one line in four parts: the operation, what it expected, what it received, and
the remedy. Each class is also the matching built-in, so ``except ValueError`` keeps working.
"""

from typing import NoReturn

__all__ = [
    "ConvndError",
    "DependencyError",
    "InputFileError",
    "NumericalError",
    "OutputExistsError",
    "OutputFileError",
    "ResourceError",
    "ShapeError",
    "Stopped",
    "UnknownNameError",
    "UsageError",
    "out_of_memory",
]


class ConvndError(Exception):
    """Base of all errors that the toolkit raises on purpose.

    >>> ShapeError("conv: expected rank 4, got rank 2").exit_code
    2
    """

    exit_code = 1

    def __str__(self) -> str:
        # OSError would print an errno, KeyError quotes; ours is a sentence. It stays one line, and
        # moves no cursor, whatever the names of files and what files say are made of.
        text = str(self.args[0]) if self.args else ""
        if text.isprintable():
            return text
        return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


class UsageError(ConvndError, ValueError):
    """An option or argument is outside what the operation accepts."""

    exit_code = 2


class ShapeError(UsageError):
    """A tensor, or the shape asked for, does not fit the operation."""


class UnknownNameError(UsageError, LookupError):
    """A name is not in the table that is consulted."""


class DependencyError(ConvndError, ImportError):
    """An optional package is missing; the message holds its install command."""

    exit_code = 2


class OutputExistsError(ConvndError, FileExistsError):
    """The output is there already and overwriting it was not asked for."""

    exit_code = 2


class InputFileError(ConvndError, OSError):
    """An input file is missing, unreadable, damaged, or not what its name says."""

    exit_code = 3


class OutputFileError(ConvndError, OSError):
    """The output cannot be written: folder missing or read-only, disk full."""

    exit_code = 4


class ResourceError(ConvndError, MemoryError):
    """The job needs more memory than there is."""

    exit_code = 4


class NumericalError(ConvndError, ArithmeticError):
    """The computation left the finite numbers."""

    exit_code = 5


class Stopped(BaseException):
    """A signal asked the command line to stop; ``args[0]`` is its number.

    Not a `KeyboardInterrupt`, which the command-line parser would turn into an exit code of its
    own.
    """

    @classmethod
    def by(cls, number: int, _frame: object) -> NoReturn:
        """Raise it: a handler, for `signal.signal`."""
        raise cls(number)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out; torch has no class of its own for the CPU's."""
    if isinstance(error, ConvndError):
        return False
    # oneDNN, which computes convolutions on CPUs, says no more than that it cannot.
    words = ("memory", "could not create a primitive")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(each in str(error) for each in words)
    )
