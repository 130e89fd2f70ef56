"""What systems other than Linux lack."""

from __future__ import annotations

import importlib.util
import sys

__all__ = ["missing_on_this_system"]


def missing_on_this_system() -> list[str]:
    """List what this system lacks; everything else works without it.

    >>> all(isinstance(feature, str) for feature in missing_on_this_system())
    True
    """
    missing = []
    if not _has_module("resource"):
        missing.append("limits on the memory and time of decoders")
    elif sys.platform != "linux":  # macOS ignores a limit on the address space
        missing.append("a limit on the memory of decoders")
    if not _has_module("fcntl"):
        missing.append("locks between writers of one folder")
    if sys.platform != "linux":
        missing += ["measures on several cores", "count of the cores that other programs use"]
    return missing


def _has_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:
        return False
