"""Memory that the command line keeps between evaluations."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_FAULTS = """
import resource, sys
import numpy as np
from convnd.malloc import keep_large_blocks, tune_malloc
if sys.argv[1] != "plain":
    tune_malloc()
keep_large_blocks(sys.argv[1] == "keep large")
def work():
    arrays = [np.ones(int(sys.argv[2]) << 17) for _ in range(10)]
work(); work(); work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str, mib: int = 15, **environment: str) -> int:
    """Pages that one more round of the same allocations, of ``mib`` each, asks for anew."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", _FAULTS, how, str(mib)],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="of the GNU C library")
def test_pages_are_kept_unless_the_environment_says_otherwise() -> None:
    plain = faults("plain")
    if plain < 1000:
        pytest.skip("this C library keeps them anyway")
    assert faults("keep") < plain / 10
    assert faults("keep", MALLOC_ARENA_MAX="4") > plain / 2


@pytest.mark.skipif(sys.platform != "linux", reason="of the GNU C library")
def test_large_blocks_are_kept_where_memory_is_plenty() -> None:
    returned = faults("keep", 40)
    if returned < 1000:
        pytest.skip("this C library keeps them anyway")
    assert faults("keep large", 40) < returned / 10
    assert faults("keep large", 40, MALLOC_ARENA_MAX="4") > returned / 2
