"""The inputs of a recorded command: places in its words, and the files that fill them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from convnd.errors import InputFileError

__all__ = ["LISTED_INPUTS", "PLACE", "fill_places", "find_input", "search_folders"]

PLACE = re.compile(r"\{(\d{1,4})\}", re.ASCII)
"""Stands for an input in a word of the command."""

LISTED_INPUTS = {
    "--region": re.compile(r"[^={},]+=(keep|\{\d{1,4}\})"),
    "--style-regions": re.compile(r"\{\d{1,4}\}"),
    "--keyframe": re.compile(r"\d{1,9}=\{\d{1,4}\}", re.ASCII),
}
"""Form of each part of the options that hold several inputs with commas between."""


def search_folders(inputs: Sequence[Path], result: Path, *, deep: bool) -> list[Path]:
    """Return the folders in which inputs are searched; deep ones include their subfolders."""
    folders = [*inputs, Path(), result.resolve().parent]
    if not deep:  # styles of a sheet often lie in a folder of their own
        return folders
    searched = [folder for folder in folders if folder.is_dir()]
    return folders + [path for folder in searched for path in folder.iterdir() if path.is_dir()]


def find_input(entry: Mapping[str, str], folders: Sequence[Path]) -> str:
    """Return the path of the input with the recorded sha256, or the name of a built-in sample."""
    from convnd import io
    from convnd_tasks import samples

    name = entry["name"]
    if "sha256" not in entry:
        if not samples.is_sample(name):
            raise InputFileError(
                "rerun",
                expected="the name of a sample",
                got=f"{name[:80]!r}, for which there is no sha256",
                remedy="give the files to the command itself",
            )
        return name
    exists = False
    for folder in folders:
        path = folder / name if folder.name != name else folder
        try:
            if not (path.is_file() or path.is_dir()):  # no pipes or devices
                continue
            exists = True
            if io.digest(path) == entry["sha256"]:
                return str(path.absolute())
        except (OSError, ValueError):
            continue
    got = "a file with another sha256" if exists else "none"
    raise InputFileError(
        "rerun",
        expected=f"the input {name} with sha256 {entry['sha256'][:12]}…",
        got=f"{got} in {', '.join(map(str, folders[:4]))}",
        remedy="name its folder (--inputs)",
    )


def fill_places(
    line: Sequence[str], entries: Sequence[Mapping[str, str]], folders: Sequence[Path]
) -> list[str]:
    """Return the recorded command with the paths of its inputs."""
    paths = [find_input(entry, folders) for entry in entries]
    words = []
    for word in line:
        option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        if option in LISTED_INPUTS:
            value = PLACE.sub(lambda place: paths[int(place[1])].replace(",", "\\,"), value)
        elif PLACE.fullmatch(value):
            value = PLACE.sub(lambda place: paths[int(place[1])], value)
        words.append(f"{option}{equals}{value}")
    return words
