"""One style transfer from files to a file, and what people see while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from convnd import __version__, io
from convnd.errors import NumericalError, Stopped
from convnd_tasks import arrays, images
from convnd_tasks.kind import Prepare, Prepared
from convnd_tasks.options import StyleOptions

if TYPE_CHECKING:
    from torch import Tensor

    from convnd.grid import Grid
    from convnd_tasks.style_transfer import Progress, StyleTransfer

__all__ = ["Inputs", "Job", "Outcome"]

# A picture is red, green and blue together; elsewhere every channel is a field of its own.
_KINDS: dict[int, Prepare] = {2: images.prepare}


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Grids of one transfer and what they are called.

    Args:
        content: None for a texture.
        styles: at least one.
        names: of content and styles, for the record.
        start: the iterate to start with, or None.
    """

    content: Grid | None
    styles: Sequence[Grid]
    names: Sequence[str]
    start: Grid | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a job left behind.

    Args:
        path: the result.
        shape: its extents.
        steps: taken.
        loss: at the end.
        seconds: from reading to written.
        stopped: what ended it before its last step, or None.
    """

    path: Path
    shape: tuple[int, ...]
    steps: int
    loss: float
    seconds: float
    stopped: BaseException | None


class Job:
    """Transfers that share options, a backbone and a kind of data.

    Args:
        options: see `StyleOptions`.
        dim: number of spatial axes.
        record: keep options and input names inside the result.
        quality: of JPEG and WebP, 1 to 100.
    """

    def __init__(
        self, options: StyleOptions, dim: int, *, record: bool = True, quality: int | None = None
    ) -> None:
        self.options = options
        self.dim = dim
        self.keep_record = record
        self.quality = quality
        self._transfer: StyleTransfer | None = None

    def transfer(self) -> StyleTransfer:
        """The backbone, made ready on first use."""
        from convnd_tasks.style_transfer import StyleTransfer

        if self._transfer is None:
            channels = 3 if self.dim in _KINDS else 1
            self._transfer = StyleTransfer(
                self.options, spatial_dims=self.dim, in_channels=channels
            )
        return self._transfer

    def prepare(self, inputs: Inputs) -> tuple[Prepared, Tensor | None]:
        """Values to work on, and the start when a file gives it.

        Raises:
            InputFileError: the data cannot be stylised.
        """
        prepare = _KINDS.get(self.dim, arrays.prepare)
        prepared = prepare(inputs.content, inputs.styles, self.options)
        if inputs.start is None:
            return prepared, None
        started = prepare(inputs.start, inputs.styles, self.options)
        return prepared, started.content

    def run(
        self,
        inputs: Inputs,
        output: Path,
        *,
        overwrite: bool = False,
        save_every: int = 0,
        watch: Callable[[Progress], None] | None = None,
    ) -> Outcome:
        """Transfer and write; Ctrl-C writes what there is.

        Args:
            inputs: what to work on.
            output: the result's path.
            overwrite: replace an existing file.
            save_every: also write every so many steps, beside the output; 0 is never.
            watch: is told of every step.

        Raises:
            OutputExistsError: the output is there and ``overwrite`` is not set.
            NumericalError: the last good result was written beside the output first.
        """
        began = time.monotonic()
        io.check_output(output, overwrite=overwrite)
        prepared, start = self.prepare(inputs)
        transfer = self.transfer()
        last: Progress | None = None
        stopped: BaseException | None = None
        try:
            for progress in transfer.run(
                prepared.content,
                prepared.styles,
                size=prepared.size,
                spacing=prepared.spacing,
                start=start,
            ):
                last = progress
                if watch is not None:
                    watch(progress)
                if save_every and progress.step and progress.step % save_every == 0:
                    numbered = _beside(output, f"{progress.step:06d}")
                    self._write(numbered, prepared, progress, inputs, overwrite)
        except (KeyboardInterrupt, Stopped) as error:
            if last is None:
                raise
            stopped = error
        except NumericalError as error:
            if last is None:
                raise
            kept = _beside(output, "last-good")
            self._write(kept, prepared, last, inputs, overwrite=True)
            raise NumericalError(f"{error}; the last good result is in {kept}") from error
        assert last is not None
        grid = self._write(output, prepared, last, inputs, overwrite)
        return Outcome(
            path=output,
            shape=grid.shape,
            steps=last.step,
            loss=last.loss,
            seconds=time.monotonic() - began,
            stopped=stopped,
        )

    def _write(
        self,
        path: Path,
        prepared: Prepared,
        progress: Progress,
        inputs: Inputs,
        overwrite: bool,
    ) -> Grid:
        from convnd.nn import resize_nd

        values = progress.values.cpu()
        if tuple(values.shape[2:]) != tuple(prepared.size):  # stopped at a coarse scale
            values = resize_nd(values, prepared.size, mode="cubic")
        grid = prepared.restore(values)
        io.write(
            path,
            grid,
            overwrite=overwrite,
            record=self.record(inputs, progress) if self.keep_record else None,
            quality=self.quality,
        )
        return grid

    def record(self, inputs: Inputs, progress: Progress) -> dict[str, str]:
        """What made a result: version, inputs by name, options, steps and loss."""
        return {
            "Software": f"convnd {__version__}",
            "convnd:inputs": " ".join(inputs.names),
            **{f"convnd:{name}": value for name, value in self.options.record().items()},
            "convnd:steps_taken": str(progress.step),
            "convnd:loss": f"{progress.loss:.6g}",
        }


def _beside(path: Path, note: str) -> Path:
    # Both parts of .nii.gz count as the suffix; nothing else compounds.
    ending = "".join(path.suffixes[-2:]) if path.suffix.lower() == ".gz" else path.suffix
    return path.with_name(f"{path.name.removesuffix(ending)}-{note}{ending}")
