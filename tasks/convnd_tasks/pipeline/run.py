"""What `convnd stylize` does once it knows its plan."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from convnd.errors import ConvndError, UsageError
from convnd_tasks.pipeline.output import Summary
from convnd_tasks.pipeline.progress import Display

if TYPE_CHECKING:
    from convnd_tasks.pipeline.job import Job, Outcome
    from convnd_tasks.pipeline.resolve import Plan

__all__ = ["carry_out", "check_paper", "check_report_of", "drawing_of"]


def check_paper(plan: Plan, paper: Path | None) -> None:
    """Refuse ECG paper for what is not one signal.

    Raises:
        UsageError: likewise.
    """
    if paper is not None:
        _check_one_signal(plan, "--paper", "leave it out")


def drawing_of(plan: Plan, paper: Path | None, *, demo: bool) -> Path | None:
    """Where the picture of a signal goes, a place that can be written to; None for no picture.

    Whether it may replace one is found out with the result, like for a report.

    Raises:
        UsageError: see `check_paper`; or another kind of file.
        OutputFileError: it cannot be written there.
    """
    from importlib.util import find_spec

    from convnd import io

    check_paper(plan, paper)
    if paper is not None and paper.suffix.lower() != ".png":
        raise UsageError(f"--paper: expected a name ending in .png, got {paper.name!r}; change it")
    if paper is None and demo and plan.dim == 1 and find_spec("matplotlib") is not None:
        paper = io.next_free_path(plan.outputs[0].with_suffix(".png"))
    if paper is not None:
        io.check_output(paper, overwrite=True)
    return paper


def check_report_of(plan: Plan, report: Path | None) -> None:
    """Find out, before any work, that the report can be made.

    Raises:
        UsageError: there is not one signal.
        OutputFileError: it cannot be written there.
        DependencyError: what draws it is missing.
    """
    if report is None:
        return
    from convnd.io.signals.signal import import_optional
    from convnd_tasks.pipeline.report import check_report

    _check_one_signal(plan, "--report", "leave it out, or use stylize-volume or stylize-video")
    check_report(report, overwrite=True)
    import_optional("matplotlib.figure", "report")


def _check_one_signal(plan: Plan, option: str, remedy: str) -> None:
    if plan.dim != 1 or plan.batch:
        got = "a folder" if plan.dim == 1 else f"{plan.dim} spatial axes"
        raise UsageError(f"{option}: expected one signal, got {got}; {remedy}")


def carry_out(
    plan: Plan,
    job: Job,
    *,
    overwrite: bool,
    save_every: int,
    checkpoint_every: int,
    resume: bool,
    skip_existing: bool,
    quiet: bool,
    rate: float | None = None,
    drawing: Path | None = None,
    report: Path | None = None,
    summary: Summary,
) -> None:
    """The jobs of a plan, one after the other, and what comes beside their results.

    Args:
        plan: what is asked for.
        job: does each of them.
        overwrite: see `convnd_tasks.pipeline.job.Job.run`, like the next four.
        save_every: steps.
        checkpoint_every: steps.
        resume: from checkpoints.
        skip_existing: leave results alone that were made like this.
        quiet: no progress bar.
        rate: samples per second of signals that do not say it.
        drawing: see `drawing_of`.
        report: a file of HTML.
        summary: is told of every result.

    Raises:
        ConvndError: the only job failed; of several the others are done first.
        typer.Exit: some of several failed, code 1.
    """
    from convnd.optimize import ProcessGroup
    from convnd_tasks.pipeline.provenance import say_made

    failed = 0
    group = ProcessGroup.current()
    if plan.batch and group.size > 1:  # each does files of its own, and says so
        plan = plan.shard(group.rank + 1, group.size)
        summary.speak()
    may_be_there = overwrite or resume or skip_existing
    beside = [each for each in (drawing, report) if each is not None]
    jobs = plan.open(job.options.seed, overwrite=may_be_there, rate=rate)
    for number, (content, target) in enumerate(jobs):
        if plan.remark and number == 0 and group.rank == 0:
            typer.echo(plan.remark, err=True)
        try:
            with Display(enabled=not quiet and sys.stderr.isatty()) as display:
                inputs = content()
                outcome = job.run(
                    inputs,
                    target,
                    overwrite=overwrite,
                    save_every=save_every,
                    checkpoint_every=checkpoint_every,
                    resume=resume,
                    skip_existing=skip_existing,
                    beside=beside,
                    watch=display.show,
                    tell=display.tell,
                )
        except ConvndError as error:
            if not plan.batch or isinstance(error, UsageError):
                raise
            failed += 1
            summary.append("failed", {"output": str(target), "error": str(error)})
            typer.echo(f"convnd: {error}", err=True)
            continue
        if outcome is None:
            summary.append("skipped", {"output": str(target)})
            say_made(target, beside)
            continue
        _say(outcome, summary)
        if drawing is not None and outcome.grid is not None:
            from convnd_tasks.modalities.signals.ecg_plot import draw

            draw(drawing, inputs, outcome.grid, overwrite=outcome.overwrite)
            summary.add(paper=str(drawing))
            typer.echo(f"{drawing}  traces and spectra")
        if report is not None and outcome.grid is not None:
            from convnd_tasks.modalities.signals import report as signal_report

            signal_report.write(
                report,
                inputs,
                outcome.grid,
                outcome.losses,
                job.options.record(),
                remarks=outcome.remarks,
                overwrite=outcome.overwrite,
            )
            summary.add(report=str(report))
            typer.echo(str(report))
        if outcome.stopped is not None:
            raise outcome.stopped
    count = len(plan.outputs)
    if plan.batch:  # together: whoever leaves early would take the others along
        failed, count = group.all_reduce_ints(failed, count)
    if failed:
        if group.rank == 0:
            typer.echo(f"convnd: {failed} of {count} failed", err=True)
        raise typer.Exit(1)


def _say(outcome: Outcome, summary: Summary) -> None:
    if outcome.grid is None:
        return
    summary.append(
        "results",
        {
            "output": str(outcome.path),
            "shape": list(outcome.grid.shape),
            "steps": outcome.steps,
            "rejected_steps": outcome.rejected_steps,
            "loss": outcome.loss,
            "seconds": round(outcome.seconds, 3),
            "stopped_early": outcome.stopped is not None,
            "remarks": list(outcome.remarks),
        },
    )
    extent = "x".join(str(each) for each in reversed(outcome.grid.shape))
    stopped = "" if outcome.stopped is None else "stopped early, kept: "
    back = f" ({outcome.rejected_steps} rejected)" if outcome.rejected_steps else ""
    typer.echo(
        f"{stopped}{outcome.path}  {extent}, {outcome.steps} steps{back}, loss {outcome.loss:.4g}, "
        f"{outcome.seconds:.1f} s"
    )
