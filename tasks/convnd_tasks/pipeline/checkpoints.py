"""How a job stops, and what is kept of work that has not come to its end."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

from convnd import __version__, io
from convnd.errors import NumericalError, StopSignal

if TYPE_CHECKING:
    from convnd.optimize import ProcessGroup
    from convnd.transfer.style_transfer import Progress

__all__ = ["FREE", "Keeping", "Stopping", "keep_last_good"]

FREE = ("tile", "memory")
"""Options that change how the work is done and not what comes out."""


class Stopping:
    """Signals that wait for a step to end, at which all processes stop that share a job.

    Args:
        group: the processes; None is this one alone, which stops at once.
        waits: whether this one alone waits for its step as well.
    """

    def __init__(self, group: ProcessGroup | None = None, *, waits: bool = False) -> None:
        self.group = group
        self._alone = group is None or group.size == 1
        self._waits = waits or not self._alone
        self._asked: int | None = None

    @contextlib.contextmanager
    def signals(self) -> Iterator[None]:
        """The first SIGINT or SIGTERM waits for the step to end; the second does not.

        Several processes always end their step, so that all stop at the same one, whatever comes.
        """
        if not self._waits or threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGINT, signal.SIGTERM)

        def note(number: int, _frame: FrameType | None) -> None:
            if self._asked is None:
                self._asked = number
            elif self._alone:  # one of several would leave the others in the middle of an exchange
                raise StopSignal(number)

        before = [signal.signal(number, note) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)

    def asked(self) -> int:
        """The signal that any of the processes was sent, or 0; all ask after each step."""
        own = self._asked or 0
        # A signal reaches each of them at another moment.
        return own if self.group is None else self.group.all_reduce_max(own)

    def after_step(self) -> None:
        """End here, together, if any of the processes was asked to.

        Raises:
            StopSignal: a signal asked for it.
        """
        if asked := self.asked():
            raise StopSignal(asked)


def keep_last_good(
    error: NumericalError, output: Path, write: Callable[[Path], object]
) -> NumericalError:
    """Write what there was before the numbers went wrong, beside the output.

    Args:
        error: what ended the work.
        output: which is not written.
        write: makes the file.

    Returns:
        The error, to be raised, with the file's name in it.
    """
    path = io.next_free_path(io.extend_stem(output, "last-good"))
    write(path)
    return NumericalError(f"{error}; the last good result is in {path}")


class Recorded(Protocol):
    """Options that can be told as text."""

    def record(self) -> dict[str, str]:
        """Every option by name."""
        ...


class Keeping:
    """The checkpoint beside an output.

    Args:
        output: of the job; the checkpoint is called the same with ``.checkpoint`` behind.
        every: steps from one checkpoint to the next; 0 keeps none.
        group: the processes that share the job; None is this one alone.
    """

    def __init__(self, output: Path, every: int, group: ProcessGroup | None = None) -> None:
        self.group = group
        self.path = output.with_name(f"{output.name}.checkpoint")
        self.every = every
        self.stopping = Stopping(group, waits=every > 0)
        self._mark = ""

    def open(
        self, options: Recorded, inputs: Iterable[object], *, resume: bool
    ) -> dict[str, Any] | None:
        """The state to go on from, if that is asked for and there is one.

        Args:
            options: of the job.
            inputs: what else comes out depends on, see `convnd.optimize.fingerprint`.
            resume: whether it is asked for.

        Raises:
            UsageError: the checkpoint is of other inputs or options.
            InputFileError: it is damaged.
        """
        from convnd.optimize import fingerprint, load_checkpoint

        if not (resume or self.every):
            return None
        kept = {name: value for name, value in options.record().items() if name not in FREE}
        self._mark = fingerprint([__version__, kept, *inputs])
        if not (resume and self.path.exists()):
            return None
        state: dict[str, Any] = load_checkpoint(self.path, self._mark, self.group)
        return state

    def after(self, progress: Progress) -> None:
        """Keep this step when its turn has come, or when the work is to stop.

        Raises:
            StopSignal: a signal asked for it; the checkpoint is on the disk.
            OutputFileError: the checkpoint cannot be written.
        """
        from convnd.optimize import ProcessGroup, ShardedField, save_checkpoint

        asked = self.stopping.asked()
        if self.every and (asked or progress.step % self.every == 0):
            # Marked as shared by one process too, so that several can go on from it.
            shards = progress.shards or ShardedField(progress.size, ProcessGroup())
            save_checkpoint(self.path, progress.state(), self._mark, shards, *progress.beside)
        if asked:
            raise StopSignal(asked)

    def close(self) -> None:
        """Remove the checkpoint: the work is done."""
        if self._mark and (self.group is None or self.group.rank == 0):
            self.path.unlink(missing_ok=True)
