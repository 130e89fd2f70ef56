"""One style transfer from files to a file, and what people see while it runs."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from convnd import io
from convnd.errors import NumericalError, ResourceError, StopSignal
from convnd.io.atomic import check_target
from convnd.transfer.options import TransferOptions
from convnd_tasks.modalities import arrays
from convnd_tasks.modalities.base import Inputs, Prepared
from convnd_tasks.modalities.images import codec as images
from convnd_tasks.modalities.signals import codec as signals
from convnd_tasks.pipeline.checkpoints import Keeping, keep_last_good
from convnd_tasks.pipeline.provenance import INPUT, figures, is_made, parameters

if TYPE_CHECKING:
    from convnd.grid import Grid
    from convnd.optimize import ProcessGroup
    from convnd.transfer.style_transfer import Progress, StyleTransfer

__all__ = ["Job", "Outcome"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a job left behind.

    Args:
        path: the result.
        grid: what was written; None in a process that leaves this to another.
        steps: taken.
        loss: at the end.
        rejected_steps: number of rejected steps, see `convnd.optimize.minimize`.
        seconds: from reading to written.
        stopped: what ended it before its last step, or None.
        overwrite: files that come beside it may be replaced.
        losses: the objective and its weighted parts at every step.
        remarks: what was done to the inputs.
    """

    path: Path
    grid: Grid | None
    steps: int
    loss: float
    rejected_steps: int
    seconds: float
    stopped: BaseException | None
    overwrite: bool = False
    losses: Mapping[str, Sequence[float]] = field(default_factory=dict)
    remarks: Sequence[str] = ()


class Job:
    """Transfers that share options, a backbone and a kind of data.

    Args:
        options: see `TransferOptions`.
        dim: number of spatial axes.
        record: keep options and input names inside the result.
        quality: of JPEG and WebP, 1 to 100.
        group: the processes that do each transfer together; None is this one alone.
    """

    def __init__(
        self,
        options: TransferOptions,
        dim: int,
        *,
        record: bool = True,
        quality: int | None = None,
        group: ProcessGroup | None = None,
    ) -> None:
        from convnd.transfer.style_transfer import check_names

        check_names(options)
        self.options = options
        self.dim = dim
        self.keep_record = record
        self.quality = quality
        self.group = group
        self._transfers: dict[int, StyleTransfer] = {}

    def transfer(self, channels: int) -> StyleTransfer:
        """The backbone for this many channels, made ready on first use."""
        from convnd.transfer.style_transfer import StyleTransfer

        if channels not in self._transfers:
            self._transfers[channels] = StyleTransfer(
                self.options, spatial_dims=self.dim, in_channels=channels
            )
        return self._transfers[channels]

    def prepare(self, inputs: Inputs) -> Prepared:
        """Values to work on.

        Raises:
            InputFileError: the data cannot be stylised.
        """
        pictures = all(grid.channels == ("R", "G", "B") for _, grid, _ in inputs.named())
        if self.dim == 2 and pictures:
            return images.prepare(inputs, self.options)
        if self.dim == 1:
            return signals.prepare(inputs, self.options)
        return arrays.prepare(inputs, self.options)

    def run(
        self,
        inputs: Inputs,
        output: Path,
        *,
        overwrite: bool = False,
        save_every: int = 0,
        checkpoint_every: int = 0,
        resume: bool = False,
        skip_existing: bool = False,
        beside: Sequence[Path] = (),
        watch: Callable[[Progress], None] | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> Outcome | None:
        """Transfer and write; Ctrl-C writes what there is.

        Args:
            inputs: what to work on.
            output: the result's path.
            overwrite: replace existing files.
            save_every: also write every so many steps, beside the output; 0 is never.
            checkpoint_every: keep a checkpoint beside the output every so many steps, and when
                a signal stops the work, which then waits for its step to end; 0 is never.
            resume: go on from the checkpoint, if there is one; the output may then be replaced.
            skip_existing: do nothing where the output was made with the same parameters.
            beside: files that are to come beside it; they may be there where it may be replaced.
            watch: is told of every step.
            tell: is told in a line what else there is to know, such as what was done to inputs.

        Returns:
            None where the result was there already.

        Raises:
            OutputExistsError: the output, or a numbered one, is there and ``overwrite`` is not
                set, or it was made otherwise than is wanted; found out before any work is done.
            ShapeError: the output's format cannot hold such data; likewise.
            ResourceError: there is not enough memory.
            NumericalError: the last good result was written beside the output first.
        """
        from convnd.errors import is_out_of_memory

        began = time.monotonic()
        keeping = Keeping(output, checkpoint_every, self.group)
        made_from = self.parameters(inputs) if skip_existing else {}
        # What was stopped has a checkpoint beside it, and is gone on with rather than refused.
        overwrite = overwrite or (resume and keeping.path.exists())
        if skip_existing and is_made(output, made_from, overwrite=overwrite):
            return None
        io.check_output(output, overwrite=overwrite, provenance=self.keep_record)
        for other in beside:
            check_target(other, overwrite=overwrite)
        if save_every:
            for taken in sorted(output.parent.glob(io.extend_stem(output, "[0-9]" * 6).name)):
                io.check_output(taken, overwrite=overwrite, provenance=self.keep_record)
        prepared = self.prepare(inputs)
        lost = list(
            io.lost_metadata(output, inputs.styles[0] if inputs.content is None else inputs.content)
        )
        if inputs.typed and "sampling rate" in lost:  # it was not known by a file either
            lost.remove("sampling rate")
        if lost:
            remark = f"{output.name} has no place for: {', '.join(lost)}"
            prepared = dataclasses.replace(prepared, remarks=(*prepared.remarks, remark))
        if tell is not None:
            for remark in prepared.remarks:
                tell(remark)
        like = prepared.styles[0]
        io.dry_run_write(
            output, prepared.restore(like.new_zeros((*like.shape[:2], *[2] * self.dim)))
        )
        if self.keep_record and not made_from:
            made_from = self.parameters(inputs)
        values = [prepared.content, prepared.start, *prepared.styles]
        state = keeping.open(
            self.options, [self.dim, prepared.size, prepared.spacing, *values], resume=resume
        )
        transfer = self.transfer(prepared.styles[0].shape[1])
        last: Progress | None = None
        saved = 0
        losses: dict[str, list[float]] = {}
        stopped: BaseException | None = None
        try:
            with keeping.stopping.signals():
                for progress in transfer.run(
                    **prepared.arguments(), say=tell, resume=state, group=self.group
                ):
                    last = progress
                    for name, value in {"all": progress.loss, **progress.parts}.items():
                        losses.setdefault(name, []).append(value)
                    if watch is not None:
                        watch(progress)
                    # A new scale starts with the step that the one before ended with.
                    if save_every and progress.step % save_every == 0 and progress.step > saved:
                        saved = progress.step
                        numbered = io.extend_stem(output, f"{progress.step:06d}")
                        self._write(numbered, prepared, progress, made_from, overwrite)
                    keeping.after(progress)
        except (KeyboardInterrupt, StopSignal) as error:
            if last is None:
                raise
            stopped = error.with_traceback(None)  # whose frames hold the optimiser's memory
        except NumericalError as error:
            if last is None:
                raise
            good, cause = last, error  # names that outlive this block
            raise keep_last_good(
                error,
                output,
                lambda path: self._write(path, prepared, good, made_from, False, cause),
            ) from error
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise ResourceError(
                f"style transfer: expected enough memory at {prepared.size}, got none left; use "
                "a smaller --size or --backbone compact, or --memory to be more careful with it"
            ) from error
        assert last is not None
        # What only a checkpoint needs is as large as ten results or more: gone before one is made.
        last = progress = dataclasses.replace(last, state=dict)
        grid = self._write(output, prepared, last, made_from, overwrite, stopped)
        if stopped is None:
            keeping.close()
        return Outcome(
            path=output,
            grid=grid,
            steps=last.step,
            loss=last.loss,
            rejected_steps=last.rejected_steps,
            seconds=time.monotonic() - began,
            stopped=stopped,
            overwrite=overwrite,
            losses=losses,
            remarks=prepared.remarks,
        )

    def _write(
        self,
        path: Path,
        prepared: Prepared,
        progress: Progress,
        made_from: Mapping[str, str],
        overwrite: bool,
        stopped: BaseException | None = None,
    ) -> Grid | None:
        from convnd.nn import resize_nd

        whole = progress.whole()
        if whole is None:  # another process writes
            return None
        values = whole.cpu()
        if tuple(values.shape[2:]) != tuple(prepared.size):  # stopped at a coarse scale
            values = resize_nd(values, prepared.size, mode="cubic")
        grid = prepared.restore(values)
        went = figures(progress.step, progress.loss, stopped, progress.rejected_steps)
        went |= prepared.facts
        io.write(
            path,
            grid,
            overwrite=overwrite,
            provenance={**made_from, **went} if self.keep_record else None,
            quality=self.quality,
        )
        return grid

    def parameters(self, inputs: Inputs) -> dict[str, str]:
        """What makes a result, see `convnd_tasks.pipeline.provenance.parameters`."""
        places = [INPUT % number for number in range(len(inputs.names))]
        extra = [f"--dim={self.dim}", *inputs.typed]
        extra += [] if self.quality is None else [f"--quality={self.quality}"]
        extra += ["--texture"] if inputs.content is None else []
        extra += [] if inputs.start is None else [f"--init={places.pop()}"]
        without = () if inputs.start is None else ("init",)
        return {
            **parameters(
                "stylize",
                inputs.names,
                self.options,
                extra=extra,
                order=places,
                without=without,
                processes=1 if self.group is None else self.group.size,
            ),
            "convnd:dim": str(self.dim),
            **({} if inputs.start is None else {"convnd:init": Path(inputs.names[-1]).name}),
            **({} if self.quality is None else {"convnd:quality": str(self.quality)}),
        }
