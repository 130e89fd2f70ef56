"""Threads of the command line: how many there are, and how they wait.

The OpenMP library of torch reads its settings from the environment when it is loaded. Only the
command line sets them, before it imports torch. A program that imports convnd keeps its own.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Load", "count_allowed_cores", "limit_threads", "use_threads", "wait_asleep"]

_COUNTS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")

_BLAS_TIMEOUT = 10
"""Binary logarithm of the processor cycles that threads of OpenBLAS, which NumPy has, wait."""

_SHORTEST = 0.05
"""Seconds below which the system's clock ticks are too coarse to measure the load."""

_automatic = False  # whether `limit_threads` chose the number of threads of this process


def wait_asleep() -> None:
    """Let threads that wait for others sleep instead of spin; torch must not be loaded yet.

    By default threads of OpenMP spin for milliseconds between two parallel loops. Where another
    program holds a core, all others spin until the thread on that core arrives: two threads then
    took 2.4 times the processor time of one. The OpenMP libraries of GNU (in torch for Linux), LLVM
    and Intel honour the variable. The function does nothing if the environment says how threads
    wait.
    """
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", str(_BLAS_TIMEOUT))
    if not any(name in os.environ for name in _WAITING):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def limit_threads(load: Load, *, reproducible: bool = False) -> int | None:
    """Set the number of torch's threads to that of the cores that are free; torch is not loaded.

    Args:
        load: how busy the machine was since the process started.
        reproducible: take all allowed cores, so that the number, on which the last bits of results
            depend, is the same in every run.

    Returns:
        The number, or None where the environment sets it or torch is loaded already.
    """
    global _automatic
    if any(name in os.environ for name in _COUNTS) or "torch" in sys.modules:
        return None
    _automatic = True
    allowed = count_allowed_cores()
    count = allowed if reproducible else min(allowed, load.free_cores())
    os.environ["OMP_NUM_THREADS"] = str(count)
    return count


def use_threads(count: int) -> None:
    """Use as many threads as an earlier run did, unless the user or the machine forbids it.

    Args:
        count: number of threads.
    """
    if _automatic and 1 <= count <= count_allowed_cores():
        import torch

        torch.set_num_threads(count)


def count_allowed_cores(root: Path = Path("/")) -> int:
    """Return the number of cores that this process may use: affinity, and quotas of cgroups.

    Args:
        root: folder with ``proc`` and ``sys``.
    """
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        cores = os.cpu_count() or 1
    quotas = [quota for folder in _cgroups(root) if (quota := _quota(folder)) is not None]
    # A thread above the quota would be stopped for a part of each period while others wait for it.
    return max(1, min([cores, *map(int, quotas)]))


def _cgroups(root: Path) -> list[Path]:
    """The folders of this process's control groups that limit processor time, and those above."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    folders = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mounts = ("cpu", "cpu,cpuacct") if controllers else ("", "unified")
        for mount in mounts:
            top = root / "sys/fs/cgroup" / mount
            group = top / path.lstrip("/")
            # In a container the path may be that of the host, and the mount the group itself.
            folders += [
                top,
                *(parent for parent in (group, *group.parents) if top in parent.parents),
            ]
    return folders


def _quota(folder: Path) -> float | None:
    """Cores that a control group may use, or None for all."""
    with contextlib.suppress(OSError, ValueError):
        quota, period = (folder / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        quota = (folder / "cpu.cfs_quota_us").read_text()
        period = (folder / "cpu.cfs_period_us").read_text()
        return None if int(quota) <= 0 else int(quota) / int(period)
    return None


@dataclass(frozen=True)
class Load:
    """A moment from which on the load by other processes is measured; Linux only.

    Args:
        moment: seconds of a monotonic clock.
        idle: seconds that all cores together were idle since the machine started, or None.
        process_seconds: processor time of this process.
        cores: number of the machine's cores.
        average: processes that were running or waiting for a core in the last minute.
    """

    moment: float
    idle: float | None
    process_seconds: float
    cores: int
    average: float

    @classmethod
    def now(cls) -> Load:
        """Return the present state of the machine."""
        average = 0.0
        with contextlib.suppress(OSError, AttributeError):
            average = os.getloadavg()[0]
        return cls(
            time.monotonic(), _idle_seconds(), time.process_time(), os.cpu_count() or 1, average
        )

    def free_cores(self, now: Load | None = None) -> int:
        """Return the number of cores that other processes leave free, at least 1.

        A core counts as taken if it was by the average of the last minute and also since this
        moment: a job that has just ended does not count, and neither does a short burst.

        Args:
            now: the end of the measured time; None is now.
        """
        now = Load.now() if now is None else now
        seconds = now.moment - self.moment
        if self.idle is None or now.idle is None or seconds < _SHORTEST:
            return self.cores
        free = (now.idle - self.idle + now.process_seconds - self.process_seconds) / seconds
        taken = min(self.average, max(0.0, self.cores - free))
        return max(1, round(self.cores - taken))


def _idle_seconds() -> float | None:
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
        return (int(fields[4]) + int(fields[5])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return None
