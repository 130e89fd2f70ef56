"""The process that loads libraries meanwhile: its answers, its errors and its end."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="started on Linux only")

SETUP = """
import os, signal, sys, time
import psutil
from pathlib import Path
from convnd_tasks.runtime import warm_process
from convnd_tasks.runtime.warm_process import call_warm, start_warm_process
warm_process.count_allowed_cores = lambda: 2
start_warm_process(["json", "no_such_module"])
(child,) = psutil.Process().children()
"""


def run(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SETUP + textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_it_answers_and_raises() -> None:
    done = run("""
        assert call_warm(os.getpid) == child.pid
        try:
            call_warm(int, "seven")
        except ValueError as error:
            assert "seven" in str(error)
        else:
            raise AssertionError
        assert call_warm(max, 2, 3) == 3
    """)
    assert done.returncode == 0, done.stderr


def test_calls_go_on_here_when_it_was_killed() -> None:
    done = run("""
        child.kill()
        child.wait()
        assert call_warm(os.getpid) == os.getpid()
        assert call_warm(os.getpid) == os.getpid()
    """)
    assert done.returncode == 0, done.stderr


def test_a_fork_calls_for_itself() -> None:
    done = run("""
        pid = os.fork()
        if not pid:
            os._exit(0 if call_warm(os.getpid) == os.getpid() else 1)
        assert os.waitpid(pid, 0)[1] == 0
    """)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("end", ["", "os.kill(os.getpid(), signal.SIGKILL)", "raise ValueError"])
def test_it_ends_with_its_parent(end: str, tmp_path: Path) -> None:
    import psutil

    code = f"""
        Path(sys.argv[1]).write_text(str(child.pid))
        call_warm(os.getpid)
        {end}
    """
    run(code, tmp_path / "pid")
    pid = int((tmp_path / "pid").read_text())
    try:
        psutil.Process(pid).wait(30)
    except psutil.NoSuchProcess:
        return
    assert not psutil.pid_exists(pid)


def test_torch_or_threads_prevent_it() -> None:
    done = run("""
        import torch, threading
        warm_process.start_warm_process(["json"])
        assert len(psutil.Process().children()) == 1
        del sys.modules["torch"]
        event = threading.Event()
        thread = threading.Thread(target=event.wait)
        thread.start()
        warm_process.start_warm_process(["json"])
        assert len(psutil.Process().children()) == 1
        event.set()
    """)
    assert done.returncode == 0, done.stderr


def test_an_interrupt_is_left_to_the_parent() -> None:
    done = run("""
        call_warm(os.getpid)
        os.kill(child.pid, signal.SIGINT)
        assert call_warm(os.getpid) == child.pid
    """)
    assert done.returncode == 0, done.stderr
