"""Parts of a work in processes of their own: all of them, in order, and none left behind."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
import torch
from convnd_tasks.runtime.parallel import parallel_map
from error_fields import raises

from convnd.errors import InputFileError

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="one process there")


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_parts_come_back_in_order_from_other_processes() -> None:
    torch.rand(10**6).sum()  # threads of the parent's are there
    shift = torch.arange(3.0)

    def work(part: Any) -> Any:
        time.sleep(0.05 * (5 - part))
        return part, os.getpid(), (torch.ones(10**6).sum() + shift[part % 3]).item()

    results = parallel_map(work, range(5))
    assert [part for part, *_ in results] == [0, 1, 2, 3, 4]
    assert 1 < len({process for _, process, _ in results} - {os.getpid()}) <= 3
    assert [total - 10**6 for *_, total in results] == [0, 1, 2, 0, 1]


def test_one_thread_is_one_process() -> None:
    torch.set_num_threads(1)
    assert set(parallel_map(lambda _: os.getpid(), range(3))) == {os.getpid()}


def test_an_error_of_a_part_is_raised() -> None:
    def work(part: Any) -> None:
        raise InputFileError(f"part: expected none, got {part}; leave it out")

    with raises(InputFileError, operation="part", expected="none", remedy="leave it out"):
        parallel_map(work, [0, 1])


@pytest.mark.parametrize(
    "delay",
    [0.001, *(pytest.param(delay, marks=pytest.mark.slow) for delay in (0.01, 0.02)), 0.5],
)
def test_who_is_stopped_takes_the_processes_along(delay: float) -> None:
    class EnoughError(Exception):
        pass

    def ring(*_: Any) -> None:
        raise EnoughError

    others = psutil.Process().children()  # of other tests
    before = signal.signal(signal.SIGALRM, ring)
    try:
        with pytest.raises(EnoughError):
            signal.setitimer(signal.ITIMER_REAL, delay)
            parallel_map(lambda _: time.sleep(60), range(4))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    left = [child for child in psutil.Process().children() if child not in others]
    assert not [child for child in left if child.status() != "zombie"]
