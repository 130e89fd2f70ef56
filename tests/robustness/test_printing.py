"""Texts out of files, and their names, reach terminals, programs and reports without effect."""

from __future__ import annotations

import ast
import json
import logging
import re
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from convnd_tasks.pipeline.output import CommandOutput, echo
from convnd_tasks.pipeline.progress import ProgressDisplay
from convnd_tasks.pipeline.report import Report
from convnd_tasks.runtime import plots
from PIL import Image

import convnd.io
from convnd.errors import InputFileError, printable
from convnd.grid import Grid

# A window's title, red, a line of its own, the other direction, C1's own escape, bytes of no text.
HOSTILE = "a\x1b]0;owned\x07\x1b[31m\nconvnd: fake\r\u202egpj.\x9b2J\u2028\udcff\u200b"
DARK = re.compile(
    r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
QUICK = ("--size", "32", "--steps", "1", "--scales", "1", "--backbone", "compact", "-q")


def harmless(text: str) -> bool:
    """Whether a terminal draws a text and does nothing else."""
    return DARK.search(text) is None and "\nconvnd: fake" not in text


def picture(path: Path) -> None:
    Image.fromarray(np.random.default_rng(5).integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(
        path, "PNG"
    )


def test_what_is_printable_stays_and_the_rest_is_escaped() -> None:
    assert printable("中 µV, naïve ² – 🫀") == "中 µV, naïve ² – 🫀"
    for code in range(0x110000):
        if unicodedata.category(chr(code)) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
            assert printable(chr(code)).isascii(), hex(code)
    assert harmless(printable(HOSTILE))


@pytest.mark.parametrize("err", [False, True])
def test_echo_escapes(capsys: pytest.CaptureFixture[str], err: bool) -> None:
    echo(HOSTILE, "b", err=err)
    text = capsys.readouterr()[err]
    assert text.count("\n") == 2
    assert harmless(text)


def test_nothing_else_prints() -> None:
    """Commands print through `echo`; ``cli`` and ``__main__`` escape the last line themselves."""
    roots = [Path(__file__).parents[2] / folder for folder in ("convnd", "tasks")]
    prints = [
        f"{path.relative_to(root)}:{node.lineno}"
        for root in roots
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and (
            (isinstance(node.func, ast.Name) and node.func.id == "print")
            or (isinstance(node.func, ast.Attribute) and node.func.attr in ("echo", "secho"))
        )
    ]
    names = [text.partition(":")[0] for text in prints]
    expected = ["__main__.py", *["cli/__init__.py"] * 3, "convnd_tasks/pipeline/output.py"]
    assert sorted(names) == expected, prints


def test_messages_above_a_bar_are_escaped(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []

    class Bar:
        console: Any = type("", (), {"print": lambda _, line, **__: lines.append(line)})()

    display = ProgressDisplay(enabled=False, terminal=False)
    display.message(HOSTILE)
    monkeypatch.setattr(display, "_bar", Bar())
    display.message(HOSTILE)
    assert harmless(capsys.readouterr().err)
    assert harmless(lines[0])


def test_logs_and_json_are_escaped(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # pytest keeps log records, and cannot send a lone surrogate from one process to another.
    monkeypatch.setattr(logging.getLogger("convnd"), "propagate", False)
    output = CommandOutput("x", json=True, verbose=True)
    with output.collect():
        logging.getLogger("convnd.x").info("%s", HOSTILE)
        output.add(name=HOSTILE)
    out, err = capsys.readouterr()
    assert harmless(out)
    assert harmless(err.replace("\nconvnd: fake", ""))  # a log record may have lines
    assert json.loads(out)["name"] == HOSTILE


def test_reports_are_text_that_any_reader_decodes() -> None:
    report = Report(HOSTILE, lead=HOSTILE)
    report.section(HOSTILE, HOSTILE)
    report.table([HOSTILE], [[HOSTILE]], HOSTILE)
    report.figure(plots.loss_curve({"a": [1.0, 2.0]}), HOSTILE)
    page = report.html()
    page.encode("utf-8")
    assert DARK.search(page) is None


@pytest.mark.parametrize(
    "text",
    [
        *(pytest.param(text, marks=pytest.mark.slow) for text in ("$", "$$", "中🫀", r"x\$y$z")),
        r"a$\q$b",
        r"$\frac{1}{",
        HOSTILE,
    ],
)
def test_figures_draw_texts_as_they_are(text: str) -> None:
    figure, axes = plots.new_figure(3, 2)
    axes[0, 0].plot([1, 1e5], label=text)
    axes[0, 0].set_yscale("log")
    axes[0, 0].set_title(text)
    axes[0, 0].set_ylabel(text)
    axes[0, 0].annotate(text, (0, 1))
    axes[0, 0].legend()
    figure.text(0, 0, text)
    assert plots.encode(figure, dpi=30).startswith(b"\x89PNG")
    drawn = [axes[0, 0].get_title(), axes[0, 0].get_legend().get_texts()[0].get_text()]
    assert all(DARK.search(words) is None for words in drawn)


def test_powers_of_ten_stay_formulas() -> None:
    figure, axes = plots.new_figure(3, 2)
    axes[0, 0].plot([1, 1e5])
    axes[0, 0].set_yscale("log")
    plots.encode(figure, dpi=30)
    labels = axes[0, 0].get_yticklabels()
    assert all(label.get_parse_math() for label in labels)


def test_what_was_typed_is_escaped(run: Any) -> None:
    for typed in (("stylize", f"--{HOSTILE}"), (HOSTILE,), ("stylize", "--steps", HOSTILE)):
        code, out, err = run(*typed)
        assert (code, out) == (2, "")
        assert harmless(err), err
        assert err.count("\n") == 1


@pytest.fixture
def names(tmp_path: Path) -> list[str]:
    """Files with hostile names in a folder that the command sees."""
    (tmp_path / "in").mkdir()
    strange = ["\x1b]0;owned\x07\x1b[31m.png", "c\nconvnd: fake line.png", "\u202egnp.\x9b2J.png"]
    for name in strange:
        picture(tmp_path / "in" / name)
    (tmp_path / "in" / "broken\x1b[31m\n.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    (tmp_path / "in" / "other\x1b[31m.x\x1b[2J").write_bytes(b"?")
    return strange


@pytest.mark.slow
def test_folders_of_hostile_names(run: Any, names: list[str], tmp_path: Path) -> None:
    for more in ((), ("--skip-existing",), ("--overwrite", "-v", "--json")):
        code, out, err = run("stylize", "in", "waves", "-o", "out", *QUICK, *more)
        assert code == 1, err  # one picture is broken
        assert harmless(out), repr(out)
        assert harmless(err), repr(err)
    assert len(list((tmp_path / "out").glob("*.png"))) == len(names)


def test_reports_of_hostile_names(run: Any, names: list[str], tmp_path: Path) -> None:
    picture(tmp_path / "in" / "\udcff.png")
    for number, name in enumerate((names[0], "\udcff.png")):
        target = ("-o", f"{number}.png", "--report", f"{number}.html", "--figures")
        code, out, err = run("stylize", f"in/{name}", f"in/{names[0]}", *target, *QUICK)
        assert code == 0, err
        assert harmless(out)
        assert harmless(err)
        assert DARK.search((tmp_path / f"{number}.html").read_text("utf-8")) is None


def test_inspect_prints_hostile_names_escaped(run: Any, names: list[str]) -> None:
    options = ("--layer", "relu1_1", "--units", "0", "--backbone", "compact", "--report", "r.html")
    code, out, err = run("patches", "in", *options)
    assert code == 1, err  # one picture is broken
    assert harmless(out), repr(out)
    assert harmless(err), repr(err)


def test_an_error_is_one_line_whatever_it_holds() -> None:
    assert harmless(str(InputFileError(HOSTILE)))
    assert harmless(str(InputFileError(HOSTILE, expected=HOSTILE, got=HOSTILE, remedy=HOSTILE)))


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_names_of_leads_stay_one_cell_of_one_line(suffix: str, tmp_path: Path) -> None:
    names = ("a,b", 'c"d', "e\nf", "#g", "=1+1", "x\ty", "%z", "k\r\n1,2,3", "\u2028l")
    values = torch.rand(1, len(names), 20, generator=torch.Generator().manual_seed(3))
    grid = Grid(values=values, axes=("t",), channels=names, spacing=(0.01,), units=("s",))
    convnd.io.write(tmp_path / f"a{suffix}", grid)
    again = convnd.io.read(tmp_path / f"a{suffix}")
    assert again.values.equal(values)
    line_ends = re.compile(r"[\r\n\u2028]+")
    assert again.channels == tuple(line_ends.sub(" ", name).strip() for name in names)
