"""``convnd formats``: list the file formats that are read and written."""

from __future__ import annotations

from convnd_tasks.pipeline.output import CommandOutput, echo, with_json_output
from convnd_tasks.runtime.tables import align_columns

__all__ = ["formats"]


@with_json_output("formats")
def formats(*, command_output: CommandOutput) -> None:
    """List the file formats that are read and written."""
    from convnd import io  # fills the table
    from convnd.io.registry import FORMATS

    del io
    rows = [("axes", "format", "written", "names end in")]
    for entry in sorted(
        (FORMATS[name] for name in FORMATS), key=lambda entry: entry.spatial_dims or 4
    ):
        written = entry.write is not None
        command_output.append(
            "formats",
            {
                "name": entry.name,
                "spatial_dims": entry.spatial_dims,
                "written": written,
                "suffixes": list(entry.suffixes),
            },
        )
        suffixes = ", ".join(entry.suffixes) or "(a folder)"
        axes = "any" if entry.spatial_dims is None else str(entry.spatial_dims)
        rows.append((axes, entry.name, "yes" if written else "no", suffixes))
    echo(*align_columns(rows))
