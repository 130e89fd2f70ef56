"""The errors that the toolkit raises on purpose, each with the exit code of its kind.

All of them derive from `ConvndError`, and each is also the matching built-in, so that
``except ValueError`` keeps working.
"""

import contextlib
import os
import signal
import sys
import threading
from typing import NoReturn, overload

__all__ = [
    "STOP_SIGNALS",
    "ConvndError",
    "DependencyError",
    "InputFileError",
    "InternalError",
    "NumericalError",
    "OutputExistsError",
    "OutputFileError",
    "ResourceError",
    "ShapeError",
    "StopSignal",
    "UnknownNameError",
    "UsageError",
    "as_convnd_error",
    "import_failure",
    "is_out_of_memory",
    "printable",
]


STOP_SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP")
    if hasattr(signal, name)  # Windows has no SIGHUP
)
"""The signals that ask the command line to stop."""

_OWN_PACKAGES = ("convnd", "convnd_tasks")
# Libraries that wheels link to, and Debian's package of each.
_LIBRARY_PACKAGES = {
    "libGL": "libgl1",
    "libglib-2.0": "libglib2.0-0",
    "libgthread-2.0": "libglib2.0-0",
    "libgomp": "libgomp1",
}


class ConvndError(Exception):
    """Base class of all errors that the toolkit raises on purpose.

    Most errors state what an operation expected, what it got, and the remedy. These parts are
    keyword arguments, stay available as attributes, and make up the message::

        raise ShapeError("conv", expected="x of rank 4", got="rank 2", remedy="add the axes")

    Where a plain sentence says it better, the sentence is the only argument.

    Args:
        text: the operation, argument or file that the error is about, if ``expected`` is given;
            else the whole message.
        expected: what the operation accepts.
        got: what it received instead; kept as a string.
        remedy: what the caller can do about it.

    Attributes:
        operation: ``text`` if ``expected`` was given, else empty.
        expected: as above; empty for a plain sentence, like the next two.
        got: as above.
        remedy: as above.
        exit_code: exit code of the command line.

    >>> error = ShapeError("conv", expected="rank 4", got="rank 2", remedy="add two axes")
    >>> print(error)
    conv: expected rank 4, got rank 2; add two axes
    >>> error.operation, error.got, error.exit_code
    ('conv', 'rank 2', 2)
    """

    exit_code = 1

    @overload
    def __init__(self, text: str = "", /) -> None: ...

    @overload
    def __init__(self, text: str, /, *, expected: str, got: object, remedy: str) -> None: ...

    def __init__(
        self, text: str = "", /, *, expected: str = "", got: object = "", remedy: str = ""
    ) -> None:
        self.operation = text if expected else ""
        self.expected, self.got, self.remedy = expected, str(got), remedy
        if expected:
            text = f"{text}: expected {expected}, got {got}; {remedy}"
        super().__init__(text)

    def rename(self, old: str, new: str) -> None:
        """Replace a name in the message and its parts, for example of a temporary file."""
        self.args = tuple(
            arg.replace(old, new) if isinstance(arg, str) else arg for arg in self.args
        )
        for part in ("operation", "expected", "got", "remedy"):
            setattr(self, part, getattr(self, part).replace(old, new))

    def __str__(self) -> str:
        # The built-in bases would add an errno or quotes. File names and file contents may hold
        # line breaks and control characters; escaping them keeps the message on one line.
        return printable(str(self.args[0]) if self.args else "")


def printable(text: str) -> str:
    r"""Return a text as one line without characters that a terminal or an editor would obey.

    Control characters, line breaks, marks that reverse the direction of writing, and bytes that are
    no text are written as escapes.

    >>> printable("scan\x1b[31m\n\u202egpj.exe"), printable("中 µV")
    ('scan\\x1b[31m\\n\\u202egpj.exe', '中 µV')
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


class UsageError(ConvndError, ValueError):
    """An option or argument is outside of what the operation accepts."""

    exit_code = 2


class ShapeError(UsageError):
    """A tensor, or a requested shape, does not fit the operation."""


class UnknownNameError(UsageError, LookupError):
    """A name is missing from the table that it was looked up in."""


class DependencyError(ConvndError, ImportError):
    """An optional package is missing; the message holds its install command."""

    exit_code = 2


class OutputExistsError(ConvndError, FileExistsError):
    """The output file exists, and nobody asked to overwrite it."""

    exit_code = 2


class InputFileError(ConvndError, OSError):
    """An input file is missing, unreadable, damaged, or of another format than its name says."""

    exit_code = 3


class OutputFileError(ConvndError, OSError):
    """The output cannot be written: the folder is missing or read-only, or the disk is full."""

    exit_code = 4


class ResourceError(ConvndError, MemoryError):
    """The job needs more memory than the machine has."""

    exit_code = 4


class NumericalError(ConvndError, ArithmeticError):
    """The computation produced infinite or undefined numbers."""

    exit_code = 5


class InternalError(ConvndError, RuntimeError):
    """A fault of the toolkit itself."""

    exit_code = 70  # EX_SOFTWARE of sysexits.h


class StopSignal(BaseException):
    """A signal asked the command line to stop; ``args[0]`` is the signal's number.

    It does not derive from `KeyboardInterrupt`, because the command-line parser would turn that
    into an exit code of its own.
    """

    @classmethod
    def catch(cls) -> None:
        """Raise the exception in this process for SIGINT, SIGTERM and SIGHUP from now on.

        Python drops an exception that is raised in a destructor or in a callback of a weak
        reference, so a signal that arrives there is raised once more a moment later.
        """
        report = sys.unraisablehook

        def repeat(unraisable: "sys.UnraisableHookArgs") -> None:
            if not isinstance(unraisable.exc_value, cls):
                report(unraisable)
                return
            # Here it would be dropped as well. The signal goes to the process, not to the timer's
            # thread, so that it also ends a call that sleeps. On a busy machine it may arrive while
            # its timer still starts: then another one follows.
            arguments = (os.getpid(), *unraisable.exc_value.args)
            while True:
                with contextlib.suppress(cls):
                    threading.Timer(0.01, os.kill, arguments).start()
                    return

        sys.unraisablehook = repeat
        for number in STOP_SIGNALS:
            signal.signal(number, cls.handler)

    @classmethod
    def handler(cls, number: int, _frame: object) -> NoReturn:
        """Raise the exception; a handler for `signal.signal`."""
        raise cls(number)


def import_failure(error: ImportError) -> DependencyError:
    """Return the error for a package of others that is missing or cannot be loaded.

    Systems without a desktop often lack libraries that OpenCV links to. The message names the
    package of Debian that holds such a library.

    >>> print(import_failure(ImportError("libGL.so.1: none", name="cv2")))
    load cv2: expected a package that can be loaded, got 'libGL.so.1: none'; apt-get install libgl1
    >>> print(import_failure(ModuleNotFoundError("No module named 'av'", name="av")))
    load av: expected the package, got none installed; pip install convnd-toolkit
    """
    operation = f"load {error.name or 'a package'}"
    if isinstance(error, ModuleNotFoundError) and "." not in (error.name or "."):
        return DependencyError(
            operation,
            expected="the package",
            got="none installed",
            remedy="pip install convnd-toolkit",
        )
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    remedy = "install it again"
    library = text.partition(":")[0]
    if ".so" in library:
        package = _LIBRARY_PACKAGES.get(library.partition(".so")[0])
        remedy = f"apt-get install {package}" if package else f"install the library {library}"
    return DependencyError(
        operation,
        expected="a package that can be loaded",
        got=f"'{text}'",
        remedy=remedy,
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out.

    Torch has no exception class for that on CPUs, so the message decides.
    """
    if isinstance(error, ConvndError):
        return False
    # oneDNN, which computes convolutions on CPUs, reports a lack of memory in these words.
    phrases = ("memory", "could not create a primitive")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(phrase in str(error) for phrase in phrases)
    )


def as_convnd_error(error: Exception) -> ConvndError | None:
    """Return an error of this module for an exception of any class.

    Args:
        error: what one input, or a whole command, raised.

    Returns:
        The error itself if it is one of ours; None for an error of a stream, which concerns no
        input, and for what the parser of the command line raises.

    >>> as_convnd_error(MemoryError()).exit_code, as_convnd_error(KeyError("a")).exit_code
    (4, 70)
    >>> as_convnd_error(BrokenPipeError()) is None
    True
    """
    if isinstance(error, ConvndError):
        return error
    if isinstance(error, OSError):
        if error.filename is None:
            return None
        got = f"'{error.strerror}'"
        return InputFileError(f"{error.filename}: expected a path that can be used, got {got}")
    if is_out_of_memory(error):
        return ResourceError(
            "memory", expected="enough for this job", got="none left", remedy="use a smaller --size"
        )
    if isinstance(error, ImportError) and (error.name or "").split(".")[0] not in _OWN_PACKAGES:
        return import_failure(error)
    if type(error).__module__.split(".")[0] in ("click", "typer"):
        return None
    return InternalError(
        f"expected no fault of convnd, got {type(error).__name__}: {str(error)[:200]}; please "
        "report it with what was typed (CONVND_TRACEBACK=1 shows where it happened)"
    )
