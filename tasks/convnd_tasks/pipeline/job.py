"""A job, with the same steps for every kind of data: check, open, run, write, report."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd.backbones import choose_device
from convnd.errors import (
    ConvndError,
    NumericalError,
    ResourceError,
    UsageError,
    is_out_of_memory,
)
from convnd.io.registry import find_format
from convnd_tasks.modalities import modality_class
from convnd_tasks.modalities.base import Transfer
from convnd_tasks.modalities.inputs import TransferInputs
from convnd_tasks.modalities.opening import check_input
from convnd_tasks.modalities.results import JobResult
from convnd_tasks.pipeline.provenance import job_parameters
from convnd_tasks.pipeline.result_files import Output, ResultWriter, Skipped, check_outputs
from convnd_tasks.pipeline.watching import Watcher
from convnd_tasks.runtime.checkpoints import Checkpointer, RunLog

if TYPE_CHECKING:
    from convnd.optimize import ProcessGroup
    from convnd.transfer.options import TransferOptions
    from convnd.transfer.progress import Progress
    from convnd_tasks.modalities.base import Modality
    from convnd_tasks.pipeline.job_spec import JobSpec
    from convnd_tasks.runtime.settings import JobSettings

__all__ = ["Job"]


class _Notes:
    """Collects the lines for users about one transfer, and passes each on at once."""

    def __init__(self, on_message: Callable[[str], None] | None) -> None:
        self.lines: list[str] = []
        self._on_message = on_message

    def add(self, *lines: str) -> None:
        self.lines += lines
        if self._on_message is not None:
            for line in lines:
                self._on_message(line)


class Job:
    """Transfers of one kind of data that share options, settings, styles and networks.

    Args:
        spec: inputs and outputs of the job, from `resolve`.
        options: options of the transfers.
        settings: how inputs are read and results written.
        group: the processes that share each transfer; None is this one alone.

    Raises:
        UsageError: an option names something that does not exist.
        InputFileError: the mask, or a map of regions, does not exist.
        ResourceError: this machine does not have the device of the options.
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
        choose_device(options.device)  # before files: the remedy is another option
        self.modality: Modality = modality_class(spec.modality)(options, settings, spec.dim)
        self.modality.check()
        maps = [settings.regions, *settings.style_regions]
        for name in (settings.mask, *maps):
            if name is not None and name not in self.modality.named_regions:
                check_input(name, "mask")
        self._shared: dict[tuple[str, str], Any] = {}
        self._announced = False

    def run(
        self,
        content: str | None,
        target: Path | None,
        *,
        inputs: TransferInputs | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        on_message: Callable[[str], None] | None = None,
        on_tile: Callable[[int, int], None] | None = None,
        watcher: Watcher | None = None,
    ) -> JobResult | Skipped:
        """Check, open, run, write and report one transfer.

        If a signal stops the work, the result so far is written where the kind of data allows it.

        Args:
            content: path or sample name; None makes a texture.
            target: path of the result; None returns it without writing anything.
            inputs: the inputs, if they are open already; None opens them.
            on_progress: is called with every step.
            on_message: is called with lines for users.
            on_tile: see `Transfer.on_tile`.
            watcher: is told of the transfer, its checkpoints and its result; None is nobody.

        Returns:
            The result, or the one that exists and that ``--skip-existing`` leaves alone.

        Raises:
            OutputExistsError: the result, or a file beside it, exists and may not be replaced. This
                is checked before any work.
            InputFileError: an input cannot be read or stylised.
            ResourceError: there is not enough memory.
            NumericalError: loss or gradient is not finite; the last good result was written beside
                the target.
        """
        started = time.monotonic()
        notes = _Notes(on_message)
        watcher = Watcher() if watcher is None else watcher
        checkpointer = self.modality.checkpointer(target, self.group)
        checkpointer.on_saved = watcher.on_checkpoint
        output = None
        if target is not None:
            checked = check_outputs(
                target, self.modality, self.spec, checkpointer, lambda: self.record(content)
            )
            if isinstance(checked, Skipped):
                return checked
            output = checked
        inputs = inputs or self.open(content)
        transfer = self._prepare(content, inputs, output, notes)
        transfer.on_tile = on_tile
        watcher.on_prepared(transfer, target)
        state = checkpointer.open(self.options, transfer.fingerprint(), resume=self.settings.resume)
        writer = ResultWriter(self.modality, inputs, transfer, output, notes.add)
        log = self._optimise(transfer, checkpointer, writer, state, on_progress, notes)
        with self._note_kept_work(checkpointer, notes):
            outcome = self._finish(inputs, writer, log, notes, target or Path("result"), started)
        if log.stopped is None:
            checkpointer.close()
        watcher.on_result(outcome)
        return outcome

    def _prepare(
        self, content: str | None, inputs: TransferInputs, output: Output | None, notes: _Notes
    ) -> Transfer:
        """Encode the inputs, and check before the optimisation that the result can be written."""
        transfer = self.modality.prepare(inputs)
        if self.settings.change and transfer.changes is None:
            raise UsageError(
                "--change",
                expected="an optimisation in one pass, with a strength above 0",
                got="none",
                remedy="leave it out",
            )
        if self.spec.message and not self._announced:  # before the first transfer only
            notes.add(self.spec.message)
        self._announced = True
        notes.add(*transfer.messages)
        if output is not None:
            lost = self.modality.lost_metadata(output.path, inputs)
            if lost:
                notes.add(f"{output.path.name} has no place for: {', '.join(lost)}")
            self.modality.check_output(output.path, inputs, overwrite=output.overwrite)
            transfer.check_writable(output.path)
            if self.settings.metadata and not output.record:
                output.record = self.record(content)
        return transfer

    def _finish(
        self,
        inputs: TransferInputs,
        writer: ResultWriter,
        log: RunLog,
        notes: _Notes,
        path: Path,
        started: float,
    ) -> JobResult:
        """Write result, figures and report."""
        assert log.last is not None
        # Only a checkpoint needs the state, which is as large as ten results.
        log.last = dataclasses.replace(log.last, state=dict)
        result, metrics = writer.write(log.last, log.stopped)
        outcome = JobResult(
            path=path,
            result=result,
            steps=log.last.step,
            loss=log.last.loss,
            rejected_steps=log.last.rejected_steps,
            seconds=time.monotonic() - started,
            stopped=log.stopped,
            losses=log.losses,
            messages=notes.lines,
            record=metrics,
        )
        if result is not None and writer.output is not None and writer.output.side_files:
            from convnd_tasks.pipeline.transfer_report import illustrate

            outcome = illustrate(self.modality, self.spec, inputs, outcome, writer.output)
        return outcome

    def with_style(self, style: str) -> Job:
        """Return the job of one style alone, which shares networks with this one."""
        job = copy.copy(self)
        job.spec = dataclasses.replace(self.spec, styles=(style,), each_style=False)
        job._shared = {key: value for key, value in self._shared.items() if key[1] != "style"}
        return job

    def open(self, content: str | None) -> TransferInputs:
        """Read the inputs of one transfer; inputs that transfers share are read once.

        Args:
            content: path or sample name; None is a texture.

        Raises:
            ConvndError: an input cannot be read.
        """
        spec, settings = self.spec, self.settings
        grid = None if content is None else self.modality.open(content, "content")
        styles = [self._open_shared(name, "style", grid) for name in spec.styles]
        init = None if spec.init is None else self._open_shared(spec.init, "init", grid)
        mask = None if settings.mask is None else self._open_shared(settings.mask, "mask", grid)
        return TransferInputs(
            content=grid,
            styles=styles,
            names=[*filter(None, (content, *spec.styles, spec.init, settings.mask))],
            init=init,
            mask=mask,
            regions=self.modality.open_regions(grid, spec.regions, spec.shared_numbers),
            keyframes=spec.keyframes,
            rate_given=settings.rate is not None,
        )

    def open_shared(self) -> None:
        """Read the inputs that all transfers share, so that an error in them ends the job early.

        Raises:
            ConvndError: an input cannot be read.
        """
        # Styles for one content each are read one after the other: there may be many.
        for name in () if self.spec.each_style else self.spec.styles:
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
        # A built-in scan is made with the voxels of each content; only styles may be pictures.
        if self.spec.modality != "volumes":
            return False
        file_format = find_format(name)
        is_picture = file_format is not None and file_format.spatial_dims == 2
        return is_picture or not Path(name).suffix

    def record(self, content: str | None) -> dict[str, str]:
        """Return the part of the result's record that is known before the work.

        Args:
            content: path or sample name; None is a texture.
        """
        processes = 1 if self.group is None else self.group.size
        return job_parameters(self.spec, content, self.options, self.settings, processes=processes)

    def _optimise(
        self,
        transfer: Transfer,
        checkpointer: Checkpointer,
        writer: ResultWriter,
        state: Mapping[str, Any] | None,
        on_progress: Callable[[Progress], None] | None,
        notes: _Notes,
    ) -> RunLog:
        """Take all steps; after an error, write the last good result if there is one."""
        log, partial = RunLog(), self.modality.keeps_partial_result

        def on_step(progress: Progress) -> None:
            if on_progress is not None:
                on_progress(progress)
            writer.save_numbered(progress)

        try:
            with self._note_kept_work(checkpointer, notes):
                steps = transfer.run(state=state, group=self.group, on_message=notes.add)
                log.follow(steps, checkpointer, on_step, partial=partial)
        except Exception as error:
            can_write = partial and log.last is not None and writer.output is not None
            if isinstance(error, NumericalError) and can_write:
                assert log.last is not None
                raise writer.save_last_good(error, log.last) from error
            raise self._translate(error) from error
        return log

    def _translate(self, error: Exception) -> Exception:
        """Turn an error of torch about memory into one of ours; return others as they are."""
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
    def _note_kept_work(self, checkpointer: Checkpointer, notes: _Notes) -> Iterator[None]:
        """Tell users about kept work if an error or a signal ends this block."""
        try:
            yield
        except BaseException as error:
            message = checkpointer.kept_message(error)
            if message:
                notes.add(message)
            raise
