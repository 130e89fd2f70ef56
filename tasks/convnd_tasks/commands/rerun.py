"""``convnd rerun``: make a result again from the record inside it.

A record may be made up, so it is checked: every word of the recorded command has to be an option of
the result with a literal value, inputs are found by their sha256, samples have the names of
built-in ones, and no code is imported unless the user asks for it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convnd.errors import InputFileError
from convnd.io.atomic import error_text
from convnd.io.missing import missing_file_error
from convnd.options import OUTPUT
from convnd.threads import use_threads
from convnd.transfer.objective_options import split_backbones
from convnd_tasks.pipeline.output import CommandOutput, echo, with_json_output
from convnd_tasks.pipeline.parameters import Overwrite, Quiet
from convnd_tasks.pipeline.recorded_command import check_line, parse_record
from convnd_tasks.pipeline.recorded_inputs import fill_places, search_folders

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["rerun"]


_Inputs = Annotated[
    list[Path] | None,
    typer.Option(
        "--inputs",
        metavar="PATH",
        help="Folder (or file) to search for the inputs, in addition to this folder and that "
        "of the result. May be repeated.",
        show_default=False,
    ),
]
_Pick = Annotated[
    int | None,
    typer.Option(
        "--pick",
        metavar="N",
        min=1,
        help="Of a sheet (`convnd stylize --sheet`), make the result with this number.",
        show_default=False,
    ),
]
_Size = Annotated[
    int | None,
    typer.Option(
        "--size",
        metavar="N",
        min=0,
        max=1 << 20,
        help="Another number of samples along the longest axis, for example for a print.",
        show_default=False,
    ),
]
_Output = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        metavar="PATH",
        help="The new result. Default: <result>-rerun in this folder.",
        rich_help_panel=OUTPUT,
        show_default=False,
    ),
]


@with_json_output("rerun")
def rerun(
    result: Annotated[Path, typer.Argument(help="A file or folder that convnd has written.")],
    inputs: _Inputs = None,
    pick: _Pick = None,
    size: _Size = None,
    output: _Output = None,
    overwrite: Overwrite = False,
    trust_remote_code: Annotated[
        bool,
        typer.Option(
            "--trust-remote-code",
            help="Import the user's network that the record names, which runs code.",
        ),
    ] = False,
    quiet: Quiet = False,
    *,
    command_output: CommandOutput,
) -> None:
    """Make a result again from the record inside it.

    Inputs are found by their sha256. The same machine, versions and number of processes give the
    same bytes; the last line says whether they are the same.

    convnd rerun photo_stylized.png

    convnd rerun photo_sheet.png --pick 7 --size 2048
    """
    from convnd import io
    from convnd.optimize import ProcessGroup

    for folder in (folder for folder in inputs or () if not folder.exists()):
        raise missing_file_error(folder, "folder")
    record = io.read_provenance(result)
    default = io.extend_stem(result, "rerun").name
    if pick is not None:
        from convnd_tasks.pipeline.sheet import pick_cell

        cell, default = pick_cell(result, record, pick)
        record = {**record, **cell}
    line, entries = parse_record(result, record)
    if size is not None:
        line = [*(word for word in line if not word.startswith("--size=")), f"--size={size}"]
    check_line(result, line, len(entries), trusted=trust_remote_code)
    _use_recorded_threads(record)
    for difference in _differences(record):
        command_output.append("differences", difference)
        echo(difference, err=True)
    folders = search_folders(inputs or (), result, deep=pick is not None)
    target = output or Path(default)
    options = ["--no-figures", *["--overwrite"] * overwrite, *["--quiet"] * quiet]
    words = [*fill_places(line, entries, folders), "-o", str(target), *options]
    _run_recorded(words, result)
    if ProcessGroup.current().rank != 0:  # the first process has written the result
        return
    if pick is not None or size is not None:
        command_output.add(result=str(result), output=str(target))
        return
    same = io.digest(result, named=False) == io.digest(target, named=False)
    command_output.add(result=str(result), output=str(target), same_bytes=same)
    echo(f"{target}  {'the same bytes as' if same else 'other bytes than'} {result}")


rerun.__dict__["processes"] = True  # the root command reads this; the recorded command checks it


def _run_recorded(words: Sequence[str], result: Path) -> None:
    """Run a recorded command whose words were checked.

    Raises:
        InputFileError: a value is outside the range of its option.
        typer.Exit: the command failed.
    """
    from convnd import cli

    try:
        code = cli.run(words)
    except cli.CommandLineError as error:
        raise InputFileError(
            "rerun",
            expected=f"options of {words[0]} in the record",
            got=f"'{error_text(error)}' in {result}",
            remedy="the record is damaged or made up",
        ) from error
    if code:
        raise typer.Exit(code)


def _differences(record: Mapping[str, str]) -> list[str]:
    """Return a line for each difference from this machine that may change bytes of the result."""
    from convnd import __version__
    from convnd.backbones import BACKBONES
    from convnd.optimize import ProcessGroup
    from convnd_tasks.pipeline.provenance import backbone_sha256, versions

    now = {"convnd": __version__, **versions(ProcessGroup.current().size)}
    before: dict[str, Any] = {"convnd": record.get("Software", "").removeprefix("convnd ")}
    try:
        recorded = json.loads(record["convnd:versions"]).items()
        before |= {str(name): str(value) for name, value in recorded}
    except (KeyError, ValueError, AttributeError, RecursionError):
        before |= {"versions": "unknown"}
    lines = [
        f"made with {name[:40]} {text[:80]}, now {now.get(name, 'none')}: bytes may differ"
        for name, text in before.items()
        if now.get(name) != text
    ]
    backbones = split_backbones(record.get("convnd:backbone", ""))
    digests = record.get("convnd:backbone_sha256", "").split("+")
    for backbone, sha256 in itertools.zip_longest(backbones, digests[: len(backbones)]):
        if backbone in BACKBONES and backbone_sha256(backbone) != sha256:
            lines.append(f"made with other weights of {backbone}: bytes will differ")
    if "convnd:stopped" in record:
        stopped = record["convnd:stopped"][:80]
        lines.append(f"the result was stopped early by {stopped}; now all steps are taken")
    return lines


def _use_recorded_threads(record: Mapping[str, str]) -> None:
    """Use as many threads as the recorded run: the last bits of a result depend on them."""
    with contextlib.suppress(KeyError, ValueError, TypeError, RecursionError):
        use_threads(int(json.loads(record["convnd:versions"])["threads"]))
