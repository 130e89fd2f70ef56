"""``convnd trace`` as people type it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import typer
from convnd_tasks.commands.trace import trace
from error_fields import raises
from typer.testing import CliRunner

from convnd.errors import ConvndError, ShapeError, UnknownNameError, UsageError

NOTES = {
    1: ("14x1", ("10×16", "6×32"), ("16 of 5×1", "32 of 5×16")),
    2: ("14x14x3", ("10×10×16", "6×6×32"), ("16 of 5×5×3", "32 of 5×5×16")),
    3: ("14x14x14x1", ("10×10×10×16", "6×6×6×32"), ("16 of 5×5×5×1", "32 of 5×5×5×16")),
}


def run(*arguments: str) -> str:
    """What the command prints, mounted as the root application mounts it."""
    app = typer.Typer(pretty_exceptions_enable=False)
    app.callback()(lambda: None)
    app.command("trace")(trace)
    result = CliRunner().invoke(app, ["trace", *arguments])
    if isinstance(result.exception, ConvndError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("dim", NOTES)
def test_the_stacks_of_the_notes(dim: int) -> None:
    shape, outputs, kernels = NOTES[dim]
    lines = run("--dim", str(dim), shape, "conv:5:16", "conv:5:32").splitlines()
    for line, layer, output, kernel, field in zip(
        lines[2:4], ("conv:5:16", "conv:5:32"), outputs, kernels, ("5", "9"), strict=True
    ):
        cells = [cell.strip() for cell in line.split("  ") if cell]
        assert cells[:3] == [layer, kernel, output]
        assert cells[-3:] == ["×".join([field] * dim), "1", "0"]
    assert run(shape, "conv:5:16", "conv:5:32").splitlines() == lines


def test_the_table_is_exactly_this() -> None:
    printed = run("9x12x4", "conv:3x4:8,stride=2,groups=2,bias=no", "pool:2,padding=1")
    assert [line.rstrip() for line in printed.splitlines()] == [
        left + right
        for left, right in zip(
            [
                "layer                                 kernels     output",
                "input                                             9×12×4",
                "conv:3x4:8,stride=2,groups=2,bias=no  8 of 3×4×2   4×5×8",
                "maxpool:2,padding=1                   2×2          3×3×8",
                "total                                                   ",
            ],
            [
                "  parameters  multiply-adds  field  stride  offset",
                "",
                "         192          3,840    3×4       2       0",
                "           0              0    5×6       4      -2",
                "         192          3,840",
            ],
            strict=True,
        )
    ]


def test_json_holds_the_same_numbers() -> None:
    record = json.loads(run("14x14x3", "conv:5:16", "convtranspose:4:8,stride=2", "--json"))
    assert record["spatial_dims"] == 2
    assert record["parameters"] == 16 * 76 + 8 * (16 * 16) + 8
    first, conv, up = record["layers"]
    assert (first["layer"], first["size"], first["channels"]) == ("input", [14, 14], 3)
    assert conv == {
        "layer": "conv:5:16",
        "size": [10, 10],
        "channels": 16,
        "parameters": 1216,
        "multiply_adds": 120000,
        "receptive_field": {
            "span": [5, 5],
            "size": [5, 5],
            "stride": [1, 1],
            "offset": [0, 0],
        },
    }
    assert up["receptive_field"]["stride"] == ["1/2", "1/2"]
    assert up["receptive_field"]["span"] == [6, 6]


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (
            ["--dim", "3", "14x14x1", "conv:5:16"],
            ShapeError,
            {"operation": "shape '14x14x1'", "expected": "3 axes and then"},
        ),
        (
            ["14x14x1", "conv:5:16", "conv:12:3"],
            ShapeError,
            {"operation": "conv:12:3", "expected": "12"},
        ),
        (
            ["14x14x1", "cov:5:16"],
            UnknownNameError,
            {"operation": "layer 'cov:5:16'", "got": "'cov'", "remedy": "'conv'"},
        ),
        (
            ["14x14", "conv:5"],
            UsageError,
            {"operation": "layer 'conv:5'", "remedy": "write for example conv:5:16"},
        ),
    ],
)
def test_bad_pieces_are_refused(
    arguments: list[str], error: type[Exception], words: dict[str, str]
) -> None:
    with raises(UsageError, **words) as caught:
        run(*arguments)
    assert caught.type is error


def test_no_tensor_library_is_imported() -> None:
    code = (
        "import sys, convnd_tasks.commands.trace\n"
        "print({'torch', 'numpy', 'rich'} & set(sys.modules))"
    )
    path = ":".join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": path},
    )
    assert done.stdout.strip() == "set()"
