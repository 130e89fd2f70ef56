"""How the tests are run; their fixtures stand in `support/shared_fixtures.py`."""

from __future__ import annotations

import atexit
import gc
import os
import sys

import pytest

# Threads of NumPy's linear algebra spin while they wait for each other: beside other processes,
# the detection of beats took up to ten times as much processor time with two of them.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Modules and items live to the end: the collector of cycles need not look at them again and again.
gc.disable()

collect_ignore = ["support"]  # no tests in there, and imports that take seconds


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """All of the tests on all cores, as far as memory goes; a few of them in this process."""
    everything = config.args == config.getini("testpaths")
    return min(os.cpu_count() or 1, 4) if everything else 0


@pytest.hookimpl(trylast=True)  # what is imported counts as covered
def pytest_sessionstart(session: pytest.Session) -> None:
    """Load the fixtures; a process that only distributes the tests does without torch."""
    if "PYTEST_XDIST_WORKER" in os.environ or session.config.getoption("dist", "no") == "no":
        session.config.pluginmanager.import_plugin("shared_fixtures")


def pytest_collection_finish() -> None:
    """Tests begin: leave what was made until now out of every collection, and collect seldom."""
    gc.freeze()
    gc.set_threshold(10_000, 50, 50)
    gc.enable()


def _end_worker() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if "PYTEST_XDIST_WORKER" in os.environ:
    # All results are sent. To free every module and tensor one by one takes two seconds.
    atexit.register(_end_worker)
