"""``--live``: a command shows its work on a page, and goes on without it."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from command_line import Run
from convnd_tasks.view import attached
from page_client import Client

from convnd import io

QUICK = ("--size", "48", "--scales", "1", "--backbone", "compact", "--tolerance", "0", "-q")
LINE = ("stylize", "town", "waves", "--dim", "2", *QUICK)


class Visitor(threading.Thread):
    """Opens the page as soon as its address is printed, waits for some steps, and acts once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, path: str, **typed: Any) -> None:
        super().__init__(daemon=True)
        self.path, self.typed = path, typed
        self.seen: dict[str, Any] = {}
        self.statuses: list[int] = []
        self.client: Client
        monkeypatch.setattr(attached, "echo", self.take)

    def take(self, line: str, *, err: bool) -> None:
        assert err  # stdout is for the result
        self.client = Client(line.removeprefix("live: "))
        self.start()

    def run(self) -> None:
        while self.seen.get("figures", {}).get("step", 0) < 3:
            time.sleep(0.01)
            (self.seen,) = json.loads(self.client.send("GET", "api/jobs").body)["jobs"]
        job = self.seen["id"]
        self.statuses.append(self.client.send("GET", f"api/step?job={job}&step=last").status)
        self.statuses.append(
            self.client.post(f"api/{self.path}", {"job": job, **self.typed}).status
        )


def test_a_command_shows_its_steps_and_takes_a_change(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    visitor = Visitor(monkeypatch, "change", options={"strength": 0.5})
    code, out, _ = run(*LINE, "--steps", "60", "--live", "-o", "a.png")
    visitor.join(20)
    assert (code, out.count("\n")) == (0, 1)
    assert visitor.statuses == [200, 200]
    assert visitor.seen["output"] == "a.png"
    assert "strength=0.5" in io.read_provenance(Path("a.png"))["convnd:change"]
    assert [path.name for path in Path().iterdir()] == ["a.png"]  # nothing of the page stays


def test_the_page_stops_the_command(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Visitor(monkeypatch, "stop")
    code, _, _ = run(*LINE, "--steps", "100000", "--live", "-o", "a.png")
    assert code == 130
    assert "convnd:stopped" in io.read_provenance(Path("a.png"))


def test_the_work_goes_on_without_the_page(run: Run) -> None:
    code, _, err = run(*LINE, "--steps", "2", "--live", "-o", "a.png")
    assert code == 0
    assert err.startswith("live: http://127.0.0.1:")
    assert Path("a.png").exists()
