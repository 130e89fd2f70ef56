"""How many threads the command line takes, and how they wait."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from convnd import threads
from convnd.threads import Load, count_allowed_cores, limit_threads, wait_asleep

_NAMES = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"),
    *("KMP_BLOCKTIME", "KMP_LIBRARY", "OPENBLAS_THREAD_TIMEOUT"),
)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment that says nothing of threads, and a process without torch."""
    variables = {name: text for name, text in os.environ.items() if name not in _NAMES}
    monkeypatch.setattr(os, "environ", variables)
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(threads, "_automatic", False)
    return variables


def _load(seconds: float, *, idle: float, used: float, average: float, cores: int = 8) -> Load:
    return Load(seconds, idle, used, cores, average)


@pytest.mark.parametrize(
    ("idle", "used", "average", "free"),
    [
        (7.0, 1.0, 0.0, 8),  # a quiet machine
        (4.0, 1.0, 3.0, 5),  # three cores are taken, now and before
        (4.0, 1.0, 0.1, 8),  # a short burst
        (7.0, 1.0, 8.0, 8),  # another job has just ended
        (0.0, 0.5, 20.0, 1),  # there are more processes than cores
    ],
)
def test_cores_are_taken_if_they_are_now_and_were_before(
    idle: float, used: float, average: float, free: int
) -> None:
    before = _load(10.0, idle=100.0, used=0.0, average=average)
    assert before.free_cores(_load(11.0, idle=100.0 + idle, used=used, average=average)) == free


def test_a_load_that_cannot_be_measured_takes_no_core() -> None:
    before = Load(10.0, None, 0.0, 4, 9.0)
    assert before.free_cores(Load(11.0, None, 1.0, 4, 9.0)) == 4
    too_short = _load(10.001, idle=0.0, used=0.0, average=9.0)
    assert _load(10.0, idle=0.0, used=0.0, average=9.0).free_cores(too_short) == 8


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("files", "allowed"),
    [
        ({}, 16),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}, 16),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "350000 100000\n"}, 3),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "200000 100000\n"}, 2),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        (
            {
                "proc/self/cgroup": "4:memory:/m\n1:cpu,cpuacct:/docker/x\n0::/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "400000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpu/docker/x/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/docker/x/cpu.cfs_period_us": "100000\n",
            },
            4,
        ),
    ],
)
def test_quotas_of_cgroups_and_affinity_limit_the_cores(
    files: dict[str, str], allowed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    for name, text in files.items():
        _write(tmp_path / name, text)
    assert count_allowed_cores(tmp_path) == allowed
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    assert count_allowed_cores(tmp_path) == 1


def test_the_number_of_threads_is_that_of_free_cores(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "count_allowed_cores", lambda: 4)
    monkeypatch.setattr(Load, "free_cores", lambda _: 3)
    assert limit_threads(Load.now()) == 3
    assert environment.pop("OMP_NUM_THREADS") == "3"
    assert limit_threads(Load.now(), reproducible=True) == 4


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS"])
def test_the_users_number_of_threads_wins(environment: dict[str, str], name: str) -> None:
    environment[name] = "7"
    before = dict(environment)
    assert limit_threads(Load.now()) is None
    assert environment == before


def test_a_number_set_in_torch_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    assert limit_threads(Load.now()) is None  # torch is loaded
    threads.use_threads(torch.get_num_threads() + 1)
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_the_users_way_of_waiting_wins(environment: dict[str, str], name: str) -> None:
    environment[name] = "1"
    wait_asleep()
    assert {other for other in _NAMES if other in environment} == {name, "OPENBLAS_THREAD_TIMEOUT"}
    environment.pop(name)
    wait_asleep()
    assert environment["OMP_WAIT_POLICY"] == "PASSIVE"


def test_importing_the_library_leaves_the_environment_alone() -> None:
    code = "import os; before = dict(os.environ); import convnd.cli, convnd.threads, convnd.io; "
    code += "assert dict(os.environ) == before"
    subprocess.run([sys.executable, "-c", code], check=True)
