"""Completion of arguments in a shell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import typer

__all__ = [
    "complete_backbones",
    "complete_choices",
    "complete_inputs",
    "complete_styles",
    "complete_weights",
]

Completer = Callable[..., list[tuple[str, str]]]


def complete_choices(choices: Sequence[str], *, several: bool = False) -> Completer:
    """Make the completer of an option that takes one of some names.

    Args:
        choices: the names.
        several: whether the option takes several names with commas between.

    >>> complete_choices(["spectrum", "gram"], several=True)("gram,sp")
    [('gram,spectrum', '')]
    """

    def complete(incomplete: str) -> list[tuple[str, str]]:
        before, comma, name = incomplete.rpartition(",") if several else ("", "", incomplete)
        return [(f"{before}{comma}{choice}", "") for choice in choices if choice.startswith(name)]

    return complete


def complete_inputs(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Complete names of samples and files; where no sample fits, the shell completes files.

    Args:
        ctx: context of the command; its ``--dim`` selects the samples.
        incomplete: the part of the word that is typed.
    """
    return _with_files(_samples(ctx, contents=True), incomplete)


def complete_styles(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Complete names of built-in styles and files; where no style fits, the shell completes files.

    Args:
        ctx: context of the command; its ``--dim`` selects the samples.
        incomplete: the part of the word that is typed.
    """
    return _with_files(_samples(ctx, contents=False), incomplete)


def complete_backbones(incomplete: str) -> list[tuple[str, str]]:
    """Complete names of networks, and of those in a list with ``+`` between.

    Args:
        incomplete: the part of the word that is typed; networks before a ``+`` are kept.
    """
    from convnd.backbones import BACKBONES
    from convnd.backbones.weights import user_names
    from convnd_tasks.modalities.images.options import ImageOptions

    choices = {name: BACKBONES[name].summary for name in (*BACKBONES, *user_names())}
    before, plus, last = incomplete.rpartition("+")
    if not plus:
        choices = {ImageOptions.backbone: "the default for pictures", **choices}
    return [(f"{before}{plus}{name}", choices[name]) for name in choices if name.startswith(last)]


def complete_weights(incomplete: str) -> list[tuple[str, str]]:
    """Complete names of weights, shipped ones and the user's.

    Args:
        incomplete: the part of the word that is typed.
    """
    from convnd.backbones.weights import names

    return [(name, "") for name in names() if name.startswith(incomplete)]


def _samples(ctx: typer.Context, *, contents: bool) -> dict[str, str]:
    """Return the summaries of the samples that a command takes, by name."""
    from convnd_tasks import samples

    command = "" if ctx.command is None else ctx.command.name or ""
    ranks = {"stylize-volume": (3,), "stylize-video": (2,)}.get(command, (1, 2, 3))
    typed = ctx.params.get("dim")
    names: dict[str, str] = {}
    for rank in ranks if typed is None else (int(typed),):
        if contents:
            names |= {name: samples.CONTENTS[name].summary for name in samples.contents(rank)}
        names |= {name: samples.STYLES[name].summary for name in samples.styles(rank)}
    return names


def _with_files(names: dict[str, str], incomplete: str) -> list[tuple[str, str]]:
    fitting = [(name, text) for name, text in names.items() if name.startswith(incomplete)]
    if not fitting:
        return []  # the shell completes paths
    files = [
        f"{path.name}/" if path.is_dir() else path.name
        for path in sorted(Path().iterdir())
        # A line break would begin another name, and escapes would reach the terminal.
        if path.name.startswith(incomplete)
        and not path.name.startswith(".")
        and path.name.isprintable()
    ]
    return [*fitting, *((name, "") for name in files)]
