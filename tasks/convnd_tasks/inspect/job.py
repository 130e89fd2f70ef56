"""The job of ``convnd patches``: from names of inputs to a folder of results."""

from __future__ import annotations

import itertools
import logging
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from convnd.backbones import Backbone, Precision, choose_device
from convnd.errors import ConvndError, InputFileError, NumericalError
from convnd.io.atomic_folder import check_folder, merged_folder
from convnd.registry import check_name, unknown_name
from convnd.transfer.deterministic import make_deterministic
from convnd.transfer.network import log_run_settings
from convnd_tasks.inspect.drawing import PatchSheets
from convnd_tasks.inspect.inputs import resolve_inputs
from convnd_tasks.inspect.networks import count_channels, layer_widths, load_network
from convnd_tasks.inspect.options import PatchOptions
from convnd_tasks.inspect.reading import Input
from convnd_tasks.inspect.records import PatchWriter, write_tables
from convnd_tasks.inspect.saliency import METHODS
from convnd_tasks.inspect.search import SUPPRESSION, SearchResult, cut_patches, find_patches
from convnd_tasks.inspect.units import parse_units
from convnd_tasks.inspect.views import ViewInputs, Views, open_view_inputs
from convnd_tasks.pipeline.dry_run import ABOVE, BELOW, Estimate
from convnd_tasks.pipeline.report import Report, check_report, check_report_name
from convnd_tasks.runtime.checkpoints import save_last_good
from convnd_tasks.runtime.wording import count_text

__all__ = ["PatchResult", "estimate_patches", "run_patches"]

_LOG = logging.getLogger(__name__)

_STEPS = 3
"""Steps of optimal inputs that an estimate takes."""


@dataclass
class PatchResult:
    """The result of a run.

    Args:
        inputs: number of inputs that were read, including failed ones.
        patches: number of patches.
        pictures: picture files in the output folder.
        errors: errors of the inputs that failed.
        messages: one line for each layer in which optimization steps were rejected.
    """

    inputs: int = 0
    patches: int = 0
    pictures: list[Path] = field(default_factory=list)
    errors: list[ConvndError] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Task:
    """The inputs and the network of a run, opened and checked.

    Args:
        inputs: the inputs.
        dim: number of spatial axes.
        network: the network, on its device.
        units: units to search by layer.
        view_inputs: inputs of the views.
        options: options of the run.
    """

    inputs: list[Input]
    dim: int
    network: Backbone
    units: dict[str, list[int]]
    view_inputs: ViewInputs
    options: PatchOptions


def run_patches(
    names: Sequence[str],
    dim: int | None,
    options: PatchOptions,
    output: Path,
    *,
    report: Path | None = None,
    overwrite: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
    on_message: Callable[[str], None] | None = None,
) -> PatchResult:
    """Search inputs for patches, cut and draw them, and write a folder.

    Args:
        names: files, folders or samples, see `convnd_tasks.inspect.inputs.resolve_inputs`.
        dim: number of spatial axes, or None to infer it.
        options: options of the run.
        output: folder to create; it appears when it is complete.
        report: HTML file to write, or None.
        overwrite: replace files in an existing folder, and the report.
        on_progress: called after each input with the number of inputs searched, and of all.
        on_message: called with a line of text when optimization steps are rejected.

    Raises:
        NumericalError: an optimal input left the finite numbers; the message names a folder with
            the results before that.
        ConvndError: no input can be read, an option is invalid, or the results cannot be written;
            nothing is left behind.
    """
    _check(options, output, report, overwrite=overwrite)
    in_folder = report is not None and _is_in(report, output)
    make_deterministic(options.deterministic)
    task = _open(names, dim, options)
    messages: list[str] = []

    def report_message(line: str) -> None:
        messages.append(line)
        if on_message is not None:
            on_message(line)

    with merged_folder(output, overwrite=overwrite) as folder:
        search = _search(task, on_progress)
        result = PatchResult(search.inputs, errors=list(search.errors.values()), messages=messages)
        sheets = PatchSheets(task.network, search, options)
        result.patches = _write_patches(task, search, sheets, folder)
        page = _new_report(task, search)
        try:
            _draw(task, sheets, folder, page, report_message)
        except NumericalError as error:
            write_tables(folder, search, options.record(), messages)
            raise save_last_good(error, output, folder.rename) from error
        if search.errors:
            page.section("Inputs left out")
            rows = [[name, str(error)] for name, error in search.errors.items()]
            page.table(["input", "reason"], rows)
        write_tables(folder, search, options.record(), messages)
        if report is not None and in_folder:
            page.write(folder / report.name)
        result.pictures = [output / name for name in sorted(p.name for p in folder.glob("*.png"))]
        if report is not None and not in_folder:
            page.write(report, overwrite=overwrite)
    return result


def estimate_patches(
    names: Sequence[str],
    dim: int | None,
    options: PatchOptions,
    output: Path,
    *,
    report: Path | None = None,
    overwrite: bool = False,
) -> Estimate:
    """Search the first input that can be read, draw its patches, and estimate what all take.

    The arguments are those of `run_patches`. Nothing is left behind.

    Raises:
        ConvndError: see `run_patches`.
    """
    started = time.monotonic()
    _check(options, output, report, overwrite=overwrite)
    make_deterministic(options.deterministic)
    task = _open(names, dim, options)
    few = replace(options, steps=min(options.steps, _STEPS))
    for source in task.inputs:
        first = replace(task, inputs=[source], options=few)
        opened = time.monotonic()
        try:
            search = _search(first, None)
            break
        except InputFileError:
            if source is task.inputs[-1]:
                raise
    searched = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sheets = PatchSheets(first.network, search, first.options)
        _write_patches(first, search, sheets, folder)
        _draw(first, sheets, folder, _new_report(first, search), lambda _: None)
        write_tables(folder, search, first.options.record(), [])
        outputs = sorted(str(output / path.name) for path in folder.iterdir())
    drawn = time.monotonic()
    drawing = drawn - searched
    if options.optimal:  # nearly all of the drawing
        drawing *= options.steps / first.options.steps
    seconds = opened - started + (searched - opened) * len(task.inputs) + drawing
    return Estimate(
        outputs=[*outputs, *([] if report is None else [str(report)])],
        seconds=seconds,
        seconds_low=BELOW * seconds,
        seconds_high=ABOVE * seconds,
    )


def _check(options: PatchOptions, output: Path, report: Path | None, *, overwrite: bool) -> None:
    """Check names and paths before any work."""
    if options.explain and options.explain not in METHODS:
        raise unknown_name("--explain", options.explain, list(METHODS))
    check_name("--suppress", options.suppress, SUPPRESSION)
    choose_device(options.device)
    if report is not None and _is_in(report, output) and not output.exists():
        check_report_name(report)
    elif report is not None:
        check_report(report, overwrite=overwrite)
    check_folder(output, overwrite=overwrite)


def _is_in(report: Path, output: Path) -> bool:
    """Whether the report belongs to the files of the output's folder, which appear together."""
    return report.parent.resolve() == output.resolve()


def _open(names: Sequence[str], dim: int | None, options: PatchOptions) -> _Task:
    inputs, rank = resolve_inputs(names, dim, seed=options.seed)
    device = choose_device(options.device)
    network = load_network(
        options.backbone,
        options.layers,
        spatial_dims=rank,
        in_channels=count_channels(inputs, options.backbone),
    ).to(device)
    log_run_settings(_LOG, options.backbone, device, Precision())
    units = {
        layer: parse_units(options.units, width, layer=layer, seed=options.seed)
        for layer, width in layer_widths(network, options.layers).items()
    }
    return _Task(inputs, rank, network, units, open_view_inputs(options, rank), options)


def _search(task: _Task, on_progress: Callable[[int, int], None] | None) -> SearchResult:
    options = task.options
    searched = itertools.count(1)

    def on_input(_: Input) -> None:
        if on_progress is not None:
            on_progress(next(searched), len(task.inputs))

    search = find_patches(
        task.network,
        task.inputs,
        task.units,
        top=options.top,
        suppress=options.suppress,
        size=options.size,
        rescale=options.rescale,
        batch=options.batch,
        device=choose_device(options.device),
        on_input=on_input,
    )
    if len(search.errors) == search.inputs:
        first = next(iter(search.errors.values()))
        if search.inputs == 1:
            raise first
        raise InputFileError(
            f"patches: expected inputs that can be read, got {search.inputs} that cannot, the "
            f"first: {first}"
        )
    return search


def _write_patches(task: _Task, search: SearchResult, sheets: PatchSheets, folder: Path) -> int:
    """Cut and write the patches, add them to the sheets, and return their number."""
    options, count = task.options, 0
    with PatchWriter(folder) as writer:
        for patch in cut_patches(search, task.inputs, size=options.size, rescale=options.rescale):
            writer.write(patch)
            sheets.add(patch)
            count += 1
    return count


def _new_report(task: _Task, search: SearchResult) -> Report:
    inputs = count_text(search.inputs, "inputs")
    axes = f"{task.dim} spatial {'axis' if task.dim == 1 else 'axes'}"
    return Report(
        "What the units look for",
        lead=f"{task.options.backbone} on {inputs}, {axes}. For each unit the patches that excite "
        "it most, strongest first; pale blue is beyond the border of an input.",
    )


def _draw(
    task: _Task, sheets: PatchSheets, folder: Path, page: Report, on_message: Callable[[str], None]
) -> None:
    views = Views(task.network, task.view_inputs, task.options, folder, page, on_message)
    for layer in task.options.layers:
        sheets.draw(layer, folder, page)
        views.draw(layer, task.units[layer])
