"""``convnd patches`` from names to a folder of results."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from convnd.backbones import Backbone, Precision, choose_device
from convnd.errors import (
    ConvndError,
    InputFileError,
    NumericalError,
    OutputExistsError,
    ShapeError,
)
from convnd.nn import pad_nd
from convnd.registry import unknown_name
from convnd_tasks.inspect import views
from convnd_tasks.inspect.folder import new_folder
from convnd_tasks.inspect.inputs import gather
from convnd_tasks.inspect.networks import load_network
from convnd_tasks.inspect.options import PatchOptions
from convnd_tasks.inspect.reading import Input
from convnd_tasks.inspect.records import PatchFiles, write_tables
from convnd_tasks.inspect.saliency import METHODS, explain
from convnd_tasks.inspect.search import DISTINCT, Found, Patch, cut_patches, find_patches
from convnd_tasks.inspect.sheet import sheet
from convnd_tasks.inspect.thumbnails import legend, thumbnail, tile_side
from convnd_tasks.inspect.units import fields_of, parse_units
from convnd_tasks.pipeline.checkpoints import keep_last_good
from convnd_tasks.pipeline.deterministic import make_deterministic
from convnd_tasks.pipeline.output import note_work
from convnd_tasks.pipeline.report import Report, check_report

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convnd_tasks.inspect.thumbnails import Lattice

    Tiles = dict[tuple[str, int], dict[int, NDArray[np.uint8]]]

__all__ = ["Outcome", "run"]

_LOG = logging.getLogger(__name__)


@dataclass
class Outcome:
    """What a run left behind.

    Args:
        inputs: looked at.
        patches: cut.
        pictures: files, in their final place.
        failed: why inputs were left out.
        remarks: steps that were taken back, a line for each layer.
    """

    inputs: int = 0
    patches: int = 0
    pictures: list[Path] = field(default_factory=list)
    failed: list[ConvndError] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def run(
    names: Sequence[str],
    dim: int | None,
    options: PatchOptions,
    output: Path,
    *,
    report: Path | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> Outcome:
    """Find, cut, draw and write.

    Args:
        names: files, folders or samples.
        dim: number of spatial axes, or None.
        options: see `PatchOptions`.
        output: folder to make; it appears when everything in it is done.
        report: page to make, or None.
        overwrite: replace files in an existing folder, and the page.
        progress: draw a bar on stderr.

    Raises:
        NumericalError: an optimal input left the finite numbers; the message names a folder with
            what there was before.
        ConvndError: nothing can be read at all, a name or number is wrong, or the results cannot
            be written; nothing is left then.
    """
    if options.explain and options.explain not in METHODS:
        raise unknown_name("--explain", options.explain, list(METHODS))
    if options.distinct not in DISTINCT:
        raise unknown_name("--distinct", options.distinct, list(DISTINCT))
    if report is not None:
        check_report(report, overwrite=overwrite)
    if output.exists() and not overwrite:
        raise OutputExistsError(
            f"write {output}: expected a new folder, got one that exists; choose another with "
            "--output, or replace what is in it (--overwrite)"
        )
    make_deterministic(options.deterministic)
    inputs, dim = gather(names, dim, seed=options.seed)
    network = load_network(
        options.backbone,
        options.layers,
        spatial_dims=dim,
        in_channels=_channels(inputs, options),
    ).to(choose_device(options.device))
    note_work(_LOG, options.backbone, choose_device(options.device), Precision())
    units = {
        layer: parse_units(options.units, width, layer=layer, seed=options.seed)
        for layer, width in _widths(network, options.layers).items()
    }
    extra = views.resolve(options, dim)
    with new_folder(output) as folder:
        outcome = Outcome()
        with _bar(len(inputs), enabled=progress) as advance:
            found = find_patches(
                network,
                inputs,
                units,
                top=options.top,
                distinct=options.distinct,
                size=options.size,
                scale=options.scale,
                batch=options.batch,
                device=choose_device(options.device),
                watch=advance,
            )
        outcome.inputs = found.inputs
        outcome.failed = list(found.failed.values())
        if len(found.failed) == found.inputs:
            first = next(iter(found.failed.values()))
            if found.inputs == 1:
                raise first
            raise InputFileError(
                f"patches: expected inputs that can be read, got {found.inputs} that cannot, the "
                f"first: {first}"
            )
        tiles, causes, lattices = _cut(network, found, inputs, options, folder, outcome)
        page = Report(
            "What the units look for",
            lead=f"{options.backbone} on {found.inputs} input{'' if found.inputs == 1 else 's'}, "
            f"{dim} spatial {'axis' if dim == 1 else 'axes'}. For each unit the patches "
            "that excite it most, strongest first; pale blue is beyond the border of an input.",
        )
        try:
            for layer in options.layers:
                _draw(
                    layer, found, tiles, causes, lattices.get(layer, set()), options, folder, page
                )
                views.add(
                    network,
                    layer,
                    units[layer],
                    extra,
                    options,
                    folder,
                    page,
                    say=outcome.remarks.append,
                )
        except NumericalError as error:
            write_tables(folder, found, options.record(), outcome.remarks)
            raise keep_last_good(error, output, folder.rename) from error
        if found.failed:
            page.section("Inputs left out")
            page.table(["input", "why"], [[n, str(e)] for n, e in found.failed.items()])
        write_tables(folder, found, options.record(), outcome.remarks)
        pictures = sorted(path.name for path in folder.glob("*.png"))
        if report is not None:
            page.write(report, overwrite=overwrite)
    outcome.pictures = [output / name for name in pictures]
    return outcome


def _cut(
    network: Backbone,
    found: Found,
    inputs: Sequence[Input],
    options: PatchOptions,
    folder: Path,
    outcome: Outcome,
) -> tuple[Tiles, Tiles, dict[str, set[Lattice]]]:
    """Write the patches, and keep a small picture of each, and of what in it excited the unit."""
    tiles: Tiles = {}
    causes: Tiles = {}
    lattices: dict[str, set[Lattice]] = {}
    with PatchFiles(folder) as files:
        for patch in cut_patches(found, inputs, size=options.size, scale=options.scale):
            files.add(patch)
            outcome.patches += 1
            grid = patch.grid
            lattices.setdefault(patch.hit.layer, set()).add((grid.spacing, grid.units, grid.axes))
            key, rank = (patch.hit.layer, patch.hit.unit), patch.hit.rank
            tiles.setdefault(key, {})[rank] = _tile(patch, patch.shown, found)
            if options.explain:
                cause = views.relative(_cause(network, patch, options.explain))
                causes.setdefault(key, {})[rank] = _tile(patch, cause, found, zero=0.5)
    return tiles, causes, lattices


def _tile(
    patch: Patch, values: torch.Tensor, found: Found, zero: float | None = None
) -> NDArray[np.uint8]:
    return thumbnail(
        values,
        tile_side(found.fields[patch.hit.layer].span),
        window=patch.hit.window,
        region=patch.hit.region,
        axes=patch.grid.axes,
        spacing=patch.grid.spacing,
        zero=zero,
    )


def _cause(network: Backbone, patch: Patch, method: str) -> torch.Tensor:
    """The picture of what excited the unit, within the patch.

    The patch alone goes through the network: to the unit nothing outside of it matters.
    """
    hit = patch.hit
    # Strides count from the border of the input, so it begins at a multiple of the layer's.
    steps = [int(step) for step in network.receptive_fields[hit.layer].stride]
    first = [part.start // step for part, step in zip(hit.region, steps, strict=True)]
    before = [
        part.start - at * step for part, at, step in zip(hit.region, first, steps, strict=True)
    ]
    x = pad_nd(patch.shown, [(count, 0) for count in before])
    position = [at - origin for at, origin in zip(hit.position, first, strict=True)]
    device = next(network.parameters(), x).device
    gradient = explain(network, x.to(device), hit.layer, hit.unit, position, method=method)
    inner = [slice(count, None) for count in before]
    return gradient[(slice(None), slice(None), *inner)].cpu()


def _draw(
    layer: str,
    found: Found,
    tiles: Tiles,
    causes: Tiles,
    lattices: set[Lattice],
    options: PatchOptions,
    folder: Path,
    page: Report,
) -> None:
    """The pictures of a layer, and its section of the page."""
    units = [unit for name, unit in found.best if name == layer]
    seen = legend(found.fields[layer].span, lattices)
    quiet = [unit for unit in units if not found.best[layer, unit]]
    hits = [hit for unit in units for hit in found.hits(layer, unit)]
    text = f"Each unit sees {seen}."
    if quiet:
        text += f" Never active: {', '.join(map(str, quiet))}."
    cropped = sum(hit.cropped for hit in hits)
    if cropped:
        text += f" {cropped} of {len(hits)} patches reach beyond the border of their input."
    page.section(layer, text)
    nothing = "the grey line" if len(found.fields[layer].span) == 1 else "middle grey"
    for note, kind, caption in (
        ("", tiles, f"The {options.top} patches that excite each unit most."),
        (
            f"_{options.explain}",
            causes,
            f"What in these patches excited it ({options.explain}): {nothing} is nothing; it would "
            "be excited more by more of what is above or brighter.",
        ),
    ):
        if kind is causes and not options.explain:
            continue
        picture = sheet(
            {
                f"unit {unit}": [
                    kind.get((layer, unit), {}).get(rank) for rank in range(1, options.top + 1)
                ]
                for unit in units
            },
            top=options.top,
            title=f"{layer}{note.replace('_', ', ')}: each unit sees {seen}",
        )
        views.save(folder / f"{layer}{note}.png", picture, page, caption)
    strongest = [hit for hit in hits if hit.rank == 1]
    short = _short([hit.input for hit in strongest])
    page.table(
        ["unit", "activation", "input", "from", "to"],
        [
            [
                hit.unit,
                hit.value,
                short[hit.input] + ("" if hit.channel is None else f", channel {hit.channel}"),
                ", ".join(str(part.start) for part in hit.region),
                ", ".join(str(part.stop) for part in hit.region),
            ]
            for hit in strongest
        ],
        caption="Where the strongest of each unit lies",
        folded=True,
    )


def _short(names: Sequence[str]) -> dict[str, str]:
    """Names without the folder that all of them lie in."""
    folders = {str(Path(name).parent) for name in names}
    try:
        shared = os.path.commonpath(folders) if folders else ""
    except ValueError:  # some are absolute and some are not
        shared = ""
    return {name: os.path.relpath(name, shared) if shared else name for name in names}


def _channels(inputs: Sequence[Input], options: PatchOptions) -> int:
    """Three for colours, one for everything else; the first input that can be read tells."""
    if ":" in options.backbone:
        return 0  # its own
    for item in inputs:
        with contextlib.suppress(ConvndError):
            return 3 if item.open().channels == ("R", "G", "B") else 1
    return 3


def _widths(network: Backbone, layers: Sequence[str]) -> dict[str, int]:
    """Channels of each layer, from the smallest input that reaches it."""
    known = fields_of(network, layers)
    parameter = next(network.parameters(), torch.zeros(()))
    widths = {}
    for layer in layers:
        least = [max(2, int(step)) for step in known[layer].stride]
        # A module of somebody's runs to its end, which may need more than this layer does.
        for size in ([factor * step for step in least] for factor in (1, 2, 4, 8, 16, 32, 64)):
            x = torch.zeros(1, network.in_channels, *size, device=parameter.device)
            with contextlib.suppress(ShapeError, RuntimeError), torch.inference_mode():
                widths[layer] = network(x, [layer])[layer].shape[1]
                break
        else:
            raise ShapeError(
                f"layer {layer}: expected features from an input of {size}, got none; "
                "check the network"
            )
    return widths


@contextlib.contextmanager
def _bar(total: int, *, enabled: bool) -> Iterator[Callable[[Input], None]]:
    if not enabled:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("looking", total=total)
        yield lambda _: bar.advance(task)
