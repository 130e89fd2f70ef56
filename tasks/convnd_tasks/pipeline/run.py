"""Runs the transfers of a command one after the other, and prints their results."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from convnd.errors import (
    ConvndError,
    InternalError,
    OutputExistsError,
    UsageError,
    as_convnd_error,
    printable,
)
from convnd_tasks.modalities import MODALITIES
from convnd_tasks.pipeline.job_spec import JobSpec
from convnd_tasks.pipeline.output import CommandOutput, echo
from convnd_tasks.pipeline.progress import ProgressDisplay, ensure_weights
from convnd_tasks.pipeline.resolve import parse_shard, resolve
from convnd_tasks.pipeline.watching import current_watcher
from convnd_tasks.runtime.warm_process import start_warm_process
from convnd_tasks.runtime.wording import count_text

if TYPE_CHECKING:
    from convnd.optimize import ProcessGroup
    from convnd.transfer.progress import Progress
    from convnd_tasks.modalities.results import JobResult
    from convnd_tasks.pipeline.job import Job
    from convnd_tasks.runtime.settings import JobSettings

__all__ = ["run_command", "run_jobs"]


def run_command(
    files: Sequence[str] | None,
    styles: Sequence[str] | None,
    dim: int | None,
    typed_options: Mapping[str, Any],
    typed_settings: Mapping[str, Any],
    command_output: CommandOutput,
    *,
    modality: str | None = None,
) -> None:
    """Run the job that the arguments of a stylize command describe.

    Args:
        files: content and styles; None is none.
        styles: further styles; None is none.
        dim: number of spatial axes as typed, or None.
        typed_options: values of the options of the transfer that were typed, by field.
        typed_settings: values of the fields of `JobSettings` that were typed.
        command_output: collects the results for ``--json``.
        modality: the kind of data that the command is for, or None for any.

    Raises:
        ConvndError: the job cannot be done, or the only transfer failed.
        typer.Exit: some of several transfers failed, code 1.
    """
    from convnd_tasks.runtime.settings import JobSettings

    options, init = _split_init(typed_options)
    settings = JobSettings(**typed_settings)
    spec = resolve(
        files or (),
        styles or (),
        dim=dim,
        output=None if settings.sheet else settings.output,
        texture=settings.texture,
        init=init,
        modality=modality,
        resume=settings.resume,
        recursive=settings.recursive,
        region=None if settings.regions is None else settings.region,
        sheet=settings.sheet,
        keyframe=settings.keyframe,
    )
    # Torch is loaded after the names are checked: a mistyped one is answered at once.
    start_warm_process(MODALITIES[spec.modality].slow_modules)
    from convnd.optimize import ProcessGroup
    from convnd_tasks.pipeline.job import Job
    from convnd_tasks.pipeline.job_options import make_options

    spec = _check_batch(spec.preview() if settings.preview else spec, settings)
    group = ProcessGroup.current()
    # `init` is a file here, for which the rules of a named starting point hold.
    typed = options if init is None else {**options, "init": "content"}
    job_options = make_options(spec, typed, typed_settings)
    _check_processes(spec, group)
    if settings.sheet:
        _run_sheet(spec, typed, typed_settings, command_output)
        return
    job = Job(spec, job_options, settings, group=None if spec.batch else group)
    _run_or_estimate(job, command_output, group)


def _run_or_estimate(job: Job, command_output: CommandOutput, group: ProcessGroup) -> None:
    if not job.options.is_instant:
        ensure_weights(*job.options.backbones, quiet=job.settings.quiet)
    if job.settings.dry_run:
        from convnd_tasks.pipeline.dry_run import run_dry

        run_dry(job, command_output)
        return
    run_jobs(job, command_output, group)


def run_jobs(job: Job, command_output: CommandOutput, group: ProcessGroup) -> None:
    """Run every transfer of a job; if one of several fails, the others still run.

    An internal error counts as the failure of its input.

    Args:
        job: the job.
        command_output: collects the results for ``--json``.
        group: the processes that were started together; each takes its share of a folder.

    Raises:
        ConvndError: the only transfer failed.
        typer.Exit: some of several failed, code 1.
    """
    spec = job.spec
    if spec.batch and group.size > 1:
        spec = spec.shard(group.rank + 1, group.size)
        command_output.unmute()
    if spec.batch:
        job.open_shared()
    spec.make_folder()
    failed = existing = 0
    items = len(spec.outputs)
    for number, (content, target) in enumerate(zip(spec.contents, spec.outputs, strict=True), 1):
        try:
            one = job.with_style(spec.styles[number - 1]) if spec.each_style else job
            failed += not _run_one(one, content, target, command_output, number, items)
        except Exception as error:
            failure = as_convnd_error(error) if spec.batch else None
            is_fault = isinstance(failure, InternalError) and "CONVND_TRACEBACK" in os.environ
            if failure is None or isinstance(failure, UsageError) or is_fault:
                raise
            failed += 1
            existing += isinstance(failure, OutputExistsError)
            text = str(failure)
            if content is not None and not isinstance(error, ConvndError):
                text = printable(f"{content}: {text}")  # a `ConvndError` names the file itself
            command_output.append("failed", {"output": str(target), "error": text})
            echo(f"convnd: {text}", err=True)
    if spec.left_out and group.rank == 0:
        command_output.add(left_out=spec.left_out)
        echo(spec.left_out, err=True)
    if spec.batch:  # this waits for all processes: one that leaves early would end the others
        failed, items = group.all_reduce_ints(failed, items)
    if failed:
        if spec.batch and group.rank == 0:
            hint = "; --skip-existing leaves out results that exist" if existing else ""
            echo(f"convnd: {failed} of {items} failed{hint}", err=True)
        raise typer.Exit(1)


def _run_sheet(
    spec: JobSpec,
    typed_options: Mapping[str, Any],
    typed_settings: Mapping[str, Any],
    command_output: CommandOutput,
) -> None:
    """Make the small results of a sheet one after the other, and write it."""
    from convnd_tasks.pipeline.sheet import Sheet

    sheet = Sheet(spec, typed_options, typed_settings)
    sheet.check_output()
    quiet = bool(typed_settings.get("quiet"))
    if not sheet.is_instant:
        ensure_weights(*sheet.backbones, quiet=quiet)
    for cell in sheet.cells:
        with ProgressDisplay(
            enabled=not quiet,
            terminal=sys.stderr.isatty(),
            item=cell.number,
            items=len(sheet.cells),
            noun="step",
        ) as display:
            sheet.run(cell, on_progress=display.update, on_message=display.message)
    path, picture = sheet.write()
    cells = [cell.label for cell in sheet.cells]
    command_output.append(
        "results",
        {"output": str(path), "shape": list(picture.shape), "cells": cells,
         "seconds": round(sheet.seconds, 3)},
    )  # fmt: skip
    height, width = picture.shape
    echo(f"{path}  {width}x{height}, {count_text(len(cells), 'results')}, {sheet.seconds:.1f} s")
    echo(f"make one of them: convnd rerun {path} --pick {len(cells)}")


def _run_one(
    job: Job,
    content: str | None,
    target: Path,
    command_output: CommandOutput,
    number: int,
    items: int,
) -> bool:
    """Make one result; return whether the content could be read to its end."""
    from convnd_tasks.pipeline.provenance import echo_skipped
    from convnd_tasks.pipeline.result_files import Skipped

    watcher = current_watcher()

    def on_progress(progress: Progress) -> None:
        display.update(progress)
        watcher.on_step(progress)

    def on_message(line: str) -> None:
        display.message(line)
        watcher.on_message(line)

    with ProgressDisplay(
        enabled=not job.settings.quiet,
        terminal=sys.stderr.isatty(),
        item=number,
        items=items,
        noun=job.modality.step_noun,
    ) as display:
        outcome = job.run(
            content,
            target,
            on_progress=on_progress,
            on_message=on_message,
            on_tile=partial(display.update_count, noun="tiles"),
            watcher=watcher,
        )
    if isinstance(outcome, Skipped):
        command_output.append("skipped", {"output": str(outcome.path)})
        echo_skipped(outcome.path, outcome.side_files)
        return True
    if outcome.result is not None:
        _report(job, outcome, command_output)
    if outcome.stopped is not None:
        raise outcome.stopped
    damage = getattr(outcome.result, "damage", "")
    if damage:
        command_output.append("failed", {"input": str(content), "error": damage})
        echo(f"convnd: {content}: {damage}; the rest is done", err=True)
    return not damage


def _report(job: Job, outcome: JobResult, command_output: CommandOutput) -> None:
    """Print one line about a result, and collect its figures for ``--json``."""
    extent, entries = job.modality.describe(outcome.result)
    command_output.append(
        "results",
        {
            "output": str(outcome.path),
            **entries,
            "steps": outcome.steps,
            "rejected_steps": outcome.rejected_steps,
            "loss": None if math.isnan(outcome.loss) else outcome.loss,
            "seconds": round(outcome.seconds, 3),
            "stopped_early": outcome.stopped is not None,
            "messages": list(outcome.messages),
            "figures": [str(path) for path in outcome.figures],
            "report": None if outcome.report is None else str(outcome.report),
        },
    )
    early = "" if outcome.stopped is None else "stopped early, kept: "
    rejected = f" ({outcome.rejected_steps} rejected)" if outcome.rejected_steps else ""
    work = f"{count_text(outcome.steps, 'steps')}{rejected}, loss {outcome.loss:.4g}"
    if math.isnan(outcome.loss):  # nothing was optimised
        work = "one pass"
    echo(f"{early}{outcome.path}  {extent}, {work}, {outcome.seconds:.1f} s")
    for path in (*outcome.figures, *([outcome.report] if outcome.report is not None else [])):
        echo(str(path))


def _split_init(typed_options: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
    """Return the options without an ``--init`` that names a file, and the path of that file."""
    from convnd.transfer.options import INITS

    options = dict(typed_options)
    init = options.get("init")
    if init is None or init in INITS or not Path(init).suffix:
        return options, None
    return {name: value for name, value in options.items() if name != "init"}, init


def _check_processes(spec: JobSpec, group: ProcessGroup) -> None:
    if group.size > 1 and spec.modality == "videos" and not spec.batch:
        raise UsageError(
            "stylize",
            expected="one process for a video",
            got="several",
            remedy="start it without torchrun",
        )


def _check_batch(spec: JobSpec, settings: JobSettings) -> JobSpec:
    """Check the settings that need or exclude a folder; take this machine's share of its files."""
    share = parse_shard(settings.shard)
    if share is not None and not spec.batch:
        raise UsageError(
            "--shard",
            expected="a folder, whose files are shared out",
            got="one content",
            remedy="leave it out",
        )
    if settings.report is not None and spec.batch:
        raise UsageError(
            "--report",
            expected=f"one {spec.modality.rstrip('s')}",
            got="a folder",
            remedy="leave it out",
        )
    return spec if share is None else spec.shard(*share)
