"""What all commands share: root options, help, usage errors and shell completion."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import typer.main
from command_line import Run
from convnd_tasks.inspect.options import PatchOptions
from convnd_tasks.inspect.saliency import METHODS
from convnd_tasks.inspect.search import SUPPRESSION
from convnd_tasks.modalities import MODALITIES, options_class
from convnd_tasks.runtime.settings import JobSettings
from error_fields import check_error, raises
from PIL import Image

from convnd import cli
from convnd.backbones import INFLATIONS
from convnd.backbones.precision import PRECISIONS
from convnd.errors import UsageError
from convnd.losses import NORMALIZATIONS
from convnd.optimize import OPTIMIZERS
from convnd.options import DEVICES, flags_of
from convnd.stats import STATISTICS


def _commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        yield (*path, name), command
        if hasattr(command, "commands"):
            yield from _commands(command, (*path, name))


APP = cli.app
ROOT = typer.main.get_command(APP())
COMMANDS = dict(_commands(ROOT))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_root_options_stand_behind_every_command(path: tuple[str, ...]) -> None:
    options = {name for parameter in COMMANDS[path].params for name in parameter.opts}
    assert {"--offline", "--max-pixels", "--version"} <= options


@pytest.mark.parametrize("before", [True, False])
def test_root_options_mean_the_same_in_both_places(run: Run, before: bool) -> None:
    words = ["--max-pixels", "7", "--offline"]
    code, _, _ = run(*(words if before else []), "samples", *([] if before else words))
    assert (code, os.environ["CONVND_MAX_PIXELS"], os.environ["CONVND_OFFLINE"]) == (0, "7", "1")


@pytest.mark.parametrize(
    ("words", "problem", "remedy"),
    [
        (["stylise"], "'stylise'", "did you mean 'stylize'"),
        (["stylize", "--stepz", "3"], "--stepz", "did you mean --steps"),
        (["stylize", "--steps"], "--steps", "see convnd stylize --help"),
        (["stylize", "--steps", "x"], "--steps: expected a whole number", "stylize --help"),
        (["stylize-volume"], "SCAN", "see convnd stylize-volume --help"),
        (["weights", "get"], "NAME|URL|FILE", "see convnd weights get --help"),
        (["samples", "one", "two"], "one two", "see convnd samples --help"),
        (["samples", "--max-pixels", "0"], "--max-pixels: expected", "see convnd samples --help"),
        (["--steps", "3", "stylize"], "--steps before a command", "stylize-video"),
    ],
)
def test_a_usage_error_is_one_line(run: Run, words: list[str], problem: str, remedy: str) -> None:
    code, out, err = run(*words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("convnd: ")
    assert problem in err
    assert remedy in err.partition("; ")[2]


def test_a_usage_error_is_json_where_json_is_asked_for(run: Run) -> None:
    code, out, err = run("samples", "--json", "--nothing")
    entry = json.loads(out)
    assert (code, entry["exit_code"], out.count("\n")) == (2, 2, 1)
    assert entry["error"] in err


def test_commands_without_arguments_show_their_help(run: Run) -> None:
    for words in ([], ["weights"]):
        code, out, err = run(*words)
        assert (code, out) == (2, "")
        assert "Commands:" in err


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_help_fits_the_terminal(run: Run, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    _, out, _ = run("stylize", "--help")
    for parameter in COMMANDS["stylize",].params:
        for name in (*parameter.opts, *parameter.secondary_opts):
            assert not name.startswith("-") or name in out  # never cut off
    headings = [line for line in out.splitlines() if line.endswith(":") and line[0] != " "]
    assert {"The look:", "Output:", "Options of every command:"} <= set(headings)
    if columns >= 40:  # an option and its placeholder are not broken
        assert max(map(len, out.splitlines())) <= min(columns, 100)
    assert "\x1b" not in out


def _complete(run: Run, monkeypatch: pytest.MonkeyPatch, *words: str) -> list[str]:
    """What bash offers for the last word."""
    monkeypatch.setenv("_CONVND_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", " ".join(["convnd", *words]))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    code, out, err = run()
    assert (code, err) == (0, "")
    return out.split()


@pytest.mark.parametrize(
    ("words", "offers"),
    [
        (["weights", "li"], ["list"]),
        (["samples", "--off"], ["--offline"]),
        (["stylize", "--colors", ""], ["style", "luminance", "match", "only"]),
        (["stylize", "--value-statistics", "gram,auto"], ["gram,autocorrelation"]),
        (["stylize", "--backbone", "vgg19"], ["vgg19", "vgg19-torchvision"]),
        (["stylize", "--backbone", "comp"], ["compact+vgg19", "compact", "compact-1d"]),
        (["stylize", "--backbone", "compact+vgg19-"], ["compact+vgg19-torchvision"]),
        (["weights", "path", "com"], ["compact"]),
        (["stylize", "photo.jpg", "we"], ["weave", "weather.png", "web/"]),
        (["stylize", "--dim", "1", "arr"], ["arrhythmia"]),
        (["stylize", "--dim", "2", "arr"], []),
        (["stylize-volume", "scan.nii", "--style", "so"], ["soft"]),
        (["evaluate", "a.png", "b.png", "--style", "mar"], ["marble"]),
        (["stylize", "--mask", ""], []),  # the shell's own files
    ],
)
def test_completion(
    run: Run, monkeypatch: pytest.MonkeyPatch, words: list[str], offers: list[str]
) -> None:
    Path("weather.png").touch()
    Path("web").mkdir()
    Path("wea\nther.png").touch()  # would be offered as two names
    Path("we\u202egnp.\x1b[2J").touch()
    assert _complete(run, monkeypatch, *words) == offers


@pytest.mark.parametrize("position", ["-1x", "", "9" * 5000])
def test_completion_without_a_shell_is_a_usage_error(
    run: Run, monkeypatch: pytest.MonkeyPatch, position: str
) -> None:
    monkeypatch.setenv("_CONVND_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "convnd samples")
    monkeypatch.setenv("COMP_CWORD", position)
    code, out, err = run()
    assert (code, out, err.count("\n")) == (2, "", 1)


def test_completion_can_be_installed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    # Typer looks for a shell among the parents of this process; there may be none.
    monkeypatch.setattr("shellingham.detect_shell", lambda: ("bash", "/bin/bash"))
    code, out, _ = run("--show-completion")
    assert (code, "complete -o default -F" in out) == (0, True)


NAMES: dict[str, Iterable[str]] = {
    "style_loss": STATISTICS,
    "value_statistics": STATISTICS,
    "normalization": NORMALIZATIONS,
    "optimizer": OPTIMIZERS,
    "inflation": ["auto", "multiplanar", *INFLATIONS],
    "precision": PRECISIONS,
    "device": DEVICES,
    "suppress": SUPPRESSION,
    "explain": METHODS,
}


@pytest.mark.parametrize("options", [*map(options_class, MODALITIES), JobSettings, PatchOptions])
def test_choices_are_the_names_that_exist(options: type[Any]) -> None:
    for name, (_, flag) in flags_of(options).items():
        assert set(flag.choices) <= set(NAMES.get(name, flag.choices)), name
        if flag.choices and name not in NAMES and name != "mode":
            assert getattr(options, name) in flag.choices, name


@pytest.mark.parametrize("name", NAMES)
def test_all_names_are_choices(name: str) -> None:
    kinds: list[type[Any]] = [*map(options_class, MODALITIES), PatchOptions]
    flags = [flags_of(kind)[name][1] for kind in kinds if name in flags_of(kind)]
    assert {choice for flag in flags for choice in flag.choices} == set(NAMES[name])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["stylize", "https://example.org/cat.png", "waves"], "got an address; download it first"),
        (["stylize", "a.png", "s3://bucket/waves.png"], "got an address; download it first"),
        (["stylize", "-", "waves", "--dim", "2"], "got the standard input; save to a file first"),
        (["evaluate", "a.png", "http://example.org/a.png"], "got an address"),
        (["stylize", "a.csv", "folder"], "folder: expected files of a known kind with 1 spatial"),
    ],
)
def test_what_is_no_file_is_named(words: list[str], message: str, run: Any, tmp_path: Path) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    (tmp_path / "a.csv").write_text("II\n" + "".join(f"{k % 7}\n" for k in range(64)))
    (tmp_path / "folder").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "folder" / "b.png")
    code, _, err = run(*words)
    assert (code, message in err) == (3, True), err


def test_a_command_loads_no_other(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    mounted: list[str | None] = []

    def record(only: str | None = None) -> typer.Typer:
        mounted.append(only)
        return APP(only)

    monkeypatch.setattr(cli, "app", record)
    for words in (["samples"], ["--offline", "--max-pixels", "9", "samples"], ["sample"], ["-h"]):
        run(*words)
    assert mounted == ["samples", "samples", None, None]
    assert list(typer.main.get_command(APP("samples")).commands) == ["samples"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "auto:0"])
@pytest.mark.parametrize("options", [PatchOptions, *map(options_class, MODALITIES)])
def test_the_name_of_a_device_is_checked_with_the_options(options: type[Any], name: str) -> None:
    more = {"layers": ("relu1_1",)} if options is PatchOptions else {}
    with raises(UsageError, operation="device", got=repr(name)):
        options(device=name, **more)


@pytest.mark.parametrize(
    "words",
    [
        "stylize town waves",
        "stylize town waves --sheet",
        "stylize town waves --dry-run",
        "patches --dim 2",
        "train waves --dim 2",
    ],
)
def test_a_missing_device_is_reported_before_an_existing_output(
    words: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    output = tmp_path / ("there.safetensors" if words.startswith("train") else "there.png")
    output.touch()
    code, _, err = run(*words.split(), "--device", "cuda", "--output", str(output))
    assert code == 4
    check_error(err, operation="device", got="one without")
