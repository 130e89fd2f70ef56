"""``convnd rerun``: make a result again from the record that it carries."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convnd.errors import InputFileError, UsageError
from convnd.options import OUTPUT, flag_name, flags_of
from convnd_tasks.modalities.arrays.options import ArrayOptions
from convnd_tasks.modalities.images.options import ImageOptions
from convnd_tasks.modalities.signals.options import SignalOptions
from convnd_tasks.modalities.video.options import VideoOptions
from convnd_tasks.modalities.volumes.options import VolumeOptions
from convnd_tasks.pipeline.flags import Overwrite, Quiet
from convnd_tasks.pipeline.output import CommandOutput, with_json_output

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["rerun"]

_PLACE = re.compile(r"\{(\d{1,4})\}", re.ASCII)

_COMMANDS = {
    "stylize": ("--dim", "--quality", "--rate", "--texture"),
    "stylize-volume": ("--style", "--dtype", "--mask", "--spacing"),
    "stylize-video": ("--from", "--to", "--every", "--rate", "--crf", "--audio", "--no-audio"),
}
"""What a record may hold beside the options: nothing that writes elsewhere or replaces files."""

_ALONE = {"stylize": (), "stylize-volume": ("--no-montage",), "stylize-video": ("--no-pictures",)}
"""What keeps pictures beside the result away."""


@with_json_output("rerun")
def rerun(
    result: Annotated[Path, typer.Argument(help="A file or folder that convnd has written.")],
    inputs: Annotated[
        list[Path] | None,
        typer.Option(
            "--inputs",
            help="Folder (or file) to look for the inputs in, beside this one and the result's; "
            "may be given several times.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="Default: <result>-rerun here.",
            rich_help_panel=OUTPUT,
            show_default=False,
        ),
    ] = None,
    overwrite: Overwrite = False,
    trust_remote_code: Annotated[
        bool,
        typer.Option(
            "--trust-remote-code",
            help="Import your own network that the record names; the import runs its code.",
        ),
    ] = False,
    quiet: Quiet = False,
    *,
    summary: CommandOutput,
) -> None:
    """Make a result again, from the parameters that are kept inside it.

    Inputs are known by their sha256. On the same machine, with the same versions and by as many
    processes, the same bytes come out; whether they did is said at the end.

    convnd rerun photo_stylized.png
    """
    from convnd import cli, io
    from convnd.optimize import ProcessGroup

    record = io.read_provenance(result)
    line, entries = _recorded(result, record)
    _check_line(result, line, trust_remote_code=trust_remote_code)
    for remark in _differences(record):
        summary.append("differences", remark)
        typer.echo(remark, err=True)
    folders = [*(inputs or ()), Path(), result.resolve().parent]
    found = [_find(entry, folders) for entry in entries]
    command = [_filled(word, found) for word in line]
    target = output or Path(io.extend_stem(result, "rerun").name)
    command += ["-o", str(target), *_ALONE[line[0]]]
    command += ["--overwrite"] if overwrite else []
    command += ["--quiet"] if quiet else []
    code = cli.app()(command, standalone_mode=False)
    if code:
        raise typer.Exit(code)
    if ProcessGroup.current().rank != 0:  # the first has written it
        return
    same = io.digest(result, named=False) == io.digest(target, named=False)
    summary.add(result=str(result), output=str(target), same_bytes=same)
    typer.echo(f"{target}  {'the same bytes as' if same else 'other bytes than'} {result}")


rerun.__dict__["processes"] = True  # the root command looks for it; what is run says more


def _recorded(result: Path, record: Mapping[str, str]) -> tuple[list[str], list[Mapping[str, str]]]:
    try:
        line = json.loads(record["convnd:command"])
        entries = json.loads(record["convnd:inputs"])
        words = all(isinstance(word, str) for word in line) and line[0] in _COMMANDS
        named = all(isinstance(entry["name"], str) for entry in entries)
        if not (words and named):
            raise ValueError
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputFileError(
            f"rerun: expected a result with the record of {', '.join(_COMMANDS)} in it, got "
            f"{result} without; it was made with --no-metadata, by something else, or changed since"
        ) from error
    return line, entries


def _check_line(result: Path, line: Sequence[str], *, trust_remote_code: bool) -> None:
    """Refuse what a record of ours cannot say: it came with a file, from anywhere.

    Raises:
        InputFileError: an argument is not an option of the result.
        UsageError: a module of somebody's would be imported.
    """
    options = {
        "stylize": (ImageOptions, SignalOptions, ArrayOptions),
        "stylize-volume": (VolumeOptions,),
        "stylize-video": (VideoOptions,),
    }[line[0]]
    flags = {name: flag for kind in options for name, (_, flag) in flags_of(kind).items()}
    names = [part for name, flag in flags.items() for part in flag.names or (flag_name(name),)]
    allowed = {part for name in (*names, *_COMMANDS[line[0]]) for part in name.split("/")}
    for word in line[1:]:
        option, _, value = word.partition("=")
        if option not in allowed and not _PLACE.fullmatch(word):
            raise InputFileError(
                f"rerun: expected options of {line[0]} in the record, got {word[:80]!r} in "
                f"{result}; the record is damaged or made up"
            )
        if option == "--backbone" and ":" in value and not trust_remote_code:
            raise UsageError(
                f"rerun: expected one of the shipped networks, got {value!r}, whose import runs "
                "code; allow it if you trust it (--trust-remote-code)"
            )


def _differences(record: Mapping[str, str]) -> list[str]:
    """A line for what differs here, so that other bytes are no surprise."""
    from convnd import __version__
    from convnd.backbones import BACKBONES
    from convnd.optimize import ProcessGroup
    from convnd_tasks.pipeline.provenance import backbone_sha256, versions

    now = {"convnd": __version__, **versions(ProcessGroup.current().size)}
    before = {"convnd": record.get("Software", "").removeprefix("convnd ")}
    try:
        before |= {
            name: str(value) for name, value in json.loads(record["convnd:versions"]).items()
        }
    except (KeyError, ValueError, AttributeError):
        before |= {"versions": "unknown"}
    lines = [
        f"made with {name} {text}, here is {now.get(name, 'none')}: bytes may differ"
        for name, text in before.items()
        if now.get(name) != text
    ]
    backbone, sha256 = record.get("convnd:backbone", ""), record.get("convnd:backbone_sha256")
    if backbone in BACKBONES and backbone_sha256(backbone) != sha256:
        lines.append(f"made with other weights of {backbone} than are here: bytes will differ")
    if "convnd:stopped" in record:
        lines.append(f"stopped early by {record['convnd:stopped']}; all steps are taken now")
    return lines


def _find(entry: Mapping[str, str], folders: Sequence[Path]) -> str:
    """The input with the recorded content; samples go by name alone."""
    from convnd import io

    name = Path(entry["name"]).name
    if "sha256" not in entry:
        if name.startswith("-") or Path(name).suffix or Path(name).exists():
            raise InputFileError(
                f"rerun: expected the name of a sample, got {name!r}, for which there is no "
                "sha256; give the files to the command itself"
            )
        return name
    met = False
    for folder in folders:
        path = folder / name if folder.name != name else folder
        if not path.exists():
            continue
        met = True
        if io.digest(path) == entry["sha256"]:
            return str(path.absolute())
    got = "one of other content" if met else "none"
    raise InputFileError(
        f"rerun: expected the input {name} with sha256 {entry['sha256'][:12]}…, got {got} in "
        f"{', '.join(str(each) for each in folders)}; name its folder (--inputs)"
    )


def _filled(word: str, found: Sequence[str]) -> str:
    option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    place = _PLACE.fullmatch(value)
    if place is None:
        return word
    if int(place[1]) >= len(found):
        raise InputFileError(
            f"rerun: expected {len(found)} inputs, got a record that uses number {place[1]}; it "
            "is damaged"
        )
    return f"{option}{equals}{found[int(place[1])]}"
