"""What was found, as files: JSON and CSV of places, npz and NIfTI of samples."""

from __future__ import annotations

import csv
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from convnd import __version__, io
from convnd.io.atomic import atomic_path
from convnd_tasks.inspect.search import Found, Hit, Patch

if TYPE_CHECKING:
    from convnd.shapes import ReceptiveField

__all__ = ["PatchFiles", "hit_record", "write_tables"]

_COLUMNS = ("layer", "unit", "rank", "value", "input", "channel", "position", "start", "stop")


def hit_record(hit: Hit) -> dict[str, Any]:
    """A hit as plain data: ``start`` and ``stop`` bound the patch in the input."""
    return {
        "layer": hit.layer,
        "unit": hit.unit,
        "rank": hit.rank,
        "value": hit.value,
        "input": hit.input,
        "channel": hit.channel,
        "position": list(hit.position),
        "start": [part.start for part in hit.region],
        "stop": [part.stop for part in hit.region],
        "cropped": hit.cropped,
    }


def write_tables(
    folder: Path, found: Found, options: dict[str, object], remarks: Sequence[str] = ()
) -> None:
    """Write ``patches.json`` and ``patches.csv`` into a folder."""
    hits = list(found.all_hits())
    record = {
        "made_with": f"convnd {__version__}",
        "options": options,
        "remarks": list(remarks),
        "inputs": found.inputs,
        "failed": {name: str(error) for name, error in found.failed.items()},
        "receptive_fields": {name: _field(field) for name, field in found.fields.items()},
        "never_active": [
            {"layer": layer, "unit": unit}
            for (layer, unit), entries in found.best.items()
            if not entries
        ],
        "patches": [hit_record(hit) for hit in hits],
    }
    with atomic_path(folder / "patches.json", overwrite=False) as path:
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    with (
        atomic_path(folder / "patches.csv", overwrite=False) as path,
        path.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow([*_COLUMNS, "cropped"])
        for hit in hits:
            row = hit_record(hit)
            # Axes joined as in `convnd trace`, so that there are as many columns at every rank.
            writer.writerow(
                ["x".join(map(str, v)) if isinstance(v, list) else v for v in row.values()]
            )


def _field(field: ReceptiveField) -> dict[str, list[str | int]]:
    def plain(values: Sequence[object]) -> list[str | int]:
        return [value if isinstance(value, int) else str(value) for value in values]

    return {
        "size": plain(field.size),
        "stride": plain(field.stride),
        "offset": plain(field.offset),
    }


class PatchFiles:
    """Writes patches one by one as they are cut, so that they are never in memory together.

    Volumes of one channel become ``LAYER/unitU_R.nii.gz``, with the affine of where they lay;
    everything else ``LAYER.npz`` with arrays ``unitU_R`` of shape ``(C, *region)``, in the
    input's own units. R counts from 1, the strongest.

    Args:
        folder: exists.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._archives: dict[str, zipfile.ZipFile] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for archive in self._archives.values():
            archive.close()

    def add(self, patch: Patch) -> None:
        """Write one."""
        from numpy.lib import format as npy

        hit, grid = patch.hit, patch.grid
        name = f"unit{hit.unit:04d}_{hit.rank}"
        if grid.ndim == 3 and grid.values.shape[1] == 1 and grid.units == ("mm",) * 3:
            folder = self.folder / hit.layer
            folder.mkdir(exist_ok=True)
            io.write(folder / f"{name}.nii.gz", grid)
            return
        if hit.layer not in self._archives:
            self._archives[hit.layer] = zipfile.ZipFile(
                self.folder / f"{hit.layer}.npz", "w", zipfile.ZIP_DEFLATED
            )
        with self._archives[hit.layer].open(f"{name}.npy", "w") as file:
            npy.write_array(file, grid.values[0].cpu().float().numpy(), allow_pickle=False)
