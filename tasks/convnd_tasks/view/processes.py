"""The server's side of `convnd_tasks.view.worker`: starts it, asks it, and hears its answers."""

from __future__ import annotations

import contextlib
import itertools
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from convnd_tasks.view.guard import RequestError
from convnd_tasks.view.lines import read_messages, write_message

__all__ = ["Workers"]

_PATIENCE = 120.0
"""Seconds after which an answer that is no job's is given up."""

_SECONDS_TO_STOP = 30.0

_PAUSE = 2.0
"""Seconds without a request after which the worker of the first job is started."""


class _Process:
    """One worker.

    Args:
        folder: its working folder.
        previews: whether it loads the network of previews, before it is asked for one.
    """

    def __init__(self, folder: Path, *, previews: bool = False) -> None:
        self._numbers = itertools.count()
        self._answers: dict[int, queue.SimpleQueue[dict[str, Any]]] = {}
        # -P: a file of the user's folder that has a module's name is not imported.
        command = [sys.executable, "-P", "-m", "convnd_tasks.view.worker"]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            start_new_session=True,  # Ctrl-C reaches the server, which stops the jobs
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._warmed = self.ask({"do": "warm", "previews": previews})

    def wait_until_warm(self) -> None:
        """Wait until modules, and the network of previews, are loaded; only one thread may."""
        with contextlib.suppress(queue.Empty):
            self._warmed.get(timeout=_PATIENCE)

    @property
    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def send(self, message: dict[str, Any]) -> None:
        """Send a message; one to a worker that has ended is lost."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            write_message(self._process.stdin, message)

    def ask(self, request: Mapping[str, Any]) -> queue.SimpleQueue[dict[str, Any]]:
        """Send a request, and return the queue of its answers."""
        number = next(self._numbers)
        answers = self._answers[number] = queue.SimpleQueue()
        self.send({"id": number, **request})
        if not self.is_alive:
            answers.put({"error": "the worker ended; try again"})
        return answers

    def _read(self) -> None:
        """Pass the answers on; at the end, every request that waits gets one."""
        assert self._process.stdout is not None
        for message in read_messages(self._process.stdout):
            answers = self._answers.get(int(message.get("id", -1)))
            if answers is not None:
                answers.put(message)
            if "event" not in message:
                self._answers.pop(int(message.get("id", -1)), None)
        self._process.stdout.close()
        for answers in list(self._answers.values()):
            answers.put({"error": "the worker ended, perhaps for lack of memory"})

    def close(self) -> None:
        """Let the worker end: a job keeps its checkpoint first."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def wait(self) -> None:
        """Wait until it has ended; one that takes too long is killed."""
        try:
            self._process.wait(_SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()


class Workers:
    """One worker for thumbnails and previews, and one for each job that runs.

    Args:
        folder: folder of the page, relative to which inputs are named.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._helper: _Process | None = None
        self._spare: _Process | None = None
        self._all: list[_Process] = []
        self._closed = self._has_run = False
        self._pause_at = 0.0

    def warm_up(self, *, jobs: bool) -> None:
        """Start the worker of previews.

        Args:
            jobs: whether one for the first job is started, too, and previews are expected.
        """
        with self._lock:
            self._helper = helper = self._helper or self._start(previews=jobs)
        if jobs:  # both at once would delay the first preview
            threading.Thread(target=self._prepare_spare, args=(helper,), daemon=True).start()

    def _prepare_spare(self, helper: _Process) -> None:
        """Start the worker of the first job when that of previews is ready and has a pause."""
        helper.wait_until_warm()
        while not self._closed and (self._turn.locked() or time.monotonic() < self._pause_at):
            time.sleep(0.1)
        with self._lock:
            if not self._closed and not self._has_run:
                self._spare = self._spare or self._start()

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer to a request that is no job.

        Args:
            request: the request.

        Raises:
            RequestError: it failed.
        """
        with self._turn:
            with self._lock:
                if self._helper is None or not self._helper.is_alive:
                    self._helper = self._start()
                helper = self._helper
            try:
                answer = helper.ask(request).get(timeout=_PATIENCE)
            except queue.Empty:
                helper.close()
                answer = {"error": "no answer in time; try again"}
            self._pause_at = time.monotonic() + _PAUSE
        if "error" in answer:
            raise RequestError(HTTPStatus.UNPROCESSABLE_ENTITY, str(answer["error"]))
        return answer

    def run(
        self,
        request: Mapping[str, Any],
        on_event: Callable[[dict[str, Any]], None],
        on_start: Callable[[Callable[[dict[str, Any]], None]], None],
    ) -> dict[str, Any]:
        """Run a job in a worker of its own, and return the last answer.

        Args:
            request: the job.
            on_event: is called with what it reports.
            on_start: is called with a function that sends messages to the worker.
        """
        with self._lock:
            process, self._spare, self._has_run = self._spare, None, True
            if process is None or not process.is_alive:
                process = self._start()
        answers = process.ask(request)
        on_start(process.send)
        while "event" in (answer := answers.get()):
            on_event(answer["event"])
        process.close()  # its memory is free again
        process.wait()
        return answer

    def _start(self, *, previews: bool = False) -> _Process:
        process = _Process(self._folder, previews=previews)
        self._all = [one for one in self._all if one.is_alive] + [process]
        return process

    def close(self) -> None:
        """End all workers; jobs keep their checkpoints."""
        with self._lock:
            self._closed = True
            for process in self._all:
                process.close()
            for process in self._all:
                process.wait()
