"""``convnd rerun``: make a result again from the record inside it.

A record may be made up, so it is checked: every word of the recorded command has to be an option of
the result with a literal value, inputs are found by their sha256, samples have the names of
built-in ones, and no code is imported unless the user asks for it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convnd.errors import InputFileError, UsageError
from convnd.io.atomic import error_text
from convnd.io.missing import missing_file_error
from convnd.options import OUTPUT, flag_name, flags_of
from convnd.threads import use_threads
from convnd.transfer.objective_options import split_backbones
from convnd_tasks.modalities import MODALITIES, options_class
from convnd_tasks.pipeline.output import CommandOutput, echo, with_json_output
from convnd_tasks.pipeline.parameters import Overwrite, Quiet
from convnd_tasks.pipeline.recorded_inputs import LISTED_INPUTS, PLACE, fill_places, search_folders
from convnd_tasks.runtime.settings import JobSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["rerun"]

_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_COMMANDS = ("stylize", "stylize-volume", "stylize-video")
_INPUT_OPTIONS = (
    *("--style", "--init", "--mask", "--regions", "--region", "--style-regions", "--keyframe"),
)
"""Options whose value is an input; that of ``--init`` may be a named starting point instead."""


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
    line, entries = _parse_record(result, record)
    if size is not None:
        line = [*(word for word in line if not word.startswith("--size=")), f"--size={size}"]
    _check_line(result, line, len(entries), trusted=trust_remote_code)
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


def _parse_record(
    result: Path, record: Mapping[str, str]
) -> tuple[list[str], list[Mapping[str, str]]]:
    """The recorded command and the entries of its inputs."""
    from convnd_tasks.pipeline.provenance import FORMAT

    try:
        line = json.loads(record["convnd:command"])
        entries = json.loads(record["convnd:inputs"])
        valid = (
            isinstance(line, list)
            and all(isinstance(word, str) for word in line)
            and line[0] in _COMMANDS
            and isinstance(entries, list)
            and all(_is_entry(entry) for entry in entries)
        )
        if not valid:
            raise ValueError
    except (KeyError, TypeError, ValueError, IndexError, RecursionError) as error:
        raise InputFileError(
            "rerun",
            expected="a result that holds the record of a stylize command",
            got=f"{result} without one",
            remedy="it was made with --no-metadata or by another program, or was changed since",
        ) from error
    if record.get("convnd:record") != FORMAT:
        raise InputFileError(
            "rerun",
            expected=f"a record of version {FORMAT}",
            got=f"that of another version in {result}",
            remedy="type the command again",
        )
    return line, entries


def _is_entry(entry: object) -> bool:
    """Return whether an entry holds a name without a folder, and a valid sha256 or none."""
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        return False
    name, sha256 = entry["name"], entry.get("sha256")
    plain = name not in ("", ".", "..") and not {"/", "\\", "\0"} & set(name) and len(name) < 256
    return plain and (sha256 is None or bool(isinstance(sha256, str) and _SHA256.fullmatch(sha256)))


def _check_line(result: Path, line: Sequence[str], inputs: int, *, trusted: bool) -> None:
    """Check that a recorded command holds inputs and options of the result, and nothing else."""
    allowed = _recorded_options()
    for word in line[1:]:
        option, equals, value = word.partition("=")
        place = PLACE.fullmatch(value if equals else word)
        if option in LISTED_INPUTS:
            parts, form = value.split(","), LISTED_INPUTS[option]
            fits = all(map(form.fullmatch, parts)) and all(
                int(number) < inputs for number in PLACE.findall(value)
            )
        elif place is not None:
            fits = int(place[1]) < inputs and (not equals or option in _INPUT_OPTIONS)
        else:
            fits = option in allowed and "{" not in value
            fits = fits and (option not in _INPUT_OPTIONS or _is_named_start(option, value))
        if not fits:
            raise InputFileError(
                "rerun",
                expected=f"inputs and options of {line[0]} in the record",
                got=f"{word[:80]!r} in {result}",
                remedy="the record is damaged or made up",
            )
        if option == "--backbone" and not trusted:
            for name in split_backbones(value):
                _check_backbone(name)


def _recorded_options() -> set[str]:
    """Return the options that a record may hold: none that writes or replaces files."""
    names = {"--dim", *_INPUT_OPTIONS}
    kinds: list[type[Any]] = [JobSettings, *map(options_class, MODALITIES)]
    for kind in kinds:
        for name, (_, flag) in flags_of(kind).items():
            if flag.recorded or name in ("tile", "memory"):
                names |= set((flag.names[0] if flag.names else flag_name(name)).split("/"))
    return names


def _is_named_start(option: str, value: str) -> bool:
    from convnd.transfer.options import INITS

    return option == "--init" and value in INITS


def _check_backbone(name: str) -> None:
    from convnd.backbones import BACKBONES

    if name not in BACKBONES:
        raise UsageError(
            "rerun",
            expected="one of the shipped networks",
            got=f"{name[:80]!r}, whose import runs code",
            remedy="allow it if you trust it (--trust-remote-code)",
        )


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
