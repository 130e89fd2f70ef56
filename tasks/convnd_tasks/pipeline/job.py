"""One job, the same for every kind of data: check, open, run, write, report."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd import io
from convnd.errors import (
    ConvndError,
    NumericalError,
    ResourceError,
    StopSignal,
    UsageError,
    is_out_of_memory,
)
from convnd.io.atomic import atomic_path, check_target
from convnd_tasks.modalities import modality_class
from convnd_tasks.modalities.base import Figure, JobResult, Transfer, TransferInputs
from convnd_tasks.pipeline.provenance import is_up_to_date, job_parameters
from convnd_tasks.pipeline.report import check_report
from convnd_tasks.pipeline.result_writer import Output, ResultWriter
from convnd_tasks.runtime.checkpoints import Checkpointer

if TYPE_CHECKING:
    from convnd.optimize import ProcessGroup
    from convnd.transfer.options import TransferOptions
    from convnd.transfer.progress import Progress
    from convnd_tasks.modalities.base import Modality
    from convnd_tasks.pipeline.resolve import JobSpec
    from convnd_tasks.runtime.settings import JobSettings

__all__ = ["Job", "Skipped"]


@dataclass(frozen=True)
class Skipped:
    """A result that exists already and was left alone.

    Args:
        path: the result.
        side_files: figures and report that were asked for with it.
    """

    path: Path
    side_files: Sequence[Path]


@dataclass
class _Log:
    """What a run leaves behind beside its result."""

    last: Progress | None = None
    losses: dict[str, list[float]] = field(default_factory=dict)
    stopped: BaseException | None = None

    def add(self, progress: Progress) -> None:
        self.last = progress
        for name, value in {"total": progress.loss, **progress.parts}.items():
            self.losses.setdefault(name, []).append(value)


class Job:
    """Transfers of one kind of data that share options, settings, styles and networks.

    Args:
        spec: what was asked for, see `resolve`.
        options: how results look.
        settings: how inputs are read and results written.
        group: the processes that share each transfer; None is this one alone.

    Raises:
        UsageError: an option names something that does not exist.
    """

    def __init__(
        self,
        spec: JobSpec,
        options: TransferOptions,
        settings: JobSettings,
        *,
        group: ProcessGroup | None = None,
    ) -> None:
        self.spec = spec
        self.options = options
        self.settings = settings
        self.group = group
        self.modality: Modality = modality_class(spec.modality)(options, settings, spec.dim)
        self.modality.check()
        self._shared: dict[tuple[str, str], Any] = {}
        self._said = False
        self.draws_figures = settings.figures
        if settings.figures is None:
            modality = self.modality
            self.draws_figures = (
                modality.draws_demo_figures if spec.demo else modality.draws_figures
            )

    def run(
        self,
        content: str | None,
        target: Path | None,
        *,
        inputs: TransferInputs | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        on_message: Callable[[str], None] | None = None,
    ) -> JobResult | Skipped:
        """Check, open, run, write and report one transfer.

        A signal that stops the work writes what there is, where the kind of data allows it.

        Args:
            content: path or sample name; None makes a texture.
            target: path of the result; None returns it without writing anything.
            inputs: the inputs, if they are open already.
            on_progress: is called with every step.
            on_message: is called with lines that users should know.

        Raises:
            OutputExistsError: the result, or a file beside it, exists and may not be replaced;
                found out before any work is done.
            InputFileError: an input cannot be read or stylised.
            ResourceError: there is not enough memory.
            NumericalError: the last good result was written beside the target first.
        """
        started = time.monotonic()
        messages: list[str] = []

        def say(line: str) -> None:
            messages.append(line)
            if on_message is not None:
                on_message(line)

        checkpointer = self.modality.checkpointer(target, self.group)
        output = None if target is None else self._check_outputs(content, target, checkpointer)
        if isinstance(output, Skipped):
            return output
        inputs = inputs or self.open(content)
        transfer = self.modality.prepare(inputs)
        for message in (*self._first_messages(), *transfer.messages):
            say(message)
        for message in () if output is None else self._lost_metadata(output.path, inputs):
            say(message)
        if output is not None:
            self.modality.check_output(output.path, inputs, overwrite=output.overwrite)
            transfer.check_writable(output.path)
            if self.settings.metadata and not output.record:
                output.record = self._parameters(content)
        state = checkpointer.open(self.options, transfer.fingerprint(), resume=self.settings.resume)
        writer = ResultWriter(self.modality, inputs, transfer, output, say)
        log = self._optimise(transfer, checkpointer, writer, state, on_progress, say)
        assert log.last is not None
        # Only a checkpoint needs the state, which is as large as ten results.
        log.last = dataclasses.replace(log.last, state=dict)
        with self._kept_on_error(checkpointer, say):
            result, metrics = writer.write(log.last, log.stopped)
            outcome = JobResult(
                path=target or Path("result"),
                result=result,
                steps=log.last.step,
                loss=log.last.loss,
                rejected_steps=log.last.rejected_steps,
                seconds=time.monotonic() - started,
                stopped=log.stopped,
                losses=log.losses,
                messages=messages,
                record=metrics,
            )
            if result is not None and output is not None:
                outcome = self._illustrate(inputs, outcome, output)
        if log.stopped is None:
            checkpointer.close()
        return outcome

    def open(self, content: str | None) -> TransferInputs:
        """Read the inputs of one transfer; styles are read once for all.

        Raises:
            ConvndError: an input cannot be read.
        """
        spec, settings = self.spec, self.settings
        grid = None if content is None else self.modality.open(content, "content")
        styles = [self._open_shared(name, "style", grid) for name in spec.styles]
        init = None if spec.init is None else self._open_shared(spec.init, "init", grid)
        mask = None if settings.mask is None else self._open_shared(settings.mask, "mask", grid)
        names = (content, *spec.styles, spec.init, settings.mask)
        return TransferInputs(
            content=grid,
            styles=styles,
            names=[name for name in names if name is not None],
            init=init,
            mask=mask,
            rate_given=settings.rate is not None,
        )

    def open_shared(self) -> None:
        """Read the inputs that all transfers share, so that a wrong one is told before any work.

        Raises:
            ConvndError: one of them cannot be read.
        """
        for name in self.spec.styles:
            if not self._depends_on_content(name):
                self._open_shared(name, "style", None)
        for role, path in (("init", self.spec.init), ("mask", self.settings.mask)):
            if path is not None:
                self._open_shared(path, role, None)

    def _open_shared(self, name: str, role: str, content: Any) -> Any:
        if self._depends_on_content(name):
            return self.modality.open(name, role, content)
        if (name, role) not in self._shared:
            self._shared[name, role] = self.modality.open(name, role, content)
        return self._shared[name, role]

    def _depends_on_content(self, name: str) -> bool:
        # A built-in scan has voxels like the content's, so it is made for each.
        return self.spec.modality == "volumes" and not Path(name).suffix

    def _parameters(self, content: str | None) -> dict[str, str]:
        return job_parameters(
            self.spec,
            content,
            self.options,
            self.settings,
            processes=1 if self.group is None else self.group.size,
        )

    def _side_files(self, target: Path) -> dict[str, Path]:
        """Paths of the figures by name, and of the report as "report"."""
        stem = io.extend_stem(target, "x").name.rpartition("-x")[0]
        names = self.modality.figure_names() if self.draws_figures else []
        paths = {name: target.with_name(f"{stem}-{name}.png") for name in names}
        # Nobody asked for these names: a demo works a second time, and results that differ in
        # their suffix keep their figures apart.
        if self.spec.demo or (self.settings.figures is None and not target.exists()):
            paths = {name: io.next_free_path(path) for name, path in paths.items()}
        if self.settings.report is not None:
            paths["report"] = self.settings.report
        return paths

    def _check_outputs(
        self, content: str | None, target: Path, checkpointer: Checkpointer
    ) -> Output | Skipped:
        """Check, before any input is read, that everything can be written."""
        settings = self.settings
        # What was stopped has a checkpoint, and is continued rather than refused.
        overwrite = settings.overwrite or (settings.resume and checkpointer.exists())
        output = Output(target, self._side_files(target), overwrite)
        self._check_not_an_input(target)
        if settings.skip_existing:
            output.record = self._parameters(content)
            if is_up_to_date(target, output.record, overwrite=overwrite):
                return Skipped(target, list(output.side_files.values()))
        self.modality.check_output(target, None, overwrite=overwrite)
        for name, path in output.side_files.items():
            if name == "report":
                check_report(path, overwrite=overwrite)
            else:
                check_target(path, overwrite=overwrite)
        if settings.save_every:
            for path in sorted(target.parent.glob(io.extend_stem(target, "[0-9]" * 6).name)):
                self.modality.check_output(path, None, overwrite=overwrite)
        checkpointer.check(resume=settings.resume, overwrite=settings.overwrite)
        return output

    def _check_not_an_input(self, target: Path) -> None:
        """Refuse to replace an input, or a file that an input is read from."""
        outputs = [file for file in io.files_written(target) if file.exists()]
        names = (*self.spec.contents, *self.spec.styles, self.spec.init, self.settings.mask)
        for name in names if outputs else ():
            if name is None or not Path(name).exists():
                continue
            inputs = io.files_read(name)
            if any(file.samefile(output) for file in inputs for output in outputs):
                raise UsageError(
                    f"write {target}: expected another file than the input {name}, got the same; "
                    "choose another name with --output"
                )

    def _first_messages(self) -> list[str]:
        """What the files alone tell, once for all transfers, and not before they are checked."""
        said, self._said = self._said, True
        return [self.spec.message] if self.spec.message and not said else []

    def _lost_metadata(self, target: Path, inputs: TransferInputs) -> list[str]:
        lost = self.modality.lost_metadata(target, inputs)
        return [f"{target.name} has no place for: {', '.join(lost)}"] if lost else []

    def _optimise(
        self,
        transfer: Transfer,
        checkpointer: Checkpointer,
        writer: ResultWriter,
        state: Mapping[str, Any] | None,
        on_progress: Callable[[Progress], None] | None,
        say: Callable[[str], None],
    ) -> _Log:
        """Take all steps; a signal ends them early, where partial results are written."""
        log = _Log()
        try:
            with checkpointer.interrupt.signals():
                for progress in transfer.run(state=state, group=self.group, on_message=say):
                    log.add(progress)
                    if on_progress is not None:
                        on_progress(progress)
                    writer.save_numbered(progress)
                    checkpointer.after_step(progress)
        except (KeyboardInterrupt, StopSignal) as error:
            if log.last is None or not self.modality.keeps_partial_result:
                self._say_kept(checkpointer, error, say)
                raise
            log.stopped = error.with_traceback(None)  # its frames hold the optimiser's memory
        except Exception as error:
            self._say_kept(checkpointer, error, say)
            partial = log.last is not None and self.modality.keeps_partial_result
            if isinstance(error, NumericalError) and partial and writer.output is not None:
                raise writer.save_last_good(error, log.last) from error
            raise self._translate(error) from error
        return log

    def _translate(self, error: Exception) -> Exception:
        """An error of torch about memory as one of ours."""
        if isinstance(error, ConvndError) or not isinstance(error, RuntimeError | MemoryError):
            return error
        if not is_out_of_memory(error):
            return error
        smaller = "crop the content" if "size" in self.modality.unsupported else "a smaller --size"
        return ResourceError(
            "style transfer",
            expected="enough memory",
            got="none left",
            remedy=f"use --memory with less than is free, or {smaller}",
        )

    @contextlib.contextmanager
    def _kept_on_error(
        self, checkpointer: Checkpointer, say: Callable[[str], None]
    ) -> Iterator[None]:
        """Tell users about kept work if the result cannot be written."""
        try:
            yield
        except BaseException as error:
            self._say_kept(checkpointer, error, say)
            raise

    @staticmethod
    def _say_kept(
        checkpointer: Checkpointer, error: BaseException, say: Callable[[str], None]
    ) -> None:
        message = checkpointer.kept_message(error)
        if message:
            say(message)

    def _illustrate(self, inputs: TransferInputs, outcome: JobResult, output: Output) -> JobResult:
        """Write figures and report."""
        if not output.side_files:
            return outcome
        figures: Sequence[Figure] = self.modality.figures(inputs, outcome)
        written = []
        for figure in figures:
            path = output.side_files.get(figure.name)
            if path is not None:
                with atomic_path(path, overwrite=output.overwrite) as temporary:
                    temporary.write_bytes(figure.png)
                written.append(path)
        report = output.side_files.get("report")
        if report is not None:
            from convnd_tasks.pipeline.transfer_report import write_report

            write_report(
                report,
                self.modality,
                self.spec,
                inputs,
                outcome,
                figures,
                overwrite=output.overwrite,
            )
        return dataclasses.replace(outcome, figures=written, report=report)
