"""An extension of griffe that converts reStructuredText in docstrings to Markdown."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:class|func|meth|mod|data|attr):`~?([^`]+)`")
_INLINE_MATH = re.compile(r":math:`([^`]+)`")
_DOCTEST = re.compile(r"^( *)>>> .*(?:\n\1\S.*|\n\1 +\S.*)*", re.MULTILINE)
_MATH = re.compile(r"^( *)\.\. math::[ ]*(.*(?:\n(?:\1 +\S.*| *$))*)", re.MULTILINE)
_TABLE = re.compile(r"^( *)(=+(?: +=+)+)\n(.*\n)\1\2\n((?:.*\n)+?)\1\2$", re.MULTILINE)


def to_markdown(text: str) -> str:
    """Converts the roles, ``.. math::`` directives, tables and examples of a docstring.

    >>> to_markdown(".. math:: a + b")
    '$$ a + b $$'
    """
    def display(match: re.Match[str]) -> str:
        formula = " ".join(line.strip() for line in match[2].splitlines() if line.strip())
        return f"{match[1]}$$ {formula} $$" + "\n" * (len(match[2]) - len(match[2].rstrip("\n")))

    def table(match: re.Match[str]) -> str:
        indent, rule = match[1], match[2]
        starts = [len(indent) + bar.start() for bar in re.finditer("=+", rule)]
        rows = [match[3], *match[4].splitlines()]
        cells = [
            [row[a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)]
            for row in map(str.rstrip, rows)
        ]
        cells.insert(1, ["---"] * len(starts))
        return "\n".join(f"{indent}| " + " | ".join(row) + " |" for row in cells)

    def fenced(match: re.Match[str]) -> str:
        return f"{match[1]}```pycon\n{match[0]}\n{match[1]}```"

    text = _TABLE.sub(table, text)  # first, since later replacements would shift the columns
    text = re.sub(r"::(?=\n\n)", ":", text)  # the code block after it is indented in Markdown too
    text = _INLINE_MATH.sub(r"$\1$", _ROLE.sub(r"`\1`", text))
    return _DOCTEST.sub(fenced, _MATH.sub(display, text))


class MarkdownDocstrings(griffe.Extension):
    """Applies `to_markdown` to every docstring."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Rewrites the docstring of a package; `on_object` is not called for it."""
        self.on_object(obj=pkg)

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrites the docstring of one object."""
        if obj.docstring:
            obj.docstring.value = to_markdown(obj.docstring.value)
