"""Steps of a job with checkpoints beside its output, and the last good result after a failure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from convnd import __version__, io
from convnd.errors import NumericalError, OutputExistsError, StopSignal
from convnd.options import flags_of
from convnd_tasks.runtime.interrupts import GracefulInterrupt

if TYPE_CHECKING:
    from convnd.optimize import ProcessGroup
    from convnd.transfer.progress import Progress

__all__ = [
    "Checkpointer",
    "RecordedOptions",
    "RunLog",
    "options_fingerprint",
    "save_last_good",
]


class RecordedOptions(Protocol):
    """A dataclass of options that gives them as text."""

    def record(self) -> dict[str, str]:
        """Return the options as text, by name."""


def options_fingerprint(options: RecordedOptions) -> dict[str, str]:
    """Return the options that a result depends on, as text: those whose flag is recorded."""
    free = {name for name, (_, flag) in flags_of(type(options)).items() if not flag.recorded}
    return {name: value for name, value in options.record().items() if name not in free}


def save_last_good(
    error: NumericalError, output: Path, write: Callable[[Path], object]
) -> NumericalError:
    """Write the last finite result beside the output of a job that failed.

    Args:
        error: the error that ended the job.
        output: path of the job's result, which is not written.
        write: writes the last good result to a path.

    Returns:
        The error to raise, whose message names the written file.
    """
    path = io.next_free_path(io.extend_stem(output, "last-good"))
    write(path)
    return NumericalError(f"{error}; the last good result is in {path}")


class Checkpointer:
    """Keeps the state of unfinished work in one file beside an output.

    Args:
        output: path of the result; the checkpoint has the same name with ``.checkpoint`` appended.
        every: steps from one checkpoint to the next; 0 keeps none.
        group: the processes that share the job; None is this one alone.

    Attributes:
        on_saved: is called with the path of each complete checkpoint, and its step.
    """

    def __init__(self, output: Path, every: int, group: ProcessGroup | None = None) -> None:
        self.group = group
        self.path = output.with_name(f"{output.name}.checkpoint")
        self.every = every
        self.interrupt = GracefulInterrupt(group, waits=every > 0)
        self.on_saved: Callable[[Path, Progress], None] = lambda _path, _progress: None
        self._fingerprint = ""

    def exists(self) -> bool:
        """Return whether there is unfinished work of an earlier run."""
        return self.path.exists()

    def check(self, *, resume: bool, overwrite: bool) -> None:  # noqa: ARG002
        """Check, before any work, that the checkpoint can be written.

        A checkpoint of an earlier run is replaced. `FrameCache`, which derives from this class,
        reads both arguments.

        Raises:
            OutputExistsError: there is another file, or a link.
        """
        from convnd.optimize import is_checkpoint

        if self.every and not is_checkpoint(self.path):
            raise OutputExistsError(
                f"write {self.path}",
                expected="no such file or a checkpoint of an earlier run",
                got="another file",
                remedy="choose another output",
            )

    def open(
        self, options: RecordedOptions, inputs: Iterable[object], *, resume: bool
    ) -> Mapping[str, Any] | None:
        """Return the state to resume from, or None.

        Args:
            options: options of the job.
            inputs: everything else that the result depends on, see `convnd.optimize.fingerprint`.
            resume: whether a checkpoint is read if there is one.

        Raises:
            UsageError: the checkpoint belongs to other inputs or options.
            InputFileError: it is damaged.
        """
        from convnd.optimize import fingerprint, load_checkpoint

        if not (resume or self.every):
            return None
        self._fingerprint = fingerprint([__version__, options_fingerprint(options), *inputs])
        if not (resume and self.path.exists()):
            return None
        state: Mapping[str, Any] = load_checkpoint(self.path, self._fingerprint, self.group)
        return state

    def after_step(self, progress: Progress) -> None:
        """Write a checkpoint when it is due, or when the work is to stop.

        Raises:
            StopSignal: a signal arrived during the step; the checkpoint is on the disk.
            OutputFileError: the checkpoint cannot be written.
        """
        from convnd.optimize import ProcessGroup, ShardedField, save_checkpoint

        received = self.interrupt.received()
        if self.every and (received or progress.step % self.every == 0):
            # Written as sharded even by one process, so that several can resume from it.
            shards = progress.shards or ShardedField(progress.size, ProcessGroup())
            save_checkpoint(
                self.path, progress.state(), self._fingerprint, shards, *progress.extra_shards
            )
            self.on_saved(self.path, progress)
        if received:
            raise StopSignal(received)

    def close(self) -> None:
        """Remove the checkpoint after the work is done."""
        if self._fingerprint and (self.group is None or self.group.rank == 0):
            self.path.unlink(missing_ok=True)

    def kept_message(self, error: BaseException) -> str:
        """Return a line for users about unfinished work that is kept after an error, or ""."""
        del error
        return ""


@dataclass
class RunLog:
    """Takes the steps of a run, and collects what they report.

    Attributes:
        last: the last step; None before the first one.
        losses: the objective ("total") and its weighted terms at every step.
        stopped: the signal that ended the run early, or None.
    """

    last: Progress | None = None
    losses: dict[str, list[float]] = field(default_factory=dict)
    stopped: BaseException | None = None

    def follow(
        self,
        steps: Iterable[Progress],
        checkpointer: Checkpointer,
        on_step: Callable[[Progress], None],
        *,
        partial: bool = True,
    ) -> None:
        """Take all steps, and write the checkpoints that are due.

        Args:
            steps: the steps of the run.
            checkpointer: writes the checkpoints; its signals wait for the end of a step.
            on_step: is called with every step, before its checkpoint.
            partial: whether a signal after the first step ends the run as if it were done, and is
                kept in ``stopped``.

        Raises:
            KeyboardInterrupt: there is no step yet, or ``partial`` is false.
            StopSignal: the same for other signals.
        """
        try:
            with checkpointer.interrupt.signals():
                for progress in steps:
                    self.last = progress
                    for name, value in {"total": progress.loss, **progress.parts}.items():
                        self.losses.setdefault(name, []).append(value)
                    on_step(progress)
                    checkpointer.after_step(progress)
        except (KeyboardInterrupt, StopSignal) as error:
            if self.last is None or not partial:
                raise
            self.stopped = error.with_traceback(None)  # its frames hold the optimiser's memory
