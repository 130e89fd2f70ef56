"""Results as files: JSON and CSV tables of patches, npz and NIfTI files of their samples."""

from __future__ import annotations

import csv
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from convnd import __version__, io
from convnd.io.atomic import atomic_path
from convnd_tasks.inspect.search import Hit, Patch, SearchResult
from convnd_tasks.runtime.tables import receptive_field_record

__all__ = ["PatchWriter", "hit_record", "write_tables"]


_COLUMNS = (
    *("layer", "unit", "rank", "value", "input", "channel", "position", "start", "stop"),
    "cropped",
)


def hit_record(hit: Hit) -> dict[str, Any]:
    """Convert a hit to data for JSON; ``start`` and ``stop`` bound the patch in the input."""
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
    folder: Path, result: SearchResult, options: dict[str, object], messages: Sequence[str] = ()
) -> None:
    """Write ``patches.json`` and ``patches.csv``.

    Args:
        folder: an existing folder.
        result: the result of the search.
        options: the options of the run, for the JSON file.
        messages: lines that the run reported, for the JSON file.
    """
    rows = [hit_record(hit) for hit in result.all_hits()]
    record = {
        "convnd": __version__,
        "options": options,
        "messages": list(messages),
        "inputs": result.inputs,
        "failed": {name: str(error) for name, error in result.errors.items()},
        "receptive_fields": {
            name: receptive_field_record(field) for name, field in result.receptive_fields.items()
        },
        "never_active": [
            {"layer": layer, "unit": unit}
            for (layer, unit), entries in result.entries.items()
            if not entries
        ],
        "patches": rows,
    }
    with atomic_path(folder / "patches.json", overwrite=False) as path:
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    with (
        atomic_path(folder / "patches.csv", overwrite=False) as path,
        path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for row in rows:
            # The axes of a value are joined as in `convnd trace`: one column at every rank.
            writer.writerow(
                ["x".join(map(str, v)) if isinstance(v, list) else v for v in row.values()]
            )


class PatchWriter:
    """Writes patches one by one, so that they are never in memory together.

    A patch of a volume of one channel becomes ``LAYER/unitU_R.nii.gz`` with the affine of its
    place; any other becomes the array ``unitU_R`` of shape ``(C, *region)`` in ``LAYER.npz``.
    Values are in the input's own units. R is the rank, 1 for the strongest.

    Args:
        folder: an existing folder.
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

    def write(self, patch: Patch) -> None:
        """Write one patch."""
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
