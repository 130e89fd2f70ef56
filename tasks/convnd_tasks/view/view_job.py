"""The description of a job of a page, as it is shown and stored."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from convnd_tasks.view.kinds import UNITS

__all__ = ["ViewJob"]

_CHECKPOINT_EVERY = 10


@dataclass
class ViewJob:
    """One job, as the page sees it.

    Args:
        id: name of its folder.
        line: the words of its command, with places for its inputs.
        inputs: names of files in the folder, or of samples.
        output: name of the result.
        record: name of the result whose record is made again, or "".
        state: "queued", "running", "stopping", "stopped", "done" or "failed".
        resume: whether the next run continues from the checkpoint.
        figures: step, loss, time left and others, as the worker reports them.
        messages: lines for users.
        error: why it failed, or "".
        created: seconds since 1970.
        planned: changes of options for the next run, see `convnd_tasks.runtime.changes`.
        kind: its kind of data, see `convnd_tasks.view.kinds`; "" where it is not known.
    """

    id: str
    line: list[str]
    inputs: list[str]
    output: str
    record: str = ""
    state: str = "queued"
    resume: bool = False
    figures: dict[str, Any] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    error: str = ""
    created: float = 0.0
    planned: list[str] = field(default_factory=list)
    kind: str = ""

    def settings(self) -> list[str]:
        """Return the words of its command that say where and how it is written."""
        words = ["--quiet", "-o", self.output]
        if self.kind == UNITS:  # a search has no steps: it is made whole, or again
            return words
        if self.kind != "videos":  # their finished frames are the checkpoint
            words.append(f"--checkpoint-every={_CHECKPOINT_EVERY}")
        words += ["--no-figures", *["--resume"] * self.resume]
        return [*words, *(f"--change={text}" for text in self.planned)]
