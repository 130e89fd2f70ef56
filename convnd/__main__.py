"""``python -m convnd``, and the installed command.

Signal handlers are set before anything else is imported: a signal never ends in a traceback.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import warnings
from typing import NoReturn

from convnd.errors import StopSignal
from convnd.threads import Load, limit_threads, wait_asleep

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command line."""
    try:
        load = Load.now()
        StopSignal.catch()
        _silence_libraries()
        wait_asleep()
        from convnd.cli import main as run

        limit_threads(load, reproducible=os.environ.get("CONVND_SHARE_CORES") != "1")
    except StopSignal as stopped:
        number = signal.Signals(stopped.args[0])
        print(f"convnd: stopped by {number.name}", file=sys.stderr)  # noqa: T201
        sys.exit(128 + number)
    run()


def _silence_libraries() -> None:
    """Keep warnings and log messages of libraries off stderr, unless ``-W`` asks for them."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    # Python prints messages without a handler.
    logging.getLogger().addHandler(logging.NullHandler())


if __name__ == "__main__":
    main()
