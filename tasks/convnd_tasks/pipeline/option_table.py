"""The table in the documentation of options and kinds of data, made from their declarations."""

from __future__ import annotations

from typing import NamedTuple

from convnd.options import Flag, flag_name, flags_of
from convnd_tasks.modalities import MODALITIES, modality_class, options_class
from convnd_tasks.pipeline.flags import applicable_modalities
from convnd_tasks.runtime.settings import JobSettings

__all__ = ["OptionRow", "as_markdown", "option_table"]


class OptionRow(NamedTuple):
    """One option of ``convnd stylize``.

    Args:
        name: the option as it is typed.
        panel: heading of the help that the option stands under.
        help: one sentence.
        applies: whether the option applies, by kind of data.
        reasons: why the option does not apply where users would expect it, by kind of data.
    """

    name: str
    panel: str
    help: str
    applies: dict[str, bool]
    reasons: dict[str, str]


def option_table() -> list[OptionRow]:
    """List every option of ``convnd stylize``, in the order of its help.

    >>> rows = {row.name: row for row in option_table()}
    >>> rows["--steps"].applies["signals"], rows["--crf"].applies["pictures"]
    (True, False)
    """
    flags: dict[str, Flag] = {}
    for options in (*map(options_class, MODALITIES), JobSettings):
        for name, (_, flag) in flags_of(options).items():
            flags.setdefault(name, flag)
    rows = []
    for name, flag in flags.items():
        unsupported = {kind: modality_class(kind).unsupported.get(name) for kind in MODALITIES}
        reasons = {kind: reason for kind, reason in unsupported.items() if reason is not None}
        kinds = applicable_modalities(name) - reasons.keys()
        applies = {kind: kind in kinds for kind in MODALITIES}
        rows.append(OptionRow(flag_name(name, flag), flag.panel or "", flag.help, applies, reasons))
    panels = list(dict.fromkeys(row.panel for row in rows))
    return sorted(rows, key=lambda row: panels.index(row.panel))


def as_markdown() -> str:
    """Write the table as Markdown, with a heading for each panel and the reasons below."""
    lines: list[str] = []
    panel, reasons = "", []
    header = ["| option | " + " | ".join(MODALITIES) + " |", "|---" * (len(MODALITIES) + 1) + "|"]
    for row in option_table():
        if row.panel != panel:
            panel = row.panel
            lines += ["", f"## {panel}", "", *header]
        marks = [
            "yes" if row.applies[kind] else "no[^1]" if kind in row.reasons else "–"
            for kind in MODALITIES
        ]
        lines.append(f"| `{row.name}` | " + " | ".join(marks) + " |")
        reasons += [f"`{row.name}` for {kind}: {why}." for kind, why in row.reasons.items()]
    if reasons:
        lines += ["", "[^1]: " + " ".join(reasons)]
    return "\n".join(lines).strip() + "\n"
