"""Small copies of large pictures, which thumbnails and previews read instead of the files."""

from __future__ import annotations

import contextlib
import weakref
from collections import OrderedDict
from pathlib import Path

from convnd.io.atomic import temporary_folder

__all__ = ["LONGEST", "SmallCopies"]

LONGEST = 1024
"""Pixels of the longer side of a copy: previews and thumbnails are not larger."""

_MOST = 50


class SmallCopies:
    """Makes each copy once: a photograph is decoded once, and not for every thumbnail of it."""

    def __init__(self) -> None:
        stack = contextlib.ExitStack()
        self._folder = stack.enter_context(temporary_folder())
        weakref.finalize(self, stack.close)
        self._paths: OrderedDict[tuple[str, float], str] = OrderedDict()
        self._count = 0

    def path(self, name: str) -> str:
        """Return the path of the copy of a picture; what is no large picture is returned itself.

        Args:
            name: path of a file, or name of a sample.

        Raises:
            ConvndError: the file cannot be read.
        """
        from convnd import io

        path = Path(name)
        if not path.is_file() or io.is_video(name) or io.spatial_dims(name) != 2:
            return name
        key = name, path.stat().st_mtime
        if key not in self._paths:
            self._paths[key] = self._copy(name)
            while len(self._paths) > _MOST:
                _, oldest = self._paths.popitem(last=False)
                if Path(oldest).parent == self._folder:
                    Path(oldest).unlink(missing_ok=True)
        return self._paths[key]

    def _copy(self, name: str) -> str:
        from convnd import io
        from convnd.nn import resize_nd
        from convnd.transfer.scales import fit_size

        grid = io.read(name)
        if grid.ndim != 2 or max(grid.shape) <= LONGEST:
            return name
        self._count += 1
        size = fit_size(grid.shape, LONGEST)
        values = resize_nd(grid.values.float(), size, mode="linear", antialias=True)
        copy = self._folder / f"{self._count}.png"
        io.write(copy, grid.with_values(values))
        return str(copy)
