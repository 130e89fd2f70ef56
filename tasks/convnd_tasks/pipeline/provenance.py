"""The record of how a result was made, which `convnd_tasks.commands.rerun` reads.

It holds the command and, of each input, the name without folder and the sha256. It holds nothing of
the headers of inputs, so that no data about a patient enter it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from convnd import __version__, io
from convnd.backbones.user_models import import_model, is_user_model
from convnd.errors import OutputExistsError
from convnd.options import flag_name, flags_of
from convnd_tasks.modalities import modality_class
from convnd_tasks.modalities.regions import KEEP
from convnd_tasks.modalities.style_network import UNUSED_OPTIONS
from convnd_tasks.pipeline.flags import arguments_of
from convnd_tasks.pipeline.output import echo

if TYPE_CHECKING:
    from convnd.transfer.options import TransferOptions
    from convnd_tasks.pipeline.job_spec import JobSpec
    from convnd_tasks.runtime.settings import JobSettings

__all__ = [
    "FORMAT",
    "MEASURED",
    "PLACEHOLDER",
    "backbone_sha256",
    "echo_skipped",
    "input_entry",
    "is_up_to_date",
    "job_parameters",
    "run_metrics",
    "settings_record",
    "versions",
    "with_changes",
]

FORMAT = "2"
"""Version of the record."""

PLACEHOLDER = "{%d}"
"""Stands for an input, by its number, in the recorded command."""

_RUN_METRICS = ("convnd:steps_taken", "convnd:rejected_steps", "convnd:loss", "convnd:stopped")
"""Entries about the course of the run, on which two results of the same job may differ."""

MEASURED = "convnd:measured_"
"""Beginning of the entries that a transfer measures, such as the safety figures of a scan; two
results of the same job may differ on them as well."""

_PACKAGES = ("torch", "numpy")

_UNREADABLE = (KeyError, ValueError, AttributeError, TypeError, RecursionError)
"""Errors that the JSON of a damaged or made-up record may raise."""

_LAST_BITS_ONLY = ("threads", "processes", "kernels")
"""Entries of the versions that only the last bits of a result depend on."""


def job_parameters(
    spec: JobSpec,
    content: str | None,
    options: TransferOptions,
    settings: JobSettings,
    *,
    processes: int = 1,
) -> dict[str, str]:
    """Return the part of a result's record that is known before the work.

    Args:
        spec: inputs and outputs of the job.
        content: path or sample name of the content, or None for a texture.
        options: options of the job.
        settings: settings of the job.
        processes: number of processes that share the work.

    Raises:
        InputFileError: an input cannot be read.
    """
    divided = settings.regions is not None or settings.keyframe
    last = spec.shared_styles if divided else None
    # The content of a video's texture is its first style.
    first = int(settings.texture and spec.modality == "videos")
    roles = [
        ("", content),
        *(("--style=", style) for style in spec.styles[first:last]),
        ("--init=", spec.init),
        ("--mask=", settings.mask),
        ("--regions=", settings.regions),
    ]
    name_options = [(option, name) for option, name in roles if name is not None]
    words = [f"{option}{PLACEHOLDER % number}" for number, (option, _) in enumerate(name_options)]
    names = [name for _, name in name_options]
    if divided:
        words += _region_words(spec, settings, names)
    left_out = [*modality_class(spec.modality).unsupported, *(["init"] if spec.init else [])]
    recorded = options.record()
    backbones = {"convnd:backbone_sha256": "+".join(map(backbone_sha256, options.backbones))}
    if spec.network is not None:
        left_out += UNUSED_OPTIONS
        recorded, backbones = _without_unused(recorded), {}
    line = [
        *(_COMMANDS.get(spec.modality, "stylize"), *words),
        *arguments_of(options, without=left_out),
        *([] if spec.modality in _COMMANDS else [f"--dim={spec.dim}"]),
        *arguments_of(settings, without=_INPUTS, recorded=True),
    ]
    return {
        "Software": f"convnd {__version__}",
        "convnd:record": FORMAT,
        "convnd:command": json.dumps(line),
        "convnd:inputs": json.dumps([input_entry(name) for name in names]),
        "convnd:versions": json.dumps(versions(processes)),
        **backbones,
        **{f"convnd:{name}": value for name, value in recorded.items()},
        "convnd:modality": spec.modality,
        "convnd:dim": str(spec.dim),
        **settings_record(settings, spec),
    }


_INPUTS = ("mask", "regions", "region", "style_regions", "keyframe")
"""Settings that name inputs."""


def _without_unused(recorded: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in recorded.items() if name not in UNUSED_OPTIONS}


def _region_words(spec: JobSpec, settings: JobSettings, names: list[str]) -> list[str]:
    """Return the words about regions and keyframes; their inputs are added to the names."""

    def place(name: str) -> str:
        names.append(name)
        return PLACEHOLDER % (len(names) - 1)

    styles = [
        f"{label}={KEEP if number is None else place(spec.styles[number])}"
        for label, number in spec.regions.items()
    ]
    keyframes = [f"{frame}={place(spec.styles[n])}" for frame, n in spec.keyframes.items()]
    maps = [place(name) for name in settings.style_regions]
    return [
        *([f"--region={','.join(styles)}"] if styles else []),
        *([f"--style-regions={','.join(maps)}"] if maps else []),
        *([f"--keyframe={','.join(keyframes)}"] if keyframes else []),
    ]


_COMMANDS = {"volumes": "stylize-volume", "videos": "stylize-video"}


def settings_record(settings: JobSettings, spec: JobSpec) -> dict[str, str]:
    """Return the settings that a result of the job's kind of data depends on, as text.

    Args:
        settings: settings of the job.
        spec: inputs and outputs of the job.
    """
    record = {}
    for name, (_, flag) in flags_of(type(settings)).items():
        value = getattr(settings, name)
        applies = not flag.modalities or spec.modality in flag.modalities
        if flag.recorded and applies and value not in (None, "") and name not in _INPUTS:
            record[f"convnd:{name}"] = str(value)
    for name, path in (
        ("init", spec.init),
        ("mask", settings.mask),
        ("regions", settings.regions),
    ):
        if path is not None:
            record[f"convnd:{name}"] = Path(path).name
    for label, number in spec.regions.items():
        style = KEEP if number is None else Path(spec.styles[number]).name
        record[f"convnd:region_{label}"] = style
    for frame, number in spec.keyframes.items():
        record[f"convnd:keyframe_{frame}"] = Path(spec.styles[number]).name
    return record


def run_metrics(
    steps: int, loss: float, stopped: BaseException | None = None, rejected_steps: int = 0
) -> dict[str, str]:
    """Return the part of a result's record about the course of the run.

    Args:
        steps: number of steps.
        loss: loss at the end; NaN if nothing was optimised.
        stopped: the exception that ended the run early, or None.
        rejected_steps: number of rejected steps.

    >>> run_metrics(5, 0.25)
    {'convnd:steps_taken': '5', 'convnd:loss': '0.25'}
    """
    early = {} if stopped is None else {"convnd:stopped": type(stopped).__name__}
    rejected = {"convnd:rejected_steps": str(rejected_steps)} if rejected_steps else {}
    losses = {} if math.isnan(loss) else {"convnd:loss": f"{loss:.6g}"}
    return {"convnd:steps_taken": str(steps), **losses, **rejected, **early}


def with_changes(record: Mapping[str, str], changes: Sequence[str]) -> dict[str, str]:
    """Return a record with the changes that were made while the job ran.

    Args:
        record: `job_parameters` of the job.
        changes: ``STEP:OPTION=VALUE`` each; empty changes nothing.
    """
    if not (changes and "convnd:command" in record):
        return dict(record)
    words = json.loads(record["convnd:command"])
    line = [word for word in words if not word.startswith("--change=")]
    text = ",".join(changes)
    command = json.dumps([*line, f"--change={text}"])
    return {**record, "convnd:command": command, "convnd:change": text}


def input_entry(name: str) -> dict[str, str]:
    """Return the name of an input, and its sha256 if it is a file or folder.

    Args:
        name: path, or name of a sample.
    """
    path = Path(name)
    if not path.exists():
        return {"name": name if not path.suffix else path.name}
    return {"name": path.resolve().name if path.is_dir() else path.name, "sha256": io.digest(path)}


def versions(processes: int = 1) -> dict[str, str]:
    """Return versions and settings of this machine that the last bits of a result depend on.

    Args:
        processes: number of processes that share the work.
    """
    import torch

    from convnd.backbones.kernels import native

    return {
        "python": platform.python_version(),
        **{package: version(package) for package in _PACKAGES},
        "machine": f"{platform.system()} {platform.machine()}",
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "kernels": "compiled" if native.is_available() else "torch",
        "threads": str(torch.get_num_threads()),
        "processes": str(processes),
    }


@functools.lru_cache(maxsize=8)
def backbone_sha256(name: str) -> str:
    """Return the sha256 of a network's weights: of every name, type, shape and bit.

    Args:
        name: name of a backbone or of a user's model.
    """
    from convnd.backbones import BACKBONES
    from convnd.optimize import fingerprint

    state = import_model(name).state_dict() if is_user_model(name) else BACKBONES[name].state()
    return fingerprint(part for pair in sorted(state.items()) for part in pair)


def is_up_to_date(path: Path, record: Mapping[str, str], *, overwrite: bool = False) -> bool:
    """Return whether a complete result exists that was made with the same parameters.

    Args:
        path: path of the result.
        record: `job_parameters` of the present job.
        overwrite: whether a result of other parameters may be replaced.

    Raises:
        OutputExistsError: the result has other parameters, or its run was stopped, and it may not
            be replaced.
        InputFileError: the result cannot be read.
    """
    if not path.exists():
        return False
    existing = io.read_provenance(path)
    recorded, now = _comparable_fields(existing), _comparable_fields(record)
    different = sorted(
        name.removeprefix("convnd:")
        for name in {*recorded, *now}
        if recorded.get(name) != now.get(name)
    )
    different = [name for name in different if name != "command"] or different
    got = f"one that differs in {', '.join(different[:6])}" if different else ""
    if "convnd:stopped" in existing:
        got = "one that was stopped early"
    if not existing:
        got = "one without a record of how it was made"
    if got and not overwrite:
        raise OutputExistsError(
            f"write {path}",
            expected="a result of the same parameters to skip",
            got=got,
            remedy="choose another name, or replace it (--overwrite)",
        )
    return not got


def echo_skipped(path: Path, side_files: Sequence[Path] = ()) -> None:
    """Print that a result exists and is left alone.

    Args:
        path: path of the result.
        side_files: paths of requested figures and reports.
    """
    echo(f"{path}  exists, made with the same parameters")
    for other in side_files:
        if not other.exists():
            echo(f"{other}  is not written, because the result is not made again", err=True)


def _comparable_fields(record: Mapping[str, str]) -> dict[str, str]:
    """Return the entries of a record that are equal for results that are equal up to rounding."""
    from convnd.transfer.options import TransferOptions

    fields = {
        name: value
        for name, value in record.items()
        if name not in _RUN_METRICS and not name.startswith(MEASURED)
    }
    free = [name for name, (_, flag) in flags_of(TransferOptions).items() if not flag.recorded]
    for name in free:
        fields.pop(f"convnd:{name}", None)
    options = tuple(f"{flag_name(name)}=" for name in free)
    with contextlib.suppress(*_UNREADABLE):
        line = json.loads(fields["convnd:command"])
        words = [word for word in line if not word.startswith(options)]
        fields["convnd:command"] = json.dumps(words)
    with contextlib.suppress(*_UNREADABLE):
        versions_then = json.loads(fields["convnd:versions"]).items()
        fields["convnd:versions"] = json.dumps(
            {name: value for name, value in versions_then if name not in _LAST_BITS_ONLY}
        )
    return fields
