"""A command that stops at a place of our choice and waits there to be signalled.

Children are forked from a server that has imported everything once: `convnd_tasks` takes seconds.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
import time
import unittest.mock
from pathlib import Path
from typing import Any


def command(arguments: list[str], place: str, folder: str) -> None:
    """Run it in ``folder``/work, its output beside that; ``folder``/here appears at ``place``.

    Args:
        arguments: of the command.
        place: ``module:function`` or ``module:Class.method``, and ``@N`` for its Nth call.
        folder: to work in.
    """
    os.setsid()  # whoever is left afterwards is found by this
    os.chdir(Path(folder, "work"))
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(Path(folder, name), os.O_CREAT | os.O_WRONLY), number)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    sys.argv = ["convnd", *arguments]
    place, _, turn = place.partition("@")
    module, _, name = place.partition(":")
    owner: Any = importlib.import_module(module)
    *path, last = name.split(".")
    for part in path:
        owner = getattr(owner, part)
    true, calls = getattr(owner, last), []

    @functools.wraps(true)
    def wait(*args: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == int(turn or 1):
            Path(folder, "here").touch()
            while True:
                time.sleep(60)
        return true(*args, **named)

    from convnd.__main__ import main

    with unittest.mock.patch.object(owner, last, wait):
        try:
            main()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
