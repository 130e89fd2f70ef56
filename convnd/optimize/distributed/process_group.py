"""The processes that work on one job, and the collective operations between them.

``torchrun`` starts the processes and gives each its rank through the environment. For a process
that works alone (a group of size 1) every operation here does nothing.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
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

from convnd.errors import ResourceError, UsageError, is_out_of_memory
from convnd.shapes import is_count_text

__all__ = ["ProcessGroup"]

T = TypeVar("T")

# A collective operation waits as long as the slowest process takes. A process that has died is
# noticed at once, because its connections close. A host that has died closes none, so the system
# probes them.
_TIMEOUT = timedelta(days=1)
_IDLE_SECONDS, _PROBE_SECONDS, _PROBES = 20, 5, 4  # until a silent host counts as lost: 40 s

_FAILED_KEY, _PRINTED_KEY = "convnd/failed", "convnd/said"
_WAIT_SECONDS = 20.0  # that a failing process waits for rank 0 to print the error
_WAIT_SECONDS_LOST = 2.0  # the same where rank 0 itself may be the process that is lost


@dataclass(frozen=True)
class ProcessGroup:
    """Processes that share a job.

    Args:
        rank: number of this process, from 0.
        size: number of processes.

    >>> ProcessGroup().all_reduce(torch.tensor(2.0)).item()
    2.0
    """

    rank: int = 0
    size: int = 1
    _store: ClassVar[Any] = None

    @classmethod
    def join(cls) -> ProcessGroup:
        """Join the group that the environment names, and wait until all its processes have.

        Tensors on CUDA devices travel through NCCL where every process has a device of its own,
        otherwise through the CPU and gloo.

        Raises:
            UsageError: a variable of the environment is no number, or the rank too large.
            ResourceError: the other processes cannot be reached.
        """
        rank, size = _environment("RANK"), _environment("WORLD_SIZE")
        if size == 1:
            return cls()
        if rank >= size:
            raise UsageError(
                "RANK", expected=f"less than WORLD_SIZE={size}", got=rank, remedy="use torchrun"
            )
        devices = torch.cuda.device_count()
        local_rank = _environment("LOCAL_RANK", rank)
        if devices:
            torch.cuda.set_device(local_rank % devices)
        device_each = devices >= _environment("LOCAL_WORLD_SIZE", size)
        try:
            cls._store, _, _ = next(rendezvous("env://", timeout=timedelta(minutes=5)))
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if devices and device_each else "gloo",
                store=PrefixStore("convnd", cls._store),
                rank=rank,
                world_size=size,
                timeout=_TIMEOUT,
            )
            _probe_connections()
        except (RuntimeError, ValueError, KeyError) as error:
            raise ResourceError(
                "processes",
                expected=f"{size} that find each other",
                got=f"'{_first_line(error)}'",
                remedy="start them with torchrun",
            ) from error
        return cls(rank, size)

    @classmethod
    def current(cls) -> ProcessGroup:
        """Return the group that this process has joined; before `join`, a group of size 1."""
        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size())
        return cls()

    @property
    def ranks(self) -> range:
        """The ranks of all processes."""
        return range(self.size)

    @property
    def local_size(self) -> int:
        """Number of processes on this machine, which share its memory."""
        if self.size == 1:
            return 1
        return min(self.size, _environment("LOCAL_WORLD_SIZE", self.size))

    def all_reduce(self, values: Tensor) -> Tensor:
        """Return the sum of the values of all processes, the same bits in each."""
        if self.size == 1:
            return values
        total = _on_backend_device(values)
        if total is values:
            total = total.clone()
        with self._detect_lost():
            dist.all_reduce(total)
        return total.to(values.device)

    def all_reduce_ints(self, *numbers: int) -> list[int]:
        """Return each number summed over all processes."""
        return [int(total) for total in self.all_reduce(torch.tensor(numbers)).tolist()]

    def all_reduce_max(self, number: int) -> int:
        """Return the largest of the numbers of all processes."""
        if self.size == 1:
            return number
        largest = torch.tensor(number)
        with self._detect_lost():
            dist.all_reduce(largest, dist.ReduceOp.MAX)
        return int(largest)

    def broadcast(self, values: Tensor) -> Tensor:
        """Return the values of rank 0 in every process."""
        if self.size == 1:
            return values
        received = _on_backend_device(values).clone()
        with self._detect_lost():
            dist.broadcast(received, 0)
        return received.to(values.device)

    def exchange(self, sends: Mapping[int, Tensor], receives: Mapping[int, Tensor]) -> None:
        """Send tensors to other processes, and receive theirs into given tensors.

        Args:
            sends: tensors to send, contiguous, by rank.
            receives: tensors of the shape and type that is sent, by rank; they are overwritten.
        """
        buffers = {rank: _on_backend_device(values) for rank, values in receives.items()}
        sent = [_on_backend_device(values) for values in sends.values()]
        operations = [
            dist.P2POp(dist.isend, values, rank) for rank, values in zip(sends, sent, strict=True)
        ] + [dist.P2POp(dist.irecv, buffer, rank) for rank, buffer in buffers.items()]
        if not operations:
            return
        with self._detect_lost():
            for request in dist.batch_isend_irecv(operations):
                request.wait()
        for rank, values in receives.items():
            if buffers[rank] is not values:
                values.copy_(buffers[rank])

    def run_together(self, work: Callable[[], T]) -> T:
        """Run a function in every process; if memory runs out in one, the call fails in all.

        Args:
            work: the function; it must contain no collective operation.

        Raises:
            MemoryError: memory ran out in one of the processes.
        """
        if self.size == 1:
            return work()
        result: T | None = None
        failed = True
        try:
            result = work()
            failed = False
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        if self.all_reduce(torch.tensor(float(failed))) > 0:
            raise MemoryError("memory ran out in one of the processes")
        return cast("T", result)

    @contextlib.contextmanager
    def _detect_lost(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise _LostError(
                f"processes: expected all {self.size} to go on, lost one "
                f"('{_first_line(error)}'); start again, with --resume if there is a checkpoint"
            ) from error

    @classmethod
    def shutdown(cls) -> None:
        """Leave the group after the work, together with all other processes.

        Raises:
            ResourceError: a process is lost.
        """
        # A process that has left looks like one that is lost, so each waits for the others.
        cls.current().all_reduce_max(0)
        dist.destroy_process_group()
        cls._store = None

    @classmethod
    def abort(cls, message: str, code: int, error: BaseException | None) -> tuple[str, int]:
        """Leave the group after a failure, and choose the one process that prints the error.

        The first process to fail stores its message and leaves. The others notice that it is lost
        and read the message. Rank 0 prints it; another one does if rank 0 is lost.

        Args:
            message: why this process fails.
            code: exit code of this process.
            error: exception of this process.

        Returns:
            The line to print ("" in all processes but one) and the exit code.
        """
        if cls._store is None or not dist.is_initialized():
            return message, code
        rank = dist.get_rank()
        # torchrun ends every process as soon as one has ended; what follows takes seconds at most.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with contextlib.suppress(RuntimeError):
            timeout = _WAIT_SECONDS
            if isinstance(error, _LostError):
                time.sleep(0.2)  # the lost process may be about to store its message
                timeout = _WAIT_SECONDS_LOST
            first_message = cls._store.compare_set(_FAILED_KEY, "", f"{code} {message}").decode()
            first_code, _, message = first_message.partition(" ")
            code = int(first_code)
            with contextlib.suppress(RuntimeError):
                dist.destroy_process_group()
            started = time.monotonic()
            while rank != 0 and time.monotonic() - started < timeout:
                if cls._store.check([_PRINTED_KEY]):
                    return "", code
                time.sleep(0.02)
            if cls._store.compare_set(_PRINTED_KEY, "", str(rank)).decode() != str(rank):
                return "", code
        return message, code


class _LostError(ResourceError):
    """Another process has died."""


def _on_backend_device(values: Tensor) -> Tensor:
    """Return the values on a device from which the backend can send them."""
    if values.device.type == "cuda" and "nccl" in dist.get_backend_config():
        return values
    return values.cpu()


def _probe_connections() -> None:
    """Let the system close the connections to hosts that do not answer any more.

    Neither gloo nor the store of torch do this, so a job would wait for a lost host forever.
    """
    import psutil

    connections = psutil.Process().net_connections("tcp")
    for connection in connections:
        if connection.fd < 0 or not connection.raddr:  # other systems, and sockets that listen
            continue
        # A copy of the descriptor has the same socket, and closes alone.
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(connection.fd)) as copy:
            copy.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, number in (
                ("TCP_KEEPIDLE", _IDLE_SECONDS),
                ("TCP_KEEPINTVL", _PROBE_SECONDS),
                ("TCP_KEEPCNT", _PROBES),
                ("TCP_USER_TIMEOUT", 1000 * (_IDLE_SECONDS + _PROBES * _PROBE_SECONDS)),
            ):
                if hasattr(socket, name):
                    copy.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), number)


def _first_line(error: BaseException) -> str:
    return " ".join(str(error).split("\n")[0].split())[:200]


def _environment(name: str, default: int | None = None) -> int:
    """Read a number that torchrun sets in the environment."""
    text = os.environ.get(name, "" if default is None else str(default))
    if not is_count_text(text):
        raise UsageError(
            name, expected="a whole number from 0 on", got=repr(text[:80]), remedy="use torchrun"
        )
    return int(text)
