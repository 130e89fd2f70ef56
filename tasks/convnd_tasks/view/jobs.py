"""The jobs of a page: a queue in memory, and their descriptions in files."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from http import HTTPStatus
from pathlib import Path
from typing import Any

from convnd import io
from convnd_tasks.view.folder import STATE, ViewFolder
from convnd_tasks.view.guard import RequestError
from convnd_tasks.view.job_lines import JobLine
from convnd_tasks.view.live import STEP_PICTURE, LiveJob, kept_figures, kept_steps, state_file
from convnd_tasks.view.processes import Workers
from convnd_tasks.view.view_job import ViewJob

__all__ = ["Jobs"]

_RUNNING = ("queued", "running", "stopping")
_WRITE_SECONDS = 1.0
"""Seconds between two descriptions of a running job: a later server shows the last one."""

_FIGURES = (
    *("step", "steps", "phase", "phases", "size", "fraction", "loss", "left", "preview"),
    *("drawing", "seconds", "kept", "pictured", "changes"),
)


class Jobs:
    """Runs the jobs of a folder one after the other.

    Jobs of an earlier server that did not end are listed as stopped.

    Args:
        folder: the folder.
        workers: run the jobs.
        on_change: is called after every change of a job.
    """

    def __init__(self, folder: ViewFolder, workers: Workers, on_change: Callable[[], None]) -> None:
        self._folder = folder
        self._workers = workers
        self._on_change = on_change
        self._lock = threading.RLock()
        self._wake = threading.Condition(self._lock)
        self._senders: dict[str, Callable[[dict[str, Any]], None]] = {}
        self._early: dict[str, list[dict[str, Any]]] = {}  # messages to jobs that do not run yet
        self._closed = False
        self._written = 0.0  # when a description was written last
        self._jobs = {job.id: job for job in self._load()}
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _load(self) -> list[ViewJob]:
        """Read the jobs of earlier servers; what is damaged is left out."""
        jobs = []
        for path in sorted(self._folder.root.glob(f"{STATE}/*/job.json")):
            with contextlib.suppress(OSError, ValueError, TypeError, RecursionError):
                job = ViewJob(**json.loads(path.read_text("utf-8")))
                if job.id != path.parent.name or not isinstance(job.figures, dict):
                    continue
                if job.state in _RUNNING:
                    job.state = "stopped"
                job.figures |= kept_figures(path.parent)
                jobs.append(job)
        return jobs

    def describe(self) -> list[dict[str, Any]]:
        """Describe all jobs, the newest first."""
        with self._lock:
            jobs = sorted(self._jobs.values(), key=lambda job: job.created, reverse=True)
            return [{**asdict(job), "command": self._command(job)} for job in jobs]

    def _command(self, job: ViewJob) -> str:
        """Return the command that a terminal would run for a job."""
        import shlex

        words = list(job.line)
        for number, name in enumerate(job.inputs):
            words = [word.replace(f"{{{number}}}", name) for word in words]
        return shlex.join(["convnd", *words, *(["-o", job.output] if job.inputs else [])])

    def find(self, name: str) -> ViewJob:
        """Return a job.

        Raises:
            RequestError: there is none of this name.
        """
        job = self._jobs.get(name)
        if job is None:
            raise RequestError(HTTPStatus.NOT_FOUND, "no such job")
        return job

    def path(self, job: ViewJob) -> Path:
        """Return the folder of a job."""
        return self._folder.root / STATE / job.id

    def add(self, line: JobLine, stem: str, suffix: str, record: str = "") -> ViewJob:
        """Put a job at the end of the queue.

        Args:
            line: its command and inputs.
            stem: name of the result without its ending; a number is added if it is taken.
            suffix: ending of the result.
            record: name of the result whose record is made again, or "".
        """
        with self._lock:
            job = self._new(line, self._free_output(f"{stem}{suffix}"), record)
            self._changed(job)
            self._wake.notify_all()
            return job

    def _new(self, line: JobLine, output: str, record: str = "") -> ViewJob:
        """Make a job with a folder of its own."""
        state = self._folder.make(STATE)
        number = next(n for n in itertools.count(1) if not (state / f"{n:06d}").exists())
        (state / f"{number:06d}").mkdir()
        job = ViewJob(f"{number:06d}", line.words, line.inputs, output, record, kind=line.kind)
        job.created = time.time()
        self._jobs[job.id] = job
        return job

    def _free_output(self, name: str) -> str:
        """Return a name that no file and no job has."""
        taken = {job.output for job in self._jobs.values()}
        first = self._folder.root / name
        candidates = (io.extend_stem(first, str(number)) for number in itertools.count(2))
        return next(
            path.name
            for path in itertools.chain([first], candidates)
            if path.name not in taken and not os.path.lexists(path)
        )

    def stop(self, job: ViewJob) -> None:
        """Stop a job: its result so far, and its checkpoint, are kept."""
        with self._lock:
            if job.state == "queued":
                job.state = "stopped"
            elif job.state == "running":
                job.state = "stopping"
                if job.id in self._senders:  # otherwise `hear` sends it
                    self._senders[job.id]({"do": "stop"})
            self._changed(job)

    def change(self, job: ViewJob, options: Mapping[str, str]) -> None:
        """Change options of a job, without starting it anew; one that waits takes them later.

        Raises:
            RequestError: it has ended, or is about to.
        """
        with self._lock:
            if job.state not in ("queued", "running"):
                raise RequestError(HTTPStatus.CONFLICT, "the job does not run")
            message = {"do": "change", "options": dict(options)}
            if job.id in self._senders:
                self._senders[job.id](message)
            else:
                self._early.setdefault(job.id, []).append(message)

    def go_on(self, job: ViewJob, step: int | None, options: Mapping[str, str]) -> None:
        """Continue a job that ended.

        A finished result stays; what follows is written beside it.

        Args:
            job: the job.
            step: the kept step to continue from; None is the last checkpoint.
            options: options that get another value.

        Raises:
            RequestError: the job runs, or the step is not kept.
        """
        with self._lock:
            if job.state in _RUNNING:
                raise RequestError(HTTPStatus.CONFLICT, "the job still runs")
            if step is None and job.state == "done":
                step = max(kept_steps(self.path(job)), default=None)
            if step is not None:
                state = state_file(self.path(job), step)
                if not state.is_file():
                    raise RequestError(HTTPStatus.NOT_FOUND, "this step is not kept")
                if job.state == "done":
                    job.output = self._free_output(job.output)
                checkpoint = self._folder.root / f"{job.output}.checkpoint"
                checkpoint.unlink(missing_ok=True)
                shutil.copyfile(state, checkpoint)
                self._show_step(job, step)
            begin = job.figures.get("step", 0)
            if job.kind == "videos":  # they count the frame that is worked on
                begin = max(0, begin - 1)
            job.planned = [f"{begin}:{name}={text}" for name, text in options.items()]
            job.state, job.resume, job.error = "queued", True, ""
            self._changed(job)
            self._wake.notify_all()

    def _show_step(self, job: ViewJob, step: int) -> None:
        """Show a job as it was at a kept step: nothing of what came later is its figure."""
        number, steps = job.figures.get("preview", 0) + 1, job.figures.get("steps")
        job.figures = {"step": step, "steps": steps, "preview": number}
        job.figures |= kept_figures(self.path(job))
        picture = state_file(self.path(job), step).with_suffix(".jpg")
        with contextlib.suppress(OSError):  # signals have none
            shutil.copyfile(picture, self.path(job) / STEP_PICTURE)

    def remove(self, job: ViewJob) -> None:
        """Remove a job from the list, with its kept steps; its result stays."""
        with self._lock:
            if job.state in _RUNNING:
                raise RequestError(HTTPStatus.CONFLICT, "the job still runs; stop it first")
            del self._jobs[job.id]
            self._early.pop(job.id, None)
            shutil.rmtree(self.path(job), ignore_errors=True)
            self._on_change()

    def _changed(self, job: ViewJob) -> None:
        """Write the description of a job, and tell the pages."""
        self._written = time.monotonic()
        path = self.path(job) / "job.json"
        temporary = path.with_name(".job.json")
        with contextlib.suppress(OSError):  # a full disk must not end the job
            temporary.write_text(json.dumps(asdict(job)), "utf-8")
            temporary.replace(path)
        self._on_change()

    def _work(self) -> None:
        """Run the jobs of the queue, the oldest first."""
        while True:
            with self._lock:
                while (job := self._next()) is None and not self._closed:
                    self._wake.wait()
                if self._closed or job is None:
                    return
                job.state = "running"
                self._changed(job)
            self._run(job)

    def _next(self) -> ViewJob | None:
        waiting = [job for job in self._jobs.values() if job.state == "queued"]
        return min(waiting, key=lambda job: job.created, default=None)

    def _run(self, job: ViewJob) -> None:
        request = {
            "do": "job",
            "line": job.line,
            "inputs": job.inputs,
            "record": job.record,
            "settings": job.settings(),
            "state": str(self.path(job)),
            "pictures": job.figures.get("preview", 0),
        }
        answer = self._workers.run(
            request, lambda event: self._report(job, event), lambda send: self.hear(job, send)
        )
        with self._lock:
            self._senders.pop(job.id, None)
            self._end(job, answer)

    def hear(self, job: ViewJob, send: Callable[[dict[str, Any]], None]) -> None:
        """Take the function that sends messages to a running job."""
        with self._lock:
            self._senders[job.id] = send
            for message in self._early.pop(job.id, []):
                send(message)
            if job.state == "stopping":
                send({"do": "stop"})

    def attach(self, words: Sequence[str]) -> tuple[ViewJob, LiveJob]:
        """Show a job that runs in this process, and not in the queue.

        Args:
            words: the words of its command.

        Returns:
            The job, and the watcher that tells of it.
        """
        with self._lock:
            job = self._new(JobLine([*words], [], ""), "")
            job.state = "running"
            self._changed(job)
        return job, LiveJob(self.path(job), lambda event: self._report(job, event))

    def detach(self, job: ViewJob) -> None:
        """Forget a job of this process, and remove what was stored of it."""
        with self._lock:
            self._senders.pop(job.id, None)
            job.state = "done"
            self.remove(job)
            with contextlib.suppress(OSError):  # other jobs stay
                (self._folder.root / STATE).rmdir()

    def _end(self, job: ViewJob, answer: Mapping[str, Any]) -> None:
        """Take note of the end of a job."""
        job.figures["left"] = None
        job.figures |= kept_figures(self.path(job))
        if "error" in answer:
            job.state, job.error = "failed", str(answer["error"])
        elif answer.get("stopped") or job.state == "stopping":
            job.state, job.resume = "stopped", True
        else:
            job.state = "done"
            job.figures["fraction"] = 1.0
        self._changed(job)

    def _report(self, job: ViewJob, event: Mapping[str, Any]) -> None:
        """Take note of what a job reports."""
        with self._lock:
            job.figures |= {name: event[name] for name in _FIGURES if name in event}
            if "target" in event and not job.output:
                job.output = os.path.relpath(event["target"], self._folder.root)
            if "message" in event:
                job.messages = [*job.messages[-19:], str(event["message"])]
            is_due = time.monotonic() - self._written > _WRITE_SECONDS
            if "step" in event and "result" not in event and not is_due:
                self._on_change()  # too often for a file
            else:
                self._changed(job)

    def close(self) -> None:
        """Start no further job."""
        with self._lock:
            self._closed = True
            self._wake.notify_all()

    def join(self) -> None:
        """Wait until the end of the last job is noted."""
        self._thread.join()
