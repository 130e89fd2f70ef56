"""Jobs of the page outlive the page: a killed server, and the command line goes on with them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Run
from convnd_tasks.view.folder import STATE, ViewFolder
from convnd_tasks.view.guard import RequestError
from convnd_tasks.view.job_lines import JobLine
from convnd_tasks.view.jobs import Jobs
from convnd_tasks.view.live import LiveJob, kept_steps, state_file
from page_client import Client
from PIL import Image

from convnd import io

SECONDS = 300.0


class Recorded:
    """Stands for the worker of a job: it reports what a test tells it to."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.events: list[dict[str, Any]] = []
        self.answer: dict[str, Any] = {"done": True}
        self.sent: list[Any] = []
        self.may_end = threading.Event()
        self.may_end.set()

    def run(self, request: Any, on_event: Any, on_start: Any) -> dict[str, Any]:
        self.requests.append(request)
        on_start(self.sent.append)
        for event in self.events:
            on_event(event)
        self.may_end.wait(SECONDS)
        return self.answer


@pytest.fixture
def workers() -> Recorded:
    return Recorded()


@pytest.fixture
def jobs(tmp_path: Path, workers: Recorded) -> Iterator[Jobs]:
    queue = Jobs(ViewFolder(tmp_path), workers, lambda: None)  # type: ignore[arg-type]
    yield queue
    queue.close()
    queue.join()


def wait_until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.02)


def test_a_job_keeps_what_it_reported(jobs: Jobs, workers: Recorded, tmp_path: Path) -> None:
    workers.events = [{"step": 3, "steps": 9, "loss": 2.5}, {"message": "a line"}]
    job = jobs.add(
        JobLine(["stylize", "{0}", "--style={1}"], ["town", "waves"], "pictures"),
        "town_stylized",
        ".png",
    )
    wait_until(lambda: job.state == "done")
    assert (job.figures["step"], job.figures["loss"], job.messages) == (3, 2.5, ["a line"])
    assert "--checkpoint-every=10" in workers.requests[0]["settings"]
    stored = tmp_path / STATE / job.id / "job.json"  # written after the state changes
    wait_until(lambda: json.loads(stored.read_text())["state"] == "done")
    again = Jobs(ViewFolder(tmp_path), workers, lambda: None)  # type: ignore[arg-type]
    assert [one["output"] for one in again.describe()] == ["town_stylized.png"]
    again.close()
    again.join()


def test_two_jobs_of_one_name_have_two_results(jobs: Jobs, workers: Recorded) -> None:
    names = [
        jobs.add(JobLine(["stylize", "{0}"], ["town"], "pictures"), "a", ".png").output
        for _ in range(3)
    ]
    assert names == ["a.png", "a-2.png", "a-3.png"]


def test_a_dial_that_moves_before_a_job_begins_counts(jobs: Jobs, workers: Recorded) -> None:
    workers.may_end.clear()
    line = JobLine(["stylize", "{0}"], ["town"], "pictures")
    first, second = (jobs.add(line, "a", ".png") for _ in range(2))
    wait_until(lambda: first.state == "running")
    jobs.change(second, {"strength": "0.5"})
    assert second.state == "queued"
    workers.may_end.set()
    wait_until(lambda: second.state == "done")
    assert workers.sent == [{"do": "change", "options": {"strength": "0.5"}}]
    with pytest.raises(RequestError):
        jobs.change(second, {"strength": "0.2"})


def test_a_failed_job_says_why_and_can_be_removed(
    jobs: Jobs, workers: Recorded, tmp_path: Path
) -> None:
    workers.answer = {"error": "not enough memory"}
    job = jobs.add(JobLine(["stylize", "{0}"], ["town"], "pictures"), "a", ".png")
    wait_until(lambda: job.state == "failed")
    assert job.error == "not enough memory"
    jobs.remove(job)
    assert jobs.describe() == []
    assert not (tmp_path / STATE / job.id).exists()
    with pytest.raises(RequestError):
        jobs.find(job.id)


def test_a_step_that_is_not_kept_is_refused(jobs: Jobs, workers: Recorded) -> None:
    job = jobs.add(JobLine(["stylize", "{0}"], ["town"], "pictures"), "a", ".png")
    wait_until(lambda: job.state == "done")
    with pytest.raises(RequestError):
        jobs.go_on(job, 10, {})


def test_going_on_with_other_options_is_a_planned_change(
    jobs: Jobs, workers: Recorded, tmp_path: Path
) -> None:
    job = jobs.add(JobLine(["stylize", "{0}"], ["town"], "pictures"), "a", ".png")
    wait_until(lambda: job.state == "done")
    (tmp_path / "a.png").write_bytes(b"a result")
    state_file(jobs.path(job), 20).write_bytes(b"a checkpoint")
    jobs.go_on(job, None, {"strength": "0.5"})
    wait_until(lambda: len(workers.requests) == 2)
    settings = workers.requests[1]["settings"]
    assert {"--resume", "--change=20:strength=0.5"} <= set(settings)
    assert job.output == "a-2.png"  # the finished result stays
    assert (tmp_path / "a-2.png.checkpoint").read_bytes() == b"a checkpoint"


def test_a_job_that_went_back_to_a_step_shows_nothing_of_later_ones(
    jobs: Jobs, workers: Recorded
) -> None:
    workers.events = [
        {"step": 30, "steps": 40, "size": [64, 48], "preview": 7, "left": 3.0, "fraction": 0.7},
        {"result": "a.png", "step": 30, "loss": 2.5, "seconds": 9.0},
    ]
    workers.answer = {"stopped": True}
    job = jobs.add(JobLine(["stylize", "{0}"], ["town"], "pictures"), "a", ".png")
    wait_until(lambda: job.state == "stopped")
    state_file(jobs.path(job), 10).write_bytes(b"a checkpoint")
    state_file(jobs.path(job), 10).with_suffix(".jpg").write_bytes(b"its picture")
    workers.events = []
    jobs.go_on(job, 10, {})
    jobs.stop(job)  # before its first step
    wait_until(lambda: job.state == "stopped")
    job.figures.pop("left", None)
    assert job.figures == {"step": 10, "steps": 40, "preview": 8, "kept": [10], "pictured": [10]}
    assert (jobs.path(job) / "preview.jpg").read_bytes() == b"its picture"
    workers.events = [{"step": 11}]
    jobs.go_on(job, None, {})  # from there on, not from the end
    wait_until(lambda: workers.requests[-1]["pictures"] == 8 and job.state == "stopped")
    assert job.figures["step"] == 11


def test_damaged_descriptions_are_left_out(tmp_path: Path, workers: Recorded) -> None:
    for number, text in enumerate(("", "[]", '{"id": 3}', "{}", "[" * 10_000)):
        folder = tmp_path / STATE / f"{number:06d}"
        folder.mkdir(parents=True)
        (folder / "job.json").write_text(text)
    queue = Jobs(ViewFolder(tmp_path), workers, lambda: None)  # type: ignore[arg-type]
    assert queue.describe() == []
    queue.close()
    queue.join()


def test_old_states_make_room_for_new_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from convnd_tasks.view import live

    monkeypatch.setattr(live, "_KEPT_BYTES", 2500)
    for step in (0, 10, 20, 30):
        state_file(tmp_path, step).write_bytes(bytes(1000))
    LiveJob(tmp_path, lambda event: None)._remove_oldest()
    assert kept_steps(tmp_path) == [20, 30]


class Command:
    """``convnd view`` in a process of its own."""

    def __init__(self, folder: Path) -> None:
        line = [sys.executable, "-m", "convnd", "view", "--no-browser", "-o", str(folder)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(line, stdout=subprocess.PIPE, env=environment, text=True)
        assert self.process.stdout is not None
        address = self.process.stdout.readline().strip()
        self.client = Client(address)

    def job(self) -> dict[str, Any]:
        first: dict[str, Any] = json.loads(self.client.send("GET", "api/jobs").body)["jobs"][0]
        return first

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        code = self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


@pytest.mark.slow
def test_a_killed_page_loses_nothing(tmp_path: Path, run: Run) -> None:
    """The server is killed while a job runs; a second one, and the command line, go on with it."""
    pixels = np.random.default_rng(1).integers(0, 255, (48, 64, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    first = Command(tmp_path)
    typed = {
        "content": "a.png",
        "styles": ["waves"],
        "options": {"steps": 4000, "backbone": "compact", "scales": 1, "tolerance": 0},
    }
    assert first.client.post("api/start", typed).status == 200
    wait_until(lambda: first.job()["figures"].get("step", 0) > 12, SECONDS)
    first.end(signal.SIGKILL)
    checkpoint = tmp_path / "a_stylized.png.checkpoint"
    wait_until((tmp_path / "a_stylized.png").exists, SECONDS)  # the worker has ended its step
    assert checkpoint.exists()
    second = Command(tmp_path)
    job = second.job()
    assert (job["state"], job["output"]) == ("stopped", "a_stylized.png")
    assert 10 in job["figures"]["kept"]
    assert second.client.post("api/continue", {"job": job["id"]}).status == 200
    before = job["figures"]["step"]
    wait_until(lambda: second.job()["figures"]["step"] > before + 3, SECONDS)
    assert second.end(signal.SIGINT) == 130
    stopped = io.read_provenance(tmp_path / "a_stylized.png")
    assert "convnd:stopped" in stopped
    steps = int(stopped["convnd:steps_taken"])
    assert steps > 12
    # The command line goes on with the page's job; the number of steps has to be the same.
    words = ["stylize", "a.png", "--style=waves", "--dim=2", "--steps=4000", "--backbone=compact"]
    words += ["--scales=1", "--tolerance=0", "-o", "a_stylized.png", "--resume", "-q"]
    line = [sys.executable, "-m", "convnd", *words, "--checkpoint-every=1"]
    process = subprocess.Popen(line, cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"})
    changed = checkpoint.stat().st_mtime_ns
    wait_until(lambda: checkpoint.stat().st_mtime_ns != changed, SECONDS)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert int(io.read_provenance(tmp_path / "a_stylized.png")["convnd:steps_taken"]) > steps
