"""Streams that are full, closed or no terminal, and the environment of a process."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from command_line import Run
from error_fields import check_error, raises

from convnd.errors import UsageError
from convnd.optimize import ProcessGroup

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")


def convnd(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a shell line in which ``convnd`` is this interpreter's."""
    command = f"{sys.executable} -m convnd {line}"
    return subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def test_a_full_stdout_is_one_line_and_code_4() -> None:
    done = convnd("samples > /dev/full")
    assert done.returncode == 4
    assert done.stderr.count("\n") == 1
    assert "No space left" in done.stderr


@pytest.mark.parametrize(
    "line",
    [
        "samples 2>&-",
        *(
            pytest.param(line, marks=pytest.mark.slow)
            for line in ("samples 2>/dev/full", "samples")
        ),
    ],
)
def test_stderr_is_not_needed(line: str) -> None:
    done = convnd(line)
    assert done.returncode == 0
    assert done.stdout.startswith("--dim 1")


def test_closed_streams_end_without_a_traceback() -> None:
    assert convnd("nothing >&- 2>/dev/full").returncode != 0


def test_a_world_size_that_is_no_number_is_refused() -> None:
    done = convnd("samples", WORLD_SIZE="abc", RANK="0")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "WORLD_SIZE: expected a number of processes, got 'abc'" in done.stderr


@pytest.mark.slow
def test_a_hangup_ends_a_job_like_a_termination() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "convnd", "stylize", "--dim", "2", "--steps", "100000"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=os.environ.get("TMPDIR", "/tmp"),
        text=True,
    )
    time.sleep(1)  # handlers are set in the first instants; what comes later ends alike
    process.send_signal(signal.SIGHUP)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGHUP
    assert "Traceback" not in err


@pytest.mark.parametrize("stderr", ["closed", "full"])
def test_a_job_goes_on_without_stderr(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stderr: str
) -> None:
    (tmp_path / "a.csv").write_text("\n".join(str(0.1 * (n % 7)) for n in range(40)))
    words = ("--rate", "100", "--backbone", "compact", "--steps", "1", "--scales", "1")
    with Path("/dev/full").open("w") as full:
        for name in ("stderr", "__stderr__"):
            monkeypatch.setattr(sys, name, None if stderr == "closed" else full)
        code, out, _ = run("stylize", "a.csv", "a.csv", *words, "-v", "--json", "-o", "b.csv")
        opened: Any = sys.stderr
        monkeypatch.undo()
        for stream in (opened, full):
            with contextlib.suppress(OSError):
                stream.close()
    assert code == 0, out
    assert json.loads(out)["results"][0]["output"] == "b.csv"


@pytest.mark.slow
@pytest.mark.parametrize("stderr", ["2>&-", "2>/dev/full"])
def test_messages_that_cannot_be_written_do_not_end_a_job(tmp_path: Path, stderr: str) -> None:
    (tmp_path / "a.csv").write_text("\n".join(str(0.1 * (n % 7)) for n in range(40)))
    line = (
        f"stylize {tmp_path}/a.csv waves --rate 100 --steps 1 --scales 1 -v --json "
        f"-o {tmp_path}/b.csv {stderr}"
    )
    done = convnd(line)
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["results"][0]["output"] == f"{tmp_path}/b.csv"


@pytest.mark.parametrize(
    "words",
    [
        pytest.param("--help", marks=pytest.mark.slow),
        "stylize --help",
        pytest.param("--show-completion bash", marks=pytest.mark.slow),
    ],
)
def test_help_that_cannot_be_written_is_code_4(words: str) -> None:
    done = convnd(f"{words} > /dev/full")
    assert (done.returncode, done.stderr.count("\n")) == (4, 1)


@pytest.mark.parametrize(
    ("name", "text"),
    [("RANK", "abc"), ("RANK", "2"), ("RANK", ""), ("LOCAL_RANK", "x"), ("WORLD_SIZE", "9" * 5000)],
)
def test_variables_of_torchrun_that_are_no_numbers_are_refused(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    for variable in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.setenv(variable, {"WORLD_SIZE": "2"}.get(variable, "0"))
    monkeypatch.setenv(name, text)
    assert run("samples")[0] == 2
    with raises(UsageError, operation=name):
        ProcessGroup.join()


@pytest.mark.parametrize(
    "words",
    [
        *(("stylize", "", "b.png"), ("stylize", "a.png", ""), ("stylize", "a.png", "-o", "")),
        *(("evaluate", "a.png", ""), ("patches", "")),
    ],
)
def test_an_empty_name_is_not_the_current_folder(
    run: Run, words: tuple[str, ...], tmp_path: Path
) -> None:
    """A variable of the shell that is not set gives one."""
    for name in ("a.png", "b.png"):
        (tmp_path / name).touch()
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    check_error(err, got="an empty one")


LONG = "x" * 300


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("stylize", f"{LONG}.png"), 3),
        (("stylize", "a.png", f"{LONG}.png"), 3),
        (("stylize", "town", "--dim", "2", "-o", f"{LONG}.png"), 4),
        (("stylize", "town", "--dim", "2", "-o", f"{LONG}/a.png"), 4),
        (("stylize", "town", "--dim", "2", "--init", f"{LONG}.png"), 3),
        (("evaluate", f"{LONG}.png", "a.png"), 3),
        (("patches", f"{LONG}.png"), 3),
        (("patches", "town", "-o", LONG), 4),
        (("rerun", f"{LONG}.png"), 3),
        (("weights", "get", f"{LONG}.pth"), 3),
    ],
)
def test_names_that_are_too_long_are_one_line(
    run: Run, words: tuple[str, ...], expected: int, tmp_path: Path
) -> None:
    (tmp_path / "a.png").touch()
    code, out, err = run(*words)
    assert (code, out, err.count("\n")) == (expected, "", 1)
    assert "File name too long" in err


def test_a_record_of_deep_json_is_no_fault_of_skip_existing(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("0\n1\n2\n")
    deep = {"convnd:command": "[" * 50_000, "convnd:versions": "[" * 50_000}
    (tmp_path / "a.csv.json").write_text(json.dumps(deep))
    code, out, err = run("stylize", "--dim", "1", "--skip-existing", "-o", "a.csv")
    assert (code, out, err.count("\n")) == (2, "", 1)
    check_error(err, expected="a result of the same parameters")
