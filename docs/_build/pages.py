"""Generates pages from code (commands, options, API) and from files in the root folder."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import typer.main

ROOT = Path(__file__).parents[2]
ROOMS = (
    *("nn", "shapes", "backbones", "stats", "losses", "optimize", "feedforward", "transfer", "io"),
)
ROOT_FILES = {
    "security": "SECURITY.md",
    "contributing": "CONTRIBUTING.md",
    "architecture": "ARCHITECTURE.md",
    "changelog": "CHANGELOG.md",
}


def generated_pages() -> dict[str, str]:
    """Path and text of every generated page."""
    texts = {f"reference/convnd.{room}.md": api_page(f"convnd.{room}") for room in ROOMS}
    texts["reference/python.md"] = python_page()
    texts["reference/commands.md"] = commands_page()
    texts["reference/options.md"] = options_page()
    for name, file in ROOT_FILES.items():
        text = (ROOT / file).read_text(encoding="utf-8")
        for other, target in ROOT_FILES.items():
            text = text.replace(f"]({target})", f"]({other}.md)")
        texts[f"project/{name}.md"] = text
    return texts


def root_command() -> Any:
    """The command line as a click group with all commands."""
    from convnd import cli

    arguments, sys.argv = sys.argv, ["convnd", "stylize", "--help"]
    try:
        return typer.main.get_command(cli.app())
    finally:
        sys.argv = arguments


def commands_page() -> str:
    """Every command with its arguments and options."""
    root = root_command()
    lines = [
        "# Commands",
        "",
        "Generated from the program; `convnd COMMAND --help` prints the same text.",
        "",
        "## convnd",
        "",
        *_parameters(root),
    ]
    for name, command in sorted(root.commands.items()):
        children: Mapping[str, Any] = getattr(command, "commands", {})
        lines += ["", f"## convnd {name}", "", _help_markdown(command.help), ""]
        lines += _parameters(command, without=root.params)
        for child, inner in children.items():
            lines += ["", f"### convnd {name} {child}", "", _help_markdown(inner.help), ""]
            lines += _parameters(inner, without=root.params)
    return "\n".join(lines) + "\n"


def _help_markdown(value: str | None) -> str:
    """Help text as Markdown; paragraphs of commands become code blocks."""
    paragraphs = inspect.cleandoc(value or "").replace("\b", "").split("\n\n")
    lines = []
    for paragraph in paragraphs:
        commands = [line.strip() for line in paragraph.strip().splitlines()]
        if commands and all(line.startswith(("convnd ", "torchrun ")) for line in commands):
            lines.append("```bash\n" + "\n".join(commands) + "\n```")
        else:
            lines.append(_escape(paragraph.strip()))
    return "\n\n".join(lines)


def _escape(text: str) -> str:
    return re.sub(r"(?<![\\`])([<>|*_])", r"\\\1", text) if "`" not in text else text


def _parameters(command: Any, without: Sequence[Any] = ()) -> list[str]:
    """Tables of arguments and options, one for each panel."""
    panels: dict[str, list[str]] = {}
    for parameter in command.params:
        if getattr(parameter, "hidden", False) or parameter.name == "help" or parameter in without:
            continue
        is_option = parameter.opts[0].startswith("-")
        panel = getattr(parameter, "rich_help_panel", None)
        heading = panel if isinstance(panel, str) else ("Options" if is_option else "Arguments")
        names = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
        if not is_option:
            names = f"`{parameter.metavar or parameter.name}`".replace("|", "\\|")
        elif not getattr(parameter, "is_flag", False):
            names += " " + _metavar(parameter)
        description = _cell(getattr(parameter, "help", None) or "")
        panels.setdefault(heading, []).append(f"| {names} | {description} | {_default(parameter)} |")
    lines = []
    for heading, rows in panels.items():
        lines += [f"**{heading}**", "", "| | | default |", "|---|---|---|", *rows, ""]
    return lines


def _metavar(parameter: Any) -> str:
    name = parameter.metavar or parameter.name.upper()
    return "*" + name.strip("<>[]").replace("|", "\\|").replace("_", "\\_") + "*"


def _default(parameter: Any) -> str:
    value = parameter.default
    shown = getattr(parameter, "show_default", True)
    if isinstance(shown, str):
        return _cell(shown)
    if not shown or value is None or value is False or callable(value) or value in ((), [], ""):
        return ""
    if isinstance(value, list | tuple):
        value = ",".join(map(str, value))
    return f"`{getattr(value, 'value', value)}`".replace("|", "\\|")


def _cell(text: str) -> str:
    return _escape(" ".join(text.split()).replace("|", "\\|"))


def options_page() -> str:
    """The table of options by kind of data."""
    from convnd_tasks.pipeline.option_table import as_markdown

    return f"""# Options and kinds of data

Generated from the program. "yes": the option applies. "–": it has no meaning for this kind of data.
"no": it would have a meaning, but does not apply, for the reason below the table. The command
refuses an option that does not apply. [Commands](commands.md) describes each option.

{as_markdown()}"""


def api_page(module: str) -> str:
    """A page for mkdocstrings: the public names of a package, or of its modules if it has none."""
    package = importlib.import_module(module)
    if hasattr(package, "__all__"):
        return f"# {module}\n\n{_members(package)}"
    parts = [f"{module}.{info.name}" for info in pkgutil.iter_modules(package.__path__)]
    modules = [importlib.import_module(part) for part in parts if "._" not in part]
    text = [f"## {part.__name__}\n\n{_members(part)}" for part in modules]
    summary = inspect.cleandoc(package.__doc__ or "")
    return "\n".join([f"# {module}\n", summary, "", *text])


def _members(module: ModuleType) -> str:
    names = "".join(f"        - {name}\n" for name in sorted(module.__all__, key=str.lower))
    return f"::: {module.__name__}\n    options:\n      members:\n{names}"


def python_page() -> str:
    """The page of the public names of ``convnd``, and of the results of its functions."""
    from convnd_tasks.pipeline.style_result import StyleResult

    import convnd

    rooms = [name for name in convnd.__all__ if name in ROOMS]
    lines = ["# Python", "", "::: convnd", "    options:", "      members: []", ""]
    lines += ["## Packages", "", "| package | |", "|---|---|"]
    for room in rooms:
        module = importlib.import_module(f"convnd.{room}")
        summary = (module.__doc__ or "").strip().splitlines()[0]
        lines.append(f"| [convnd.{room}](convnd.{room}.md) | {_cell(summary)} |")
    lines += ["", "## Names", ""]
    for value in [*(getattr(convnd, name) for name in convnd.__all__), StyleResult]:
        if inspect.isclass(value) or inspect.isfunction(value):
            lines += [f"::: {value.__module__}.{value.__qualname__}"]
            lines += ["    options:", "      show_root_heading: true", "      heading_level: 3", ""]
    return "\n".join(lines)
