"""``python -m convnd``, and the installed command.

Signal handlers are set before anything else is imported: a signal never ends in a traceback.
"""

from __future__ import annotations

import signal
import sys
from typing import NoReturn

from convnd.errors import StopSignal

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command line."""
    try:
        StopSignal.catch()
        from convnd.cli import main as run
    except StopSignal as stopped:
        number = signal.Signals(stopped.args[0])
        print(f"convnd: stopped by {number.name}", file=sys.stderr)  # noqa: T201
        sys.exit(128 + number)
    run()


if __name__ == "__main__":
    main()
