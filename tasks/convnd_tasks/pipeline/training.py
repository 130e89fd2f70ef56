"""Training of a network for one style: contents, objective, checkpoints, previews, the file."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from convnd import __version__
from convnd.errors import ConvndError, InputFileError, StopSignal, UsageError
from convnd.feedforward.network_file import StyleNetwork, write_network
from convnd.feedforward.transform_net import NetworkShape, TransformNet
from convnd.io.atomic import atomic_path, check_target
from convnd.transfer.objective import TransferObjective
from convnd.transfer.resizing import Resizer
from convnd.transfer.training import TrainingPlan, train_network
from convnd_tasks import samples
from convnd_tasks.modalities import modality_class, options_class
from convnd_tasks.modalities.base import TransferInputs
from convnd_tasks.modalities.grid_transfer import GridTransfer
from convnd_tasks.modalities.style_network import is_network, stored_style
from convnd_tasks.pipeline.folders import list_contents
from convnd_tasks.pipeline.kinds import infer_kind
from convnd_tasks.pipeline.provenance import input_entry, versions
from convnd_tasks.pipeline.training_options import TrainingOptions
from convnd_tasks.runtime.checkpoints import Checkpointer
from convnd_tasks.runtime.settings import JobSettings

if TYPE_CHECKING:
    from convnd.grid import Grid
    from convnd.transfer.problem import TransferProblem
    from convnd.transfer.progress import Progress
    from convnd_tasks.modalities.base import Modality, PreparedInputs

__all__ = ["TrainingJob", "TrainingResult", "list_data", "make_modality", "open_job"]

_DEFAULTS: dict[int, dict[str, int]] = {
    1: {"steps": 600, "crop": 8192, "batch": 1, "size": 0},
    # With the weight of `stylize` a network for pictures gives up the content for the style.
    2: {"steps": 3000, "crop": 160, "batch": 2, "size": 512, "style_weight": 6},
    3: {"steps": 800, "crop": 32, "batch": 1, "size": 0},
}
_DEFAULTS_ABOVE = {"steps": 200, "crop": 16, "batch": 1, "size": 0}

_SEEDS = 8
"""Variations of each built-in content."""

_MOST_SAMPLES = 2**26
"""Samples of encoded contents that stay in memory."""


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """A trained network and the course of its training.

    Args:
        trained: the network with its styles and its record.
        losses: the objective ("total") and its weighted terms at every step.
        seconds: time that it took.
        stopped: what ended it early, or None.
    """

    trained: StyleNetwork
    losses: Mapping[str, Sequence[float]]
    seconds: float
    stopped: BaseException | None = None


class TrainingJob:
    """Trains a network for one set of styles.

    Args:
        modality: of the data, see `make_modality`.
        styles: at least one, open.
        names: paths or sample names of the styles.
        contents: names of files, or grids; empty takes the built-in contents.
        options: see `TrainingOptions`.

    """

    def __init__(
        self,
        modality: Modality,
        styles: Sequence[Grid],
        names: Sequence[str],
        contents: Sequence[str | Grid],
        options: TrainingOptions,
    ) -> None:
        self.kind, self.dim, self.options = modality.name, modality.spatial_dims, options
        self.styles, self.names, self.modality = styles, names, modality
        self.contents, dim = contents, modality.spatial_dims
        self.pool = _ContentPool(
            modality, styles, names, contents or _built_in(dim), built_in=not contents
        )
        defaults = _DEFAULTS.get(dim, _DEFAULTS_ABOVE)
        self.plan = TrainingPlan(
            steps=options.steps or defaults["steps"],
            crop=options.crop or defaults["crop"],
            batch=options.batch or defaults["batch"],
            learning_rate=options.learning_rate,
            tolerance=options.tolerance,
            seed=options.seed,
        )

    def run(
        self,
        output: Path | None,
        *,
        overwrite: bool = False,
        on_progress: Callable[[Progress], None] | None = None,
        on_message: Callable[[str], None] | None = None,
    ) -> TrainingResult:
        """Train, and write the file.

        Args:
            output: path of the file; None writes nothing.
            overwrite: whether it may be replaced.
            on_progress: is called with every step.
            on_message: is called with lines that users should know.

        Raises:
            OutputExistsError: the file exists and may not be replaced.
            InputFileError: no content can be read, or they do not fit the styles.
            NumericalError: a loss is not finite.
        """
        started = time.monotonic()
        if output is not None:
            check_target(output, overwrite=overwrite or self.options.resume)
        self.pool.on_message = on_message or self.pool.on_message
        example = self.pool.example()
        network = self._make_network(example)
        objective = self._make_objective(example)
        every = self.options.checkpoint_every if output is not None else 0
        checkpointer = Checkpointer(output or Path("network"), every)
        state = checkpointer.open(
            self.options,  # type: ignore[arg-type]
            [self.kind, self.dim, *self.pool.fingerprint(), *example.styles],
            resume=self.options.resume,
        )
        stopped: BaseException | None = None
        losses: dict[str, list[float]] = {}
        limit = self.options.minutes * 60
        try:
            with checkpointer.interrupt.signals():
                for progress in train_network(
                    network, self.pool.draw, objective, self.plan, resume=state
                ):
                    for name, value in {"total": progress.loss, **progress.parts}.items():
                        losses.setdefault(name, []).append(value)
                    if on_progress is not None:
                        on_progress(progress)
                    if output is not None:
                        self._preview(network, output, progress)
                    checkpointer.after_step(progress)
                    if limit and time.monotonic() - started >= limit:
                        break
        except (KeyboardInterrupt, StopSignal) as error:
            if not losses:
                raise
            stopped = error.with_traceback(None)
        seconds = time.monotonic() - started
        trained = StyleNetwork(
            network=network.eval().requires_grad_(requires_grad=False),
            kind=self.kind,
            styles=[stored_style(style) for style in self.styles],
            record=self._record(losses, stopped),
        )
        if output is not None:
            write_network(output, trained, overwrite=overwrite or self.options.resume)
            if stopped is None:
                checkpointer.close()
        return TrainingResult(trained=trained, losses=losses, seconds=seconds, stopped=stopped)

    def _make_network(self, example: PreparedInputs) -> TransformNet:
        options, channels = self.options, example.styles[0].shape[1]
        shape = NetworkShape.for_rank(self.dim, channels)
        given = {name: getattr(options, name) for name in ("width", "levels", "blocks")}
        shape = dataclasses.replace(
            shape, **{name: value for name, value in given.items() if value is not None}
        )
        network = TransformNet(shape)
        network.initialize(options.seed)
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

    def _preview(self, network: TransformNet, output: Path, progress: Progress) -> None:
        """Write a picture of what the network makes of the first content."""
        from convnd_tasks.modalities.figures import draw_comparison

        every = self.options.preview_every
        if not every or progress.step % every:
            return
        example = self.pool.example()
        content = example.content
        assert content is not None
        with torch.no_grad():
            source = content if example.initial is None else example.initial(content)
            result = example.decode(network(source))
        picture = draw_comparison(example.decode(content), self.styles, result)
        path = output.with_name(f"{output.stem}-preview.png")
        with atomic_path(path, overwrite=True) as temporary:
            temporary.write_bytes(picture)

    def _record(
        self, losses: Mapping[str, Sequence[float]], stopped: BaseException | None
    ) -> dict[str, str]:
        """How the network was trained, as text."""
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


@dataclass
class _ContentPool:
    """Draws contents, encoded; as many as fit stay in memory.

    Args:
        modality: encodes.
        styles: open.
        style_names: of the styles.
        contents: names of files or of samples with ``#seed``, or grids.
        built_in: whether the contents are samples.
    """

    modality: Modality
    styles: Sequence[Grid]
    style_names: Sequence[str]
    contents: Sequence[str | Grid]
    built_in: bool = False
    on_message: Callable[[str], None] = field(default=lambda _: None)
    _encoded: dict[int, PreparedInputs] = field(default_factory=dict)
    _failed: set[int] = field(default_factory=set)

    def draw(self, generator: torch.Generator) -> TransferProblem:
        """A content at random; one that cannot be read gives way to the next."""
        return self._next(int(torch.randint(len(self.contents), (1,), generator=generator)))

    def example(self) -> PreparedInputs:
        """The first content that can be read."""
        return self._next(0)

    def fingerprint(self) -> list[str]:
        """Texts that identify the contents: their names, and the sizes of files."""
        texts = []
        for content in self.contents:
            if isinstance(content, str):
                path = Path(content)
                texts.append(f"{path.name} {path.stat().st_size if path.is_file() else ''}")
            else:
                texts.append(str(tuple(content.values.shape)))
        return texts

    def _next(self, first: int) -> PreparedInputs:
        count = len(self.contents)
        for step in range(count):
            number = (first + step) % count
            if number in self._encoded:
                return self._encoded[number]
            if number in self._failed:
                continue
            try:
                return self._encode(number)
            except ConvndError as error:
                if count == 1:
                    raise
                self._failed.add(number)
                if not self.built_in:  # not all of the built-in ones fit every style
                    self.on_message(f"left out: {error}")
        raise InputFileError(
            "train",
            expected="a content that can be read and fits the styles",
            got=f"none of {count}",
            remedy="give other --data",
        )

    def _encode(self, number: int) -> PreparedInputs:
        content = self.contents[number]
        if isinstance(content, str):
            name, _, seed = content.partition("#")
            if self.built_in:
                grid = samples.content(
                    name, spatial_dims=self.modality.spatial_dims, seed=int(seed)
                )
            else:
                name, grid = content, self.modality.open(content, "content")
        else:
            grid, name = content, "content"
        inputs = TransferInputs(content=grid, styles=self.styles, names=[name, *self.style_names])
        transfer = self.modality.prepare(inputs)
        assert isinstance(transfer, GridTransfer)
        prepared = _at_working_size(transfer.prepared)
        held = sum(one.content.numel() for one in self._encoded.values() if one.content is not None)
        assert prepared.content is not None
        while self._encoded and held + prepared.content.numel() > _MOST_SAMPLES:
            oldest = self._encoded.pop(next(iter(self._encoded)))
            held -= 0 if oldest.content is None else oldest.content.numel()
        self._encoded[number] = prepared
        return prepared


def _at_working_size(prepared: PreparedInputs) -> PreparedInputs:
    """The inputs with a content of the result's size."""
    content = prepared.content
    assert content is not None
    resized = Resizer(content.device).resize(content, prepared.size)
    return dataclasses.replace(prepared, content=resized)


def make_modality(kind: str, dim: int, options: TrainingOptions) -> Modality:
    """The kind of data with the options of its objective.

    Args:
        kind: of the data, see `convnd_tasks.modalities`.
        dim: number of spatial axes.
        options: of the training.

    Raises:
        UsageError: the kind of data has no such networks, or an option does not fit.
    """
    if kind == "videos":
        raise UsageError(
            "train",
            expected="pictures, signals, arrays or volumes",
            got="videos",
            remedy="train on pictures (--dim 2); such a network takes videos frame by frame",
        )
    defaults = _DEFAULTS.get(dim, _DEFAULTS_ABOVE)
    given: dict[str, Any] = {
        "backbone": options.backbone or ("compact-1d" if dim == 1 else "compact"),
        "content_weight": options.content_weight,
        "style_weight": defaults.get("style_weight")
        if options.style_weight is None
        else options.style_weight,
        "style_scale": options.style_scale,
        "tv_weight": options.tv_weight,
        "device": options.device,
        "seed": options.seed,
    }
    if kind == "volumes":
        given["transfer"] = "paint"
    else:
        given["size"] = defaults["size"] if options.size is None else options.size
    chosen = options_class(kind).for_dim(dim, **given)
    modality = modality_class(kind)(chosen, JobSettings(), dim)
    modality.check()
    return modality


def _built_in(dim: int) -> list[str]:
    """The built-in contents, each with several seeds."""
    names = samples.contents(dim)
    if dim == 3:  # a video is no volume, and bodies are small
        names = [name for name in names if name != "video"]
    return [f"{name}#{seed}" for seed in range(_SEEDS) for name in names]


def list_data(folder: str, kind: str, dim: int) -> list[str]:
    """The files of a folder that a network is trained on.

    Raises:
        InputFileError: it is no folder, or holds no such file.
    """
    path = Path(folder)
    if not path.is_dir():
        raise InputFileError(
            f"--data {folder}",
            expected="a folder",
            got="a file" if path.exists() else "nothing of this name",
            remedy="name a folder of contents",
        )
    return [str(file) for file in list_contents(path, kind, dim).files]


def _means(values: Sequence[float], count: int) -> list[float]:
    """Means over at most ``count`` equal parts of a sequence."""
    size = -(-len(values) // count)
    parts = [values[start : start + size] for start in range(0, len(values), max(1, size))]
    return [sum(part) / len(part) for part in parts]


def open_job(
    styles: Sequence[str],
    dim: int | None,
    data: str | None,
    options: TrainingOptions,
    output: Path | None,
) -> TrainingJob:
    """The job of a training on files.

    Args:
        styles: paths or names of built-in samples.
        dim: number of spatial axes as typed, or None.
        data: folder of contents; None takes the built-in ones.
        options: see `TrainingOptions`.
        output: path of the file, which has to be one of safetensors.

    Raises:
        UsageError: the files disagree, nothing tells the rank, or an option does not fit.
        InputFileError: a style or the folder cannot be read.
    """
    if output is not None and not is_network(output.name):
        raise UsageError(
            "--output",
            expected="a name that ends in .safetensors",
            got=repr(output.name),
            remedy="for example style.safetensors",
        )
    rank, kind = infer_kind(styles, dim, None, None, texture=True)
    modality = make_modality(kind, rank, options)
    contents = [] if data is None else list_data(data, kind, rank)
    grids = [modality.open(name, "style") for name in styles]
    return TrainingJob(modality, grids, styles, contents, options)
