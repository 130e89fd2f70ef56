"""``convnd samples``: list the built-in contents and styles."""

from __future__ import annotations

import typer

from convnd_tasks.pipeline.output import CommandOutput, with_json_output

__all__ = ["samples"]


@with_json_output("samples")
def samples(*, summary: CommandOutput) -> None:
    """List the built-in contents and styles."""
    from convnd_tasks import samples as built_in

    for dim in (1, 2, 3):
        typer.echo(f"--dim {dim}")
        typer.echo(f"  contents  {', '.join(built_in.contents(dim))}")
        typer.echo(f"  styles    {', '.join(built_in.styles(dim))}")
        lists = {"dim": dim, "contents": built_in.contents(dim), "styles": built_in.styles(dim)}
        summary.append("samples", lists)
