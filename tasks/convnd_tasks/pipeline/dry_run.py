"""``--dry-run``: how long a job takes, how much memory, and what it would write."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from convnd.errors import ConvndError, UsageError
from convnd.transfer.byte_size import gib
from convnd_tasks.pipeline.output import echo
from convnd_tasks.pipeline.result_files import Skipped, check_outputs, list_outputs
from convnd_tasks.runtime.time_left import TimeLeft, duration

if TYPE_CHECKING:
    from convnd_tasks.modalities.base import Transfer
    from convnd_tasks.pipeline.job import Job
    from convnd_tasks.pipeline.output import CommandOutput

__all__ = ["ABOVE", "BELOW", "Estimate", "run_dry"]

_STEPS = 6
"""Least number of steps that are measured, after the first evaluation."""

_SHARE = 0.01
"""Share of the work that is measured at least: the steps of the smallest of many sizes say little
of those of the largest."""

_SECONDS = 15.0
"""Seconds after which no further step is measured."""

BELOW, ABOVE = 0.75, 1.4
"""Ends of the range of likely times, relative to the estimate. The first steps have the coarsest
size, and other programs use the machine as well."""

_SETTLED = 0.5
"""Share of a frame's steps after which its loss usually has settled."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The time and memory that a job takes, and the files that it writes.

    Args:
        outputs: paths of the files.
        seconds: likely duration in seconds; None if it is not known.
        seconds_low: shortest likely duration in seconds, or None.
        seconds_high: longest likely duration in seconds, or None.
        seconds_per_step: measured duration of a step, or None.
        memory: bytes in addition to those of the program, or None.
        memory_free: bytes that the job may use, or None.
        messages: lines for users.
    """

    outputs: list[str]
    seconds: float | None = None
    seconds_low: float | None = None
    seconds_high: float | None = None
    seconds_per_step: float | None = None
    memory: int | None = None
    memory_free: int | None = None
    messages: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Return the estimate as lines of text."""
        text = "time: not known"
        low, high = self.seconds_low, self.seconds_high
        if self.seconds is not None and low is not None and high is not None:
            text = f"time: about {duration(self.seconds)}"
            if low < high:
                span = f"{duration(low)} to {duration(high)}"
                text += f" ({span}, depending on other programs)"
        elif self.seconds_per_step is not None:
            text += f"; a step takes {self.seconds_per_step:.2g} s"
        memory = "memory: not known"
        if self.memory is not None and self.memory_free is not None:
            memory = f"memory: about {gib(self.memory)} of {gib(self.memory_free)} that may be used"
        return [text, memory, *(f"would write {path}" for path in self.outputs)]

    def record(self, files: int) -> dict[str, object]:
        """Return the estimate as plain data for JSON.

        Args:
            files: number of files that the estimate is for.
        """
        return {"files": files, **dataclasses.asdict(self)}


def run_dry(job: Job, command_output: CommandOutput) -> None:
    """Estimate all transfers of a job together, and print the estimate.

    Of a folder the first content is measured, and the others count the same. They do not load the
    networks again, so that their first step comes sooner.

    Args:
        job: the job.
        command_output: collects the estimate.

    Raises:
        ConvndError: the job, or the only transfer, cannot be done.
        typer.Exit: some of several cannot be done, code 1.
    """
    spec = job.spec
    if job.group is not None and job.group.size > 1:
        raise UsageError(
            "--dry-run", expected="one process", got=job.group.size, remedy="start it alone"
        )
    if spec.batch:
        job.open_shared()
    measured: Estimate | None = None
    # The transfer that is measured, and the time to its first step.
    first: tuple[Job, str | None] = (job, None)
    setup = 0.0
    outputs: list[str] = []
    count = failed = 0
    for number, (content, target) in enumerate(zip(spec.contents, spec.outputs, strict=True)):
        one = job.with_style(spec.styles[number]) if spec.each_style else job
        try:
            if _is_finished(one, content, target):
                command_output.append("skipped", {"output": str(target)})
                continue
            if measured is None:
                first = one, content
                measured, setup = _estimate(one, content, target, command_output)
        except ConvndError as error:
            if not spec.batch or isinstance(error, UsageError):
                raise
            command_output.append("failed", {"output": str(target), "error": str(error)})
            echo(f"convnd: {error}", err=True)
            failed += 1
            continue
        count += 1
        outputs += map(str, list_outputs(target, job.modality, spec))
    total = Estimate(outputs=outputs)
    if measured is not None:
        saved = setup - _setup_seconds(*first) if count > 1 else 0.0
        total = _times(measured, count, outputs, max(0.0, saved))
    if spec.left_out:
        echo(spec.left_out, err=True)
    echo(*total.messages, err=True)
    if count > 1:
        echo(f"{count} files, estimated from the first")
    echo(*total.lines())
    command_output.add(dry_run=total.record(count))
    if failed:
        raise typer.Exit(1)


def _estimate(
    job: Job, content: str | None, target: Path, command_output: CommandOutput
) -> tuple[Estimate, float]:
    """Take the first steps of a transfer, and estimate what all of it takes; writes nothing.

    Args:
        job: the job.
        content: path or sample name; None is a texture.
        target: path of the result.
        command_output: holds the amounts of memory that the transfer logs.

    Returns:
        The estimate, and the seconds to the first step.

    Raises:
        ConvndError: the transfer cannot be done.
    """
    started = time.monotonic()
    inputs = job.open(content)
    transfer = job.modality.prepare(inputs)
    transfer.check_writable(target)
    messages = [*([job.spec.message] if job.spec.message else []), *transfer.messages]
    times, setup = _measure(transfer, messages, started)
    estimate = Estimate(
        outputs=[],
        memory=command_output.settings.get("memory_needed"),
        memory_free=command_output.settings.get("memory_free"),
        messages=messages,
        **times,
    )
    return estimate, setup


def _setup_seconds(job: Job, content: str | None) -> float:
    """Measure the time to the first step of a transfer after another one."""
    started = time.monotonic()
    transfer = job.modality.prepare(job.open(content))
    steps = transfer.run(state=None, group=None, on_message=None)
    next(steps, None)
    getattr(steps, "close", lambda: None)()
    return time.monotonic() - started


def _measure(
    transfer: Transfer, messages: list[str], started: float
) -> tuple[dict[str, float | None], float]:
    """Take the first steps; return the times of an `Estimate`, and the time to the first step."""
    seconds = transfer.estimate_seconds(messages.append)
    if seconds is not None:
        setup = time.monotonic() - started
        return {
            "seconds": seconds,
            "seconds_low": BELOW * seconds,
            "seconds_high": ABOVE * seconds,
        }, setup
    time_left, moments = TimeLeft(), []
    finished = True
    steps = transfer.run(state=None, group=None, on_message=messages.append)
    for progress in steps:
        moments.append(time.monotonic())
        time_left.update(progress, moments[-1])
        enough = len(moments) > _STEPS and progress.fraction_done >= _SHARE
        if enough or (len(moments) > 1 and moments[-1] - moments[0] > _SECONDS):
            finished = progress.fraction_done >= 1
            break
    getattr(steps, "close", lambda: None)()
    now = time.monotonic()
    total = now - started
    setup = moments[0] - started if moments else total
    if finished or not moments:
        return {"seconds": total, "seconds_low": total, "seconds_high": total}, setup
    step = (moments[-1] - moments[0]) / (len(moments) - 1)
    counts, seconds = transfer.count_steps(), time_left.seconds(now)
    if counts is not None:
        fewest, most = (setup + count * step for count in counts)
        likely = fewest + _SETTLED * (most - fewest)
    elif seconds is not None:
        fewest = most = likely = total + seconds
    else:
        return {"seconds_per_step": step}, setup
    times = {"seconds": likely, "seconds_low": BELOW * fewest, "seconds_high": ABOVE * most}
    return {**times, "seconds_per_step": step}, setup


def _times(measured: Estimate, count: int, outputs: list[str], saved: float) -> Estimate:
    """Multiply the estimate of one transfer by the number of transfers.

    Args:
        measured: estimate of the first transfer.
        count: number of transfers.
        outputs: paths of the files of all transfers.
        saved: seconds by which each further transfer is shorter than the first.
    """
    factor = float(count)
    if measured.seconds:
        factor -= (count - 1) * min(1.0, saved / measured.seconds)
    seconds = measured.seconds, measured.seconds_low, measured.seconds_high
    total, low, high = (None if time is None else round(time * factor, 2) for time in seconds)
    return dataclasses.replace(
        measured, outputs=outputs, seconds=total, seconds_low=low, seconds_high=high
    )


def _is_finished(job: Job, content: str | None, target: Path) -> bool:
    """Return whether ``--skip-existing`` leaves a result alone; check that it can be written."""
    if job.spec.folder is not None and not target.parent.exists():
        return False  # the folder is made with the work
    checkpointer = job.modality.checkpointer(target, job.group)
    checked = check_outputs(
        target, job.modality, job.spec, checkpointer, lambda: job.record(content)
    )
    return isinstance(checked, Skipped)
