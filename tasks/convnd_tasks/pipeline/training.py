"""The job of ``convnd train``: from names of inputs to the file of a network."""

from __future__ import annotations

import dataclasses
import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from convnd import __version__
from convnd.feedforward.network_file import StyleNetwork, write_network
from convnd.feedforward.network_shape import NetworkShape
from convnd.feedforward.transform_net import TransformNet
from convnd.io.atomic import atomic_path, check_target
from convnd.transfer.objective import TransferObjective
from convnd.transfer.training import TrainingPlan, losses_so_far, train_network
from convnd_tasks.modalities.style_network import stored_style
from convnd_tasks.pipeline.provenance import input_entry, versions
from convnd_tasks.pipeline.training_contents import ContentPool
from convnd_tasks.pipeline.training_options import TrainingOptions
from convnd_tasks.runtime.checkpoints import Checkpointer, RunLog

if TYPE_CHECKING:
    from torch import Tensor

    from convnd.feedforward.look_net import LookNet
    from convnd.grid import Grid
    from convnd.transfer.progress import Progress
    from convnd_tasks.modalities.base import Modality
    from convnd_tasks.modalities.inputs import PreparedInputs

__all__ = ["DEFAULTS", "DEFAULTS_ABOVE", "Train", "TrainingJob", "TrainingResult"]

Train = Callable[[Mapping[str, Any] | None], Iterator["Progress"]]
"""Yields the steps of a training, from a state to resume from."""

DEFAULTS: dict[int, dict[str, int]] = {
    1: {"steps": 600, "crop": 8192, "batch": 1, "size": 0},
    # 620 steps take 10 minutes on two cores with AVX2.
    # With the weight of `stylize` a network for pictures gives up the content for the style.
    2: {"steps": 620, "crop": 384, "batch": 1, "size": 512, "style_weight": 6, "motion_weight": 1},
    3: {"steps": 800, "crop": 32, "batch": 1, "size": 0},
}
"""Numbers of a training that does not name them, by number of axes."""

DEFAULTS_ABOVE = {"steps": 200, "crop": 16, "batch": 1, "size": 0}


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """A trained network and the course of its training.

    Args:
        trained: the network with its styles and its record.
        losses: the objective ("total") and its weighted terms at every step.
        seconds: wall time of the training.
        stopped: the signal that ended it early, or None.
    """

    trained: StyleNetwork
    losses: Mapping[str, Sequence[float]]
    seconds: float
    stopped: BaseException | None = None


class TrainingJob:
    """Trains a network for one set of styles.

    Args:
        modality: the kind of data with the options of the objective, see `make_modality`.
        styles: the styles, at least one.
        names: paths or sample names of the styles.
        contents: paths of files, or grids; empty takes the built-in contents.
        options: options of the training.
    """

    previews: ClassVar[Sequence[str]] = ("losses.svg", "preview.png")
    """Ends of the names of the pictures that a training draws beside its file."""

    def __init__(
        self,
        modality: Modality,
        styles: Sequence[Grid],
        names: Sequence[str],
        contents: Sequence[str | Grid],
        options: TrainingOptions,
    ) -> None:
        self.kind, self.dim, self.options = modality.name, modality.spatial_dims, options
        self.styles, self.names, self.modality, self.contents = styles, names, modality, contents
        self.pool = ContentPool.of(modality, styles, names, contents)
        defaults = self._defaults()
        self.plan = TrainingPlan(
            steps=options.steps or defaults["steps"],
            crop=options.crop or defaults["crop"],
            batch=options.batch or defaults["batch"],
            learning_rate=options.learning_rate,
            motion_weight=defaults.get("motion_weight", 0)
            if options.motion_weight is None
            else options.motion_weight,
            tolerance=options.tolerance,
            seed=options.seed,
        )

    def _defaults(self) -> Mapping[str, int]:
        """Return steps, crop and batch of a training that does not name them."""
        return DEFAULTS.get(self.dim, DEFAULTS_ABOVE)

    def run(
        self,
        output: Path | None,
        *,
        overwrite: bool = False,
        on_progress: Callable[[Progress], None] | None = None,
        on_message: Callable[[str], None] | None = None,
    ) -> TrainingResult:
        """Train the network, and write its file.

        Args:
            output: path of the file; None writes nothing.
            overwrite: whether existing files may be replaced, beside those of a resumed run.
            on_progress: is called with every step.
            on_message: is called with lines for users.

        Raises:
            OutputExistsError: the file, a picture beside it, or a file in the place of the
                checkpoint exists and may not be replaced.
            InputFileError: no content can be read, or they do not fit the styles.
            NumericalError: a loss is not finite.
        """
        started = time.monotonic()
        every = self.options.checkpoint_every if output is not None else 0
        checkpointer = Checkpointer(output or Path("network"), every)
        # What was stopped has a checkpoint, and is continued rather than refused.
        overwrite = overwrite or (self.options.resume and checkpointer.exists())
        if output is not None:
            pictures = self._preview_paths(output).values() if self.options.preview_every else ()
            for path in (output, *pictures):
                check_target(path, overwrite=overwrite)
            checkpointer.check(resume=self.options.resume, overwrite=overwrite)
        self.pool.on_message = on_message or self.pool.on_message
        network, styles, train = self._prepare()
        state = checkpointer.open(
            self.options,
            [self.kind, self.dim, *self.pool.fingerprint(), *styles],
            resume=self.options.resume,
        )
        log = RunLog(losses={} if state is None else losses_so_far(state))

        def on_step(progress: Progress) -> None:
            if on_progress is not None:
                on_progress(progress)
            if output is not None:
                self._preview(network, output, progress, log.losses)

        log.follow(_until(train(state), started, 60 * self.options.minutes), checkpointer, on_step)
        seconds = time.monotonic() - started
        trained = StyleNetwork(
            network=network.cpu().eval().requires_grad_(requires_grad=False),
            kind=self.kind,
            styles=[stored_style(style) for style in self.styles],
            record=self._record(log),
        )
        if output is not None:
            write_network(output, trained, overwrite=overwrite)
            if log.stopped is None:
                checkpointer.close()
        return TrainingResult(
            trained=trained, losses=log.losses, seconds=seconds, stopped=log.stopped
        )

    def _prepare(self) -> tuple[TransformNet | LookNet, Sequence[Tensor], Train]:
        """Return the network, tensors that a checkpoint belongs to, and what trains the network."""
        example = self.pool.example()
        network, objective = self._make_network(example), self._make_objective(example)
        network.to(objective.device)

        def train(state: Mapping[str, Any] | None) -> Iterator[Progress]:
            return train_network(network, self.pool.draw, objective, self.plan, resume=state)

        return network, example.styles, train

    def _make_network(self, example: PreparedInputs) -> TransformNet:
        shape = NetworkShape.for_rank(self.dim, channels=example.styles[0].shape[1])
        sizes = {name: getattr(self.options, name) for name in ("width", "levels", "blocks")}
        typed = {name: value for name, value in sizes.items() if value is not None}
        network = TransformNet(dataclasses.replace(shape, **typed))
        network.initialize(self.options.seed)
        network.set_style(example.styles)
        return network

    def _make_objective(self, example: PreparedInputs) -> TransferObjective:
        more: dict[str, Any] = {}
        if self.kind == "volumes":
            from convnd_tasks.modalities.volumes.paint_transfer import square_planes

            more["planes"] = tuple(square_planes(example.size, example.spacing))
        return TransferObjective(
            self.modality.options,
            spatial_dims=self.dim,
            in_channels=example.styles[0].shape[1],
            **more,
        )

    def _preview(
        self,
        network: TransformNet | LookNet,
        output: Path,
        progress: Progress,
        losses: Mapping[str, Sequence[float]],
    ) -> None:
        """Write the network's result for the first content and the losses so far, if due."""
        from convnd_tasks.runtime.plots import loss_curve

        every = self.options.preview_every
        if not every or progress.step % every:
            return
        curve = loss_curve({name: _averages(part) for name, part in losses.items()})
        pictures = {"losses.svg": curve, **self._pictures(network, progress)}
        for name, path in self._preview_paths(output).items():
            with atomic_path(path, overwrite=True) as temporary:
                temporary.write_bytes(pictures[name])

    def _preview_paths(self, output: Path) -> dict[str, Path]:
        """Return the paths of the pictures beside the file, by the end of their names."""
        return {name: output.with_name(f"{output.stem}-{name}") for name in self.previews}

    def _pictures(self, network: TransformNet | LookNet, progress: Progress) -> Mapping[str, bytes]:
        """Draw the network's result for the first content, by the end of the file's name."""
        from convnd_tasks.modalities.figures import draw_comparison

        example = self.pool.example()
        content = example.content
        assert content is not None
        with torch.no_grad():
            source = content if example.initial is None else example.initial(content)
            result = example.decode(network(source.to(progress.values.device)).cpu())
        return {"preview.png": draw_comparison(example.decode(content), self.styles, result)}

    def _record(self, log: RunLog) -> dict[str, str]:
        """The record of the training, which the file holds."""
        losses, stopped = log.losses, log.stopped
        last = {name: sum(part := values[-50:]) / len(part) for name, values in losses.items()}
        shown = {
            name: [round(value, 5) for value in _means(values, 100)]
            for name, values in losses.items()
        }
        data = [name for name in self.contents if isinstance(name, str)]
        return {
            "Software": f"convnd {__version__}",
            "convnd:styles": json.dumps([input_entry(name) for name in self.names]),
            "convnd:data": f"{len(self.contents)} files" if data else "built-in",
            "convnd:versions": json.dumps(versions()),
            **{f"convnd:{name}": text for name, text in self.options.record().items()},
            "convnd:modality": self.kind,
            "convnd:dim": str(self.dim),
            "convnd:plan": json.dumps(dataclasses.asdict(self.plan)),
            "convnd:steps_taken": str(len(losses.get("total", ()))),
            "convnd:losses": json.dumps({name: round(value, 6) for name, value in last.items()}),
            "convnd:loss_course": json.dumps(shown),
            **({} if stopped is None else {"convnd:stopped": type(stopped).__name__}),
        }


def _until(steps: Iterable[Progress], started: float, limit: float) -> Iterator[Progress]:
    """Yield the steps of a training up to a limit of time; time counts as work that is done.

    Args:
        steps: the steps.
        started: when the training began, by the monotonic clock.
        limit: seconds after which the training ends; 0 is no limit.
    """
    for progress in steps:
        share = (time.monotonic() - started) / limit if limit else 0.0
        done = max(progress.fraction_done, min(1.0, share))
        yield dataclasses.replace(progress, fraction_done=done)
        if limit and time.monotonic() - started >= limit:
            return


def _means(values: Sequence[float], count: int) -> list[float]:
    """Average the values of each of at most ``count`` equal parts of a sequence."""
    size = -(-len(values) // count)
    parts = [values[start : start + size] for start in range(0, len(values), max(1, size))]
    return [sum(part) / len(part) for part in parts]


def _averages(values: Sequence[float]) -> list[float]:
    """Average each value with at most 49 before it; crops differ much."""
    sums = [0.0, *itertools.accumulate(values)]
    spans = [(max(0, end - 50), end) for end in range(1, len(sums))]
    return [(sums[end] - sums[start]) / (end - start) for start, end in spans]
