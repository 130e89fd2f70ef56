"""``convnd samples``: list the built-in contents and styles."""

from __future__ import annotations

from convnd_tasks.pipeline.output import CommandOutput, echo, with_json_output

__all__ = ["samples"]


@with_json_output("samples")
def samples(*, command_output: CommandOutput) -> None:
    """List the built-in contents and styles."""
    from convnd_tasks import samples as built_in

    for dim in (1, 2, 3):
        contents, styles = built_in.contents(dim), built_in.styles(dim)
        echo(f"--dim {dim}")
        echo(f"  contents  {', '.join(contents)}")
        echo(f"  styles    {', '.join(styles)}")
        command_output.append("samples", {"dim": dim, "contents": contents, "styles": styles})
