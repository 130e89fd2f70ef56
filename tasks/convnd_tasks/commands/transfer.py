"""What the commands that stylise have in common."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from convnd_tasks.pipeline.output import CommandOutput

__all__ = ["run_transfer"]


def run_transfer(
    files: Sequence[str] | None,
    styles: Sequence[str] | None,
    dim: int | None,
    typed_options: Mapping[str, Any],
    typed_settings: Mapping[str, Any],
    command_output: CommandOutput,
    *,
    modality: str | None = None,
) -> None:
    """Run the job of a command, with ``--live`` beside a page; see `run_command`."""
    from convnd_tasks.pipeline.run import run_command

    page: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if typed_settings.get("live"):
        from convnd_tasks.view.attached import live_page

        page = live_page(sys.argv[1:])
    with page:
        run_command(
            files, styles, dim, typed_options, typed_settings, command_output, modality=modality
        )
