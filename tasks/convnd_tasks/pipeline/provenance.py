"""What made a result: enough to make it again, and nothing of a patient.

Inputs are recorded by name without folders and by sha256; of what their headers say nothing is
kept here. `convnd_tasks.commands.rerun` reads it back.
"""

from __future__ import annotations

import contextlib
import functools
import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import typer

from convnd import __version__, io
from convnd.backbones.user_models import import_model, is_user_model
from convnd.errors import OutputExistsError, UsageError
from convnd.options import flag_name
from convnd_tasks.pipeline.checkpoints import FREE
from convnd_tasks.pipeline.flags import arguments_of

__all__ = [
    "FIGURES",
    "INPUT",
    "check_skipping",
    "figures",
    "input_entry",
    "is_made",
    "parameters",
    "say_made",
    "versions",
]

INPUT = "{%d}"
"""Stands for an input, by its number, in the recorded command."""

FIGURES = (
    "convnd:steps_taken",
    "convnd:rejected_steps",
    "convnd:loss",
    "convnd:e_warp",
    "convnd:beat_weight_used",
    "convnd:stopped",
)
"""Entries that tell how it went and not what was asked for."""

_PACKAGES = ("torch", "numpy")

_FREE = ("threads", "processes")
"""Of the versions, what only the last bits depend on; see `FREE`."""


def parameters(
    command: str,
    inputs: Sequence[str],
    options: Any,
    *,
    extra: Sequence[str] = (),
    order: Sequence[str] | None = None,
    without: Sequence[str] = (),
    processes: int = 1,
) -> dict[str, str]:
    """The part of a record that is known before the work.

    Args:
        command: which makes it, for example ``"stylize"``.
        inputs: paths and names of samples.
        options: dataclass of options, see `convnd_tasks.pipeline.flags.Flag`.
        extra: further arguments, as they would be typed; ``{0}`` stands for the first input.
        order: the arguments that are inputs; None is all of them, one after the other.
        without: fields that the command does not offer.
        processes: how many do it together.

    Raises:
        InputFileError: an input cannot be read.
    """
    placed = [INPUT % number for number in range(len(inputs))] if order is None else order
    line = [command, *placed, *arguments_of(options, without=without), *extra]
    return {
        "Software": f"convnd {__version__}",
        "convnd:command": json.dumps(line),
        "convnd:inputs": json.dumps([input_entry(name) for name in inputs]),
        "convnd:versions": json.dumps(versions(processes)),
        "convnd:backbone_sha256": backbone_sha256(options.backbone),
        **{f"convnd:{name}": value for name, value in options.record().items()},
    }


def figures(
    steps: int, loss: float, stopped: BaseException | None = None, rejected_steps: int = 0
) -> dict[str, str]:
    """The part of a record that tells how it went.

    >>> figures(5, 0.25)
    {'convnd:steps_taken': '5', 'convnd:loss': '0.25'}
    """
    early = {} if stopped is None else {"convnd:stopped": type(stopped).__name__}
    back = {"convnd:rejected_steps": str(rejected_steps)} if rejected_steps else {}
    return {"convnd:steps_taken": str(steps), "convnd:loss": f"{loss:.6g}", **back, **early}


def input_entry(name: str) -> dict[str, str]:
    """An input by name, and by sha256 if it is a file or folder."""
    path = Path(name)
    if not path.exists():
        return {"name": name if not path.suffix else path.name}
    return {"name": path.resolve().name if path.is_dir() else path.name, "sha256": io.digest(path)}


def versions(processes: int = 1) -> dict[str, str]:
    """What else has a say in the last bits of a result."""
    import torch

    return {
        "python": platform.python_version(),
        **{package: version(package) for package in _PACKAGES},
        "machine": f"{platform.system()} {platform.machine()}",
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "threads": str(torch.get_num_threads()),
        "processes": str(processes),
    }


@functools.lru_cache(maxsize=8)
def backbone_sha256(name: str) -> str:
    """Of a network's weights, by name, type, shape and every bit."""
    from convnd.backbones import BACKBONES
    from convnd.optimize import fingerprint

    state = import_model(name).state_dict() if is_user_model(name) else BACKBONES[name].state()
    return fingerprint(part for pair in sorted(state.items()) for part in pair)


def is_made(path: Path, wanted: Mapping[str, str], *, overwrite: bool = False) -> bool:
    """Whether a result is there, whole, and made as is wanted now.

    Args:
        path: the result.
        wanted: `parameters` of the work to be done.
        overwrite: a result that was made otherwise may be replaced.

    Raises:
        OutputExistsError: a file is there that was made otherwise, or was stopped before its end.
        InputFileError: it cannot be read.
    """
    if not path.exists():
        return False
    found = io.read_provenance(path)
    before, now = _asked_for(found), _asked_for(wanted)
    other = sorted(
        name.removeprefix("convnd:")
        for name in {*before, *now}
        if before.get(name) != now.get(name)
    )
    other = [name for name in other if name != "command"] or other
    got = f"one that differs in {', '.join(other[:6])}" if other else ""
    if "convnd:stopped" in found:
        got = "one that was stopped early"
    if not found:
        got = "one without a record of how it was made"
    if got and not overwrite:
        raise OutputExistsError(
            f"write {path}: expected a result of the same parameters to skip, got {got}; choose "
            "another name, or replace it (--overwrite)"
        )
    return not got


def check_skipping(*, skip_existing: bool, metadata: bool) -> None:
    """Refuse to leave out what results are told by.

    Raises:
        UsageError: both are asked for.
    """
    if skip_existing and not metadata:
        raise UsageError(
            "--skip-existing: expected results with a record of how they were made, got "
            "--no-metadata; leave one of the two out"
        )


def say_made(path: Path, beside: Sequence[Path] = ()) -> None:
    """Say that a result is left alone.

    Args:
        path: the result.
        beside: files that were asked for with it; those that are not there are not made either.
    """
    typer.echo(f"{path}  is there, made with the same parameters")
    for other in beside:
        if not other.exists():
            typer.echo(f"{other}  is not made, for it comes with the result", err=True)


def _asked_for(record: Mapping[str, str]) -> dict[str, str]:
    """What of a record makes another result; the last bits aside."""
    kept = {name: value for name, value in record.items() if name not in FIGURES}
    for name in FREE:
        kept.pop(f"convnd:{name}", None)
    options = tuple(f"{flag_name(name)}=" for name in FREE)
    with contextlib.suppress(KeyError, ValueError, AttributeError, TypeError):
        line = json.loads(kept["convnd:command"])
        kept["convnd:command"] = json.dumps([each for each in line if not each.startswith(options)])
    with contextlib.suppress(KeyError, ValueError, AttributeError):
        known = json.loads(kept["convnd:versions"]).items()
        kept["convnd:versions"] = json.dumps({k: v for k, v in known if k not in _FREE})
    return kept
