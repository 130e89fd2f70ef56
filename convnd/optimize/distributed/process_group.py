"""The processes that work on one job, and what they say to each other.

``torchrun`` starts them and tells each its number through the environment. A process that works
alone is a group of one, for which nothing here does anything.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from convnd.errors import ResourceError, is_out_of_memory

__all__ = ["ProcessGroup"]

T = TypeVar("T")

# Processes wait for each other as long as the slowest takes. One that is gone is noticed at once,
# since its connections close with it.
_PATIENCE = timedelta(days=1)

_FAILED, _SAID = "convnd/failed", "convnd/said"
_SECONDS = 20.0  # that a failing process waits for the first one to say why
_SECONDS_LOST = 2.0  # the same where the first one may be who is gone


@dataclass(frozen=True)
class ProcessGroup:
    """Processes that share a job.

    Args:
        rank: number of this one, from 0.
        size: how many there are.

    >>> ProcessGroup().all_reduce(torch.tensor(2.0)).item()
    2.0
    """

    rank: int = 0
    size: int = 1
    _store: ClassVar[Any] = None

    @classmethod
    def join(cls) -> ProcessGroup:
        """The group that the environment tells of; waits until all its processes are there.

        Numbers on CUDA devices go through NCCL where every process has a device of its own, and
        through the CPU by gloo elsewhere.

        Raises:
            ResourceError: the others are not to be found.
        """
        rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        if size == 1:
            return cls()
        devices = torch.cuda.device_count()
        local = int(os.environ.get("LOCAL_RANK", rank))
        if devices:
            torch.cuda.set_device(local % devices)
        own = devices >= int(os.environ.get("LOCAL_WORLD_SIZE", size))
        try:
            cls._store, _, _ = next(rendezvous("env://", timeout=timedelta(minutes=5)))
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if devices and own else "gloo",
                store=PrefixStore("convnd", cls._store),
                rank=rank,
                world_size=size,
                timeout=_PATIENCE,
            )
        except (RuntimeError, ValueError, KeyError) as error:
            raise ResourceError(
                f"processes: expected {size} that find each other, got '{_line(error)}'; start "
                "them with torchrun"
            ) from error
        return cls(rank, size)

    @classmethod
    def current(cls) -> ProcessGroup:
        """The group that this process has joined, or one of its own."""
        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size())
        return cls()

    @property
    def local_size(self) -> int:
        """How many of them share this machine and its memory."""
        if self.size == 1:
            return 1
        return min(self.size, int(os.environ.get("LOCAL_WORLD_SIZE", self.size)))

    def all_reduce(self, values: Tensor) -> Tensor:
        """The values of all processes added up, the same bits for everybody."""
        if self.size == 1:
            return values
        total = _staged(values)
        if total is values:
            total = total.clone()
        with self._together():
            dist.all_reduce(total)
        return total.to(values.device)

    def all_gather(self, values: Tensor) -> tuple[Tensor, int]:
        """The numbers of all processes in one row, and where those of this one begin.

        Args:
            values: ``(n,)``, of any length.
        """
        if self.size == 1:
            return values, 0
        lengths = torch.zeros(self.size, dtype=torch.int64)
        lengths[self.rank] = len(values)
        lengths = self.all_reduce(lengths)
        first = int(lengths[: self.rank].sum())
        row = values.new_zeros(int(lengths.sum()))
        row[first : first + len(values)] = values
        return self.all_reduce(row), first

    def all_reduce_ints(self, *numbers: int) -> list[int]:
        """Each number summed over all processes."""
        return [int(each) for each in self.all_reduce(torch.tensor(numbers)).tolist()]

    def all_reduce_max(self, number: int) -> int:
        """The largest of the numbers of all processes."""
        if self.size == 1:
            return number
        found = torch.tensor(number)
        with self._together():
            dist.all_reduce(found, dist.ReduceOp.MAX)
        return int(found)

    def broadcast(self, values: Tensor) -> Tensor:
        """The values of process 0, for everybody."""
        if self.size == 1:
            return values
        found = _staged(values).clone()
        with self._together():
            dist.broadcast(found, 0)
        return found.to(values.device)

    def exchange(self, sends: Mapping[int, Tensor], receives: Mapping[int, Tensor]) -> None:
        """Send tensors to others, and fill the ones given with what they send.

        Args:
            sends: by process; contiguous.
            receives: likewise, of the shape and type that is sent.
        """
        filled = {other: _staged(each) for other, each in receives.items()}
        kept = [_staged(each) for each in sends.values()]
        operations = [
            dist.P2POp(dist.isend, each, other) for other, each in zip(sends, kept, strict=True)
        ] + [dist.P2POp(dist.irecv, each, other) for other, each in filled.items()]
        if not operations:
            return
        with self._together():
            for request in dist.batch_isend_irecv(operations):
                request.wait()
        for other, each in receives.items():
            if filled[other] is not each:
                each.copy_(filled[other])

    def run_together(self, work: Callable[[], T]) -> T:
        """Do a piece of work that others do as well; all go on, or memory ran out for all.

        Raises:
            MemoryError: it ran out in one of them; see `convnd.errors.is_out_of_memory`.
        """
        if self.size == 1:
            return work()
        found: T | None = None
        failed = True
        try:
            found = work()
            failed = False
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        if self.all_reduce(torch.tensor(float(failed))) > 0:
            raise MemoryError("memory ran out in one of the processes")
        return cast("T", found)

    @contextlib.contextmanager
    def _together(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise _LostError(
                f"processes: expected all {self.size} to go on, lost one ('{_line(error)}'); "
                "start again, with --resume if there is a checkpoint"
            ) from error

    @classmethod
    def shutdown(cls) -> None:
        """End this process's membership, when all have done their work.

        Raises:
            ResourceError: a process is lost.
        """
        # A process that is gone looks like one that is lost; so all go together.
        cls.current().all_reduce_max(0)
        dist.destroy_process_group()
        cls._store = None

    @classmethod
    def abort(cls, message: str, code: int, error: BaseException | None) -> tuple[str, int]:
        """What to say and the code to exit with when this process fails; ends its membership.

        The first to fail tells the others why; they learn of it since it takes its leave. Process
        0 says it, or another one when that is gone.

        Args:
            message: why this one fails.
            code: its exit code.
            error: the error itself.

        Returns:
            The line to print, "" for a process that is not the one to speak, and the exit code.
        """
        if cls._store is None or not dist.is_initialized():
            return message, code
        rank = dist.get_rank()
        # torchrun ends everybody as soon as one is gone; the rest takes no more than seconds.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with contextlib.suppress(RuntimeError):
            patience = _SECONDS
            if isinstance(error, _LostError):
                time.sleep(0.2)  # it may be about to say why
                patience = _SECONDS_LOST
            told = cls._store.compare_set(_FAILED, "", f"{code} {message}").decode()
            number, _, first = told.partition(" ")
            message, code = first, int(number)
            with contextlib.suppress(RuntimeError):
                dist.destroy_process_group()
            began = time.monotonic()
            while rank != 0 and time.monotonic() - began < patience:
                if cls._store.check([_SAID]):
                    return "", code
                time.sleep(0.02)
            if cls._store.compare_set(_SAID, "", str(rank)).decode() != str(rank):
                return "", code
        return message, code


class _LostError(ResourceError):
    """Another process is gone."""


def _staged(values: Tensor) -> Tensor:
    """The values where the processes can exchange them."""
    if values.device.type == "cuda" and "nccl" in dist.get_backend_config():
        return values
    return values.cpu()


def _line(error: BaseException) -> str:
    return " ".join(str(error).split("\n")[0].split())[:200]
