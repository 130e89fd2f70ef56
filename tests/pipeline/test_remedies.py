"""Advice that works: options and commands that messages propose exist where they are read."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import typer.main
from convnd_tasks.modalities import modality_class, options_class
from convnd_tasks.pipeline.flags import applicable_modalities
from convnd_tasks.runtime.settings import JobSettings

from convnd import cli
from convnd.options import flag_name, flags_of

ROOT = Path(__file__).parents[2]
COMMANDS: dict[str, Any] = {}


def _collect(group: Any, path: str = "") -> None:
    for name, command in group.commands.items():
        COMMANDS[f"{path} {name}".strip()] = command
        if hasattr(command, "commands"):
            _collect(command, name)


_collect(typer.main.get_command(cli.app()))

READERS = {
    "tasks/convnd_tasks/commands/rerun.py": ["rerun"],
    "tasks/convnd_tasks/pipeline/recorded_command.py": ["rerun"],
    "tasks/convnd_tasks/commands/stylize_volume.py": ["stylize-volume"],
    "tasks/convnd_tasks/commands/train.py": ["train"],
    "tasks/convnd_tasks/commands/weights.py": ["weights get"],
    "tasks/convnd_tasks/commands/view.py": ["view"],
    "tasks/convnd_tasks/pipeline/look_training.py": ["train"],
    "tasks/convnd_tasks/pipeline/train": ["train"],
    "tasks/convnd_tasks/inspect": ["patches"],
    "tasks/convnd_tasks/view/units.py": ["patches"],
    "tasks/convnd_tasks/modalities/volumes": ["stylize", "stylize-volume"],
    "tasks/convnd_tasks/modalities/video": ["stylize", "stylize-video"],
    "tasks/convnd_tasks": ["stylize"],
    "convnd/backbones/weights": ["stylize", "weights get"],
    "convnd": ["stylize"],
}
"""Who reads the messages of a module: its commands; the longest path that fits counts."""

ELSEWHERE = {
    ("tasks/convnd_tasks/modalities/video/modality.py", "--dim"): ["stylize"],
    ("tasks/convnd_tasks/modalities/volumes/inputs.py", "--dim"): ["stylize"],
    **{
        (f"tasks/convnd_tasks/{module}.py", f"--{name}"): ["stylize"]
        for module in ("commands/rerun", "pipeline/recorded_command")
        for name in (
            *("no-metadata", "no-figures", "backbone", "dim", "init", "mask", "style"),
            *("regions", "region", "style-regions", "sheet", "keyframe"),
        )
    },
    **{
        (f"tasks/convnd_tasks/{name}.py", "--pick"): ["rerun"]
        for name in ("pipeline/run", "pipeline/sheet", "runtime/input_settings")
    },
    ("tasks/convnd_tasks/pipeline/recorded_inputs.py", "--inputs"): ["rerun"],
    ("convnd/backbones/weights", "--backbone"): ["stylize"],
    ("convnd/backbones/weights", "--sha256"): ["weights get"],
    ("convnd/backbones/weights", "--name"): ["weights get"],
}
"""Options of other commands that a message names together with the command, or that are enough."""


FOREIGN = ("convnd/backbones/weights/wheel.py", "convnd/io/conversions.py")
"""Files with options of other programs."""

FOREIGN_OPTIONS = {("convnd/io/volumes/dicom_dataset.py", "--raw")}
"""Options of other programs in files with options of ours: gdcmconv's."""


def _text(node: ast.JoinedStr) -> str:
    """The literal text of an f-string; what is inserted is a word."""
    return "".join(
        str(part.value) if isinstance(part, ast.Constant) else "WORD" for part in node.values
    )


def _messages() -> Iterator[tuple[str, str]]:
    """Path and text of every string that is no docstring: errors, remedies, notes and help."""
    for root in ("convnd", "tasks"):
        for path in sorted((ROOT / root).rglob("*.py")):
            text = path.read_text("utf-8")
            if "--" not in text and "convnd " not in text:
                continue
            nodes = list(ast.walk(ast.parse(text)))
            inside = {
                id(part)
                for node in nodes
                if isinstance(node, ast.JoinedStr)
                or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
                for part in ast.walk(node)
            }
            for node in nodes:
                if isinstance(node, ast.JoinedStr):
                    yield str(path.relative_to(ROOT)), _text(node)
                elif isinstance(node, ast.Constant) and id(node) not in inside:
                    yield str(path.relative_to(ROOT)), str(node.value)


@cache
def messages() -> list[tuple[str, str]]:
    """What `_messages` yields, once."""
    return sorted(set(_messages()))


@cache
def named_options() -> list[tuple[str, str]]:
    """Path and option for every option of ours that a message names."""
    return sorted(
        {
            (path, option)
            for path, text in messages()
            for option in re.findall(r"--[a-z][\w-]+(?!WORD)", text)
            if option not in ("--help", "--no-WORD") and path not in FOREIGN
            if (path, option) not in FOREIGN_OPTIONS
        }
    )


@cache
def _options_of(name: str) -> set[str]:
    return {
        option
        for parameter in COMMANDS[name].params
        for option in (*parameter.opts, *parameter.secondary_opts)
    }


def test_there_are_messages_with_options() -> None:
    assert len(messages()) > 300
    assert {"--resume", "--overwrite", "--rate"} <= {option for _, option in named_options()}


def _commands_of(path: str, option: str) -> list[str]:
    """Commands whose users read an option in a message of a module."""
    if path.startswith("tasks/convnd_tasks/view") and option in _options_of("view"):
        return ["view"]  # the page's other options are those of the jobs that it starts
    readers = max((place for place in READERS if path.startswith(place)), key=len)
    return next(
        (
            names
            for (place, name), names in ELSEWHERE.items()
            if (name, path.startswith(place)) == (option, True)
        ),
        READERS[readers],
    )


def test_options_that_messages_name_exist() -> None:
    missing = [
        f"{path}: {command} has no {option}"
        for path, option in named_options()
        for command in _commands_of(path, option)
        if option not in _options_of(command)
    ]
    assert missing == []


KINDS = {"images": "pictures", "video": "videos", "volumes": "volumes", "signals": "signals"}


def test_options_that_messages_name_apply_to_the_kind_of_data() -> None:
    pairs = {
        (kind, option)
        for path, option in named_options()
        for folder, kind in KINDS.items()
        if path.startswith(f"tasks/convnd_tasks/modalities/{folder}/")
    }
    assert len(pairs) > 10
    for kind, option in sorted(pairs):
        classes: list[type[Any]] = [options_class(kind), JobSettings]
        for options in classes:
            for name, (_, flag) in flags_of(options).items():
                if option in (flag_name(name, flag), *flag.names):
                    assert kind in applicable_modalities(name), option
                    assert name not in modality_class(kind).unsupported, option


COMMAND_LINE = re.compile(r"convnd ((?:stylize|weights|rerun|patches|backbones)[^,;)'`]*)")


def test_commands_that_messages_name_exist() -> None:
    lines = [(path, line) for path, text in messages() for line in re.findall(COMMAND_LINE, text)]
    assert len(lines) > 5
    for path, line in lines:
        words = shlex.split(line)
        name = words[0] if words[0] != "weights" else " ".join(words[:2])
        assert name in COMMANDS, f"{path}: {line}"
        typed = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert typed <= _options_of(name), f"{path}: {line}"
