"""The page of ``--live`` beside the job of a command."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from typing import Any

__all__ = ["page_beside"]


def page_beside(typed_settings: Mapping[str, Any]) -> contextlib.AbstractContextManager[None]:
    """Return the page that shows the job while it runs; nothing without ``--live``.

    Args:
        typed_settings: values of the fields of `JobSettings` that were typed.
    """
    if not typed_settings.get("live"):
        return contextlib.nullcontext()
    from convnd_tasks.view.attached import live_page

    return live_page(sys.argv[1:])
