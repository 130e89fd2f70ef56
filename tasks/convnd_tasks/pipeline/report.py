"""Reports: single HTML files that can be opened, mailed and printed.

A report loads no other file and runs no script. Figures are embedded as PNG or SVG images, and the
style sheet follows the reader's choice of light or dark. Jinja2 escapes all text, so that a file
name or a header cannot inject HTML, and control characters are written as escapes. The templates
are in the folder ``templates``.
"""

from __future__ import annotations

import base64
import functools
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from convnd import __version__
from convnd.errors import UsageError, printable
from convnd.io.atomic import atomic_path, check_target

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = ["Report", "check_report", "check_report_name"]

_MEDIA_TYPES = {b"\x89PNG": "image/png", b"<?xml": "image/svg+xml", b"<svg": "image/svg+xml"}


class Report:
    r"""A page to which sections, text, figures and tables are added in order.

    Args:
        title: heading of the page and title of the browser's tab.
        lead: one or two sentences under the heading.

    >>> report = Report("Scan A", lead="Noise before and after.")
    >>> report.section("Figures of merit")
    >>> report.table(["tissue", "HU"], [["lung", -812.4], ["fat & skin", -98]])
    >>> page = report.html()
    >>> "fat &amp; skin" in page, "<script" in page, "http" in page
    (True, False, False)
    """

    def __init__(self, title: str, *, lead: str = "") -> None:
        self.title = title
        self._lead = lead
        self._blocks: list[dict[str, Any]] = []
        self._sections: list[str] = []

    def section(self, title: str, text: str = "") -> None:
        """Begin a section; its title appears among the links at the top.

        Args:
            title: heading of the section.
            text: paragraphs, separated by empty lines.
        """
        self._sections.append(title)
        self._blocks.append({"kind": "section", "title": title, "number": len(self._sections)})
        self.text(text)

    def text(self, text: str) -> None:
        """Add paragraphs, separated by empty lines."""
        paragraphs = (paragraph.strip() for paragraph in text.split("\n\n"))
        self._blocks += [{"kind": "text", "text": line} for line in paragraphs if line]

    def code(self, text: str) -> None:
        """Add preformatted lines, for example a command."""
        self._blocks.append({"kind": "code", "text": text})

    def figure(self, data: bytes, caption: str = "", *, width: int | None = None) -> None:
        """Add a picture.

        Args:
            data: content of a PNG or SVG file.
            caption: text below the picture, also for readers who cannot see it.
            width: largest width on the page in pixels; None is the width of the picture.

        Raises:
            UsageError: the data are neither PNG nor SVG.
        """
        media_type = next(
            (kind for start, kind in _MEDIA_TYPES.items() if data.startswith(start)), None
        )
        if media_type is None:
            raise UsageError(
                "report",
                expected="the bytes of a PNG or SVG",
                got=repr(data[:8]),
                remedy="encode the picture",
            )
        source = f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"
        block = {"kind": "figure", "source": source, "caption": caption, "width": width}
        self._blocks.append(block)

    def table(
        self,
        header: Sequence[str],
        rows: Sequence[Sequence[object]],
        caption: str = "",
        *,
        folded: bool = False,
    ) -> None:
        """Add a table. Columns of numbers are aligned to the right, floats have four digits.

        Args:
            header: titles of the columns.
            rows: cells: numbers, text, or None for an empty cell.
            caption: text above the table.
            folded: whether only the caption is visible until the reader opens the table.

        Raises:
            UsageError: a row and the header have different numbers of cells.
        """
        for row in rows:
            if len(row) != len(header):
                raise UsageError(
                    "report",
                    expected=f"rows of {len(header)} cells",
                    got=len(row),
                    remedy="fill with None",
                )
        columns = [[row[index] for row in rows] for index in range(len(header))]
        self._blocks.append(
            {
                "kind": "table",
                "header": header,
                "rows": rows,
                "caption": caption,
                "folded": folded,
                "numeric": [
                    any(map(_is_number, column))
                    and all(cell is None or _is_number(cell) for cell in column)
                    for column in columns
                ],
            }
        )

    def html(self) -> str:
        """Render the page."""
        return _template().render(
            title=self.title,
            lead=self._lead,
            sections=self._sections,
            blocks=self._blocks,
            version=__version__,
        )

    def write(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the page; the file appears complete or not at all.

        Args:
            path: path of the HTML file.
            overwrite: whether an existing file may be replaced.

        Raises:
            OutputExistsError: the file exists and ``overwrite`` is false.
            OutputFileError: the file cannot be written.
        """
        with atomic_path(path, overwrite=overwrite) as temporary:
            temporary.write_text(self.html(), encoding="utf-8")


def check_report(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Check before any work that a report can be written.

    Args:
        path: path of the HTML file.
        overwrite: whether an existing file may be replaced.

    Raises:
        UsageError: the name does not end in ``.html`` or ``.htm``.
        OutputExistsError: the file exists and ``overwrite`` is false.
        OutputFileError: the file cannot be written.
    """
    check_report_name(path)
    check_target(path, overwrite=overwrite)


def check_report_name(path: str | os.PathLike[str]) -> None:
    """Check that the name of a report ends in ``.html`` or ``.htm``.

    Raises:
        UsageError: it does not.
    """
    if not os.fspath(path).lower().endswith((".html", ".htm")):
        raise UsageError(
            "report",
            expected="a name ending in .html",
            got=repr(os.fspath(path)),
            remedy="rename it",
        )


@functools.cache
def _template() -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("convnd_tasks.pipeline"),
        autoescape=True,
        finalize=_finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["cell"] = _format_cell
    return environment.get_template("report.html")


def _finalize(value: Any) -> Any:
    """Escape the control characters of a text, which could reverse or hide parts of the page."""
    from markupsafe import Markup

    if isinstance(value, str) and not isinstance(value, Markup):
        return "\n".join(map(printable, value.split("\n")))
    return value


def _is_number(cell: object) -> bool:
    return isinstance(cell, int | float) and not isinstance(cell, bool)


def _format_cell(cell: object) -> str:
    if cell is None:
        return ""
    if isinstance(cell, float):
        return f"{cell:.4g}"
    return f"{cell:,}" if _is_number(cell) else str(cell)
