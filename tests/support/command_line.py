"""Types of the command line in tests; the fixture `run` stands in `shared_fixtures.py`."""

from __future__ import annotations

from collections.abc import Callable

Run = Callable[..., tuple[int, str, str]]
"""Runs the words behind ``convnd`` in this process: exit code, stdout, stderr."""
