"""Fields of a dataclass become flags, and only what was typed is handed on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import pytest
import typer
from convnd_tasks.pipeline.flags import with_flags
from convnd_tasks.pipeline.parameters import Overwrite
from error_fields import raises
from typer.testing import CliRunner

from convnd.errors import UsageError
from convnd.options import Flag


@dataclass(frozen=True, kw_only=True)
class Made:
    weight: Annotated[float, Flag(help="How much.")] = 1.5
    names: Annotated[tuple[str, ...], Flag(help="Which.", metavar="N,N")] = ("a", "b")
    shares: Annotated[tuple[float, ...], Flag(help="Parts.")] = ()
    counts: Annotated[tuple[int, ...], Flag(help="Back.")] = (1, 4)
    maybe: Annotated[int | None, Flag(help="Perhaps.")] = None
    scale: Annotated[bool, Flag(help="Map.", names=("--scale/--raw",))] = True
    hidden: int = 3


@dataclass(frozen=True, kw_only=True)
class HeavyOptions(Made):
    weight: Annotated[float, Flag(help="How much.")] = 2.5


def invoke(*words: str) -> tuple[dict[str, Any], str]:
    values: dict[str, Any] = {}

    @with_flags(Made, HeavyOptions)
    def command(
        name: Annotated[str, typer.Argument()] = "x",
        overwrite: Overwrite = False,
        *,
        typed_options: dict[str, Any],
    ) -> None:
        """Do it."""
        values.update(name=name, overwrite=overwrite, given=typed_options)

    app = typer.Typer()
    app.command()(command)
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, list(words))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return values, result.output


@pytest.mark.parametrize(
    ("words", "typed_options"),
    [
        ([], {}),
        (["--weight", "1.5"], {"weight": 1.5}),  # typed, though it is the default
        (["--names", "c, d", "--maybe", "4"], {"names": ("c", "d"), "maybe": 4}),
        (["--names", "none"], {"names": ()}),
        (["--counts", "1,2, 8"], {"counts": (1, 2, 8)}),
        (["--shares", "2,1.5", "--raw"], {"shares": (2.0, 1.5), "scale": False}),
    ],
)
def test_what_was_typed_is_given(words: list[str], typed_options: dict[str, Any]) -> None:
    values, _ = invoke("y", "--overwrite", *words)
    assert values == {"name": "y", "overwrite": True, "given": typed_options}
    assert Made(**typed_options) is not None


def test_help_shows_the_dataclass() -> None:
    _, text = invoke("--help")
    for part in ("Do it.", "How much.", "1.5; for heavys 2.5", "a,b", "--raw", "Perhaps."):
        assert part in text
    assert "hidden" not in text


def test_numbers_that_are_none_name_the_flag() -> None:
    with raises(UsageError, operation="--shares", got="'x'"):
        invoke("--shares", "x")
    with raises(UsageError, operation="--counts", got="'1.5'"):
        invoke("--counts", "1.5")
