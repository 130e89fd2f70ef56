"""Makes Python pretend, in this process and its children, that it runs on another system.

Python imports this module at its start if its folder is in ``PYTHONPATH``. Libraries are imported
as on Linux; then everything that only Linux, or only POSIX, has is taken away before the first
module of convnd is imported. ``CONVND_PRETEND`` names the system, as ``sys.platform`` does.
"""

from __future__ import annotations

import importlib
import importlib.abc
import os
import sys
from typing import Any

_POSIX = ("fcntl", "resource")
_LIBRARIES = (
    "asyncio multiprocessing.pool getpass numpy torch PIL.Image psutil matplotlib.pyplot "
    "scipy.signal typer rich.console filelock platformdirs nibabel"
)


class _Elsewhere(importlib.abc.MetaPathFinder):
    """Refuses modules of POSIX once the system is another."""

    changed = False

    def find_spec(self, name: str, path: Any, target: Any = None) -> None:
        if self.changed and name in _POSIX and os.environ["CONVND_PRETEND"] == "win32":
            raise ImportError(f"No module named {name!r}")
        if not self.changed and name.partition(".")[0] in ("convnd", "convnd_tasks"):
            ecg = ["neurokit2"] if "ecg" in sys.orig_argv else []
            for library in _LIBRARIES.split() + ecg:
                importlib.import_module(library)
            self.changed = True
            _take_away()


def _take_away() -> None:
    import pathlib
    import signal

    if os.environ["CONVND_PRETEND"] == "win32":
        for name in _POSIX:
            sys.modules.pop(name, None)
        for name in ("SIGHUP", "SIGIO"):
            delattr(signal, name)
        for name in ("geteuid", "getuid", "fork"):
            delattr(os, name)
    for name in ("sched_getaffinity", "posix_fallocate"):
        delattr(os, name)
    read_text = pathlib.Path.read_text

    def without_proc(self: pathlib.Path, *arguments: Any, **options: Any) -> str:
        if str(self).startswith("/proc"):
            raise FileNotFoundError(str(self))
        return read_text(self, *arguments, **options)

    pathlib.Path.read_text = without_proc  # type: ignore[method-assign]
    sys.platform = os.environ["CONVND_PRETEND"]


if "CONVND_PRETEND" in os.environ:  # pytest, too, imports this module
    sys.meta_path.insert(0, _Elsewhere())
