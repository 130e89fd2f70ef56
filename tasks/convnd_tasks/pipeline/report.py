"""Reports: one HTML file with everything inside, to be opened, mailed and printed.

Nothing is loaded from elsewhere and nothing runs: figures are embedded as PNG or SVG images, the
style sheet is a part of the page and follows the reader's choice of light or dark. All text is
escaped. Figures come as bytes, from `convnd_tasks.pipeline.plots` or anywhere else.
"""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Sequence

from convnd import __version__
from convnd.errors import UsageError
from convnd.io.atomic import atomic_path, check_target

__all__ = ["Report", "check_report"]

_KINDS = {b"\x89PNG": "image/png", b"<?xml": "image/svg+xml", b"<svg": "image/svg+xml"}

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2127; --soft: #5b6570; --line: #dde1e6;
  --page: #ffffff; --band: #f5f7f9; --link: #1f5fbf; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7eb; --soft: #9aa5b1;
  --line: #343b44; --page: #15181c; --band: #1d2127; --link: #86b2f5; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 66rem; background: var(--page);
  color: var(--ink); font: 16px/1.55 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; text-wrap: balance; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .5rem; padding-top: 1.1rem;
  border-top: 1px solid var(--line); }
p { max-width: 46rem; margin: .4rem 0 .8rem; }
.lead, figcaption, caption, footer { color: var(--soft); }
nav { margin: 1.2rem 0 0; font-size: .92rem; }
nav a { color: var(--link); text-decoration: none; display: inline-block;
  margin: 0 1.1rem .2rem 0; }
nav a:hover { text-decoration: underline; }
figure { margin: 1rem 0 1.6rem; }
figure img { display: block; max-width: 100%; height: auto; background: #fff; border-radius: 6px;
  border: 1px solid var(--line); }
figcaption { font-size: .9rem; margin-top: .45rem; max-width: 46rem; }
.wide { overflow-x: auto; margin: 1rem 0 1.6rem; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-size: .9rem; padding-bottom: .4rem; }
summary { cursor: pointer; color: var(--soft); font-size: .9rem; }
th, td { padding: .32rem .9rem .32rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }
th { font-weight: 600; white-space: nowrap; }
td.number, th.number { text-align: right; white-space: nowrap; }
pre { background: var(--band); padding: .7rem .9rem; border-radius: 6px; overflow-x: auto;
  font: .88rem/1.45 ui-monospace, "SF Mono", Consolas, "Liberation Mono", monospace; }
footer { margin-top: 3rem; font-size: .85rem; }
@media print { body { max-width: none; padding: 0; } h2 { break-after: avoid; }
  figure, tr { break-inside: avoid; } nav { display: none; } }
"""


class Report:
    r"""A page that is filled from top to bottom.

    Args:
        title: the heading, and the name of the browser's tab.
        lead: one or two sentences under it.

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
        self._body: list[str] = []
        self._sections: list[str] = []

    def section(self, title: str, text: str = "") -> None:
        """Begin a section; its title appears among the links at the top.

        Args:
            title: its heading.
            text: paragraphs, with empty lines between.
        """
        self._sections.append(title)
        self._body.append(f'<h2 id="s{len(self._sections)}">{html.escape(title)}</h2>')
        self.text(text)

    def text(self, text: str) -> None:
        """Add paragraphs, with empty lines between."""
        for paragraph in text.split("\n\n"):
            if paragraph.strip():
                self._body.append(f"<p>{html.escape(paragraph.strip())}</p>")

    def code(self, text: str) -> None:
        """Add lines as they are, in type of one width: a command, a record."""
        self._body.append(f"<pre>{html.escape(text)}</pre>")

    def figure(self, data: bytes, caption: str = "", *, width: int | None = None) -> None:
        """Add a picture.

        Args:
            data: the content of a PNG or SVG file.
            caption: stands below, and for readers who cannot see it.
            width: shown so many pixels wide at most; None is its own width.

        Raises:
            UsageError: neither PNG nor SVG.
        """
        kind = next((kind for start, kind in _KINDS.items() if data.startswith(start)), None)
        if kind is None:
            raise UsageError(
                f"report: expected the bytes of a PNG or SVG, got {data[:8]!r}; encode the picture"
            )
        shown = "" if width is None else f' style="width:{width:d}px"'
        coded = base64.b64encode(data).decode("ascii")
        self._body.append(
            f'<figure><img alt="{html.escape(caption)}"{shown} src="data:{kind};base64,{coded}">'
            + (f"<figcaption>{html.escape(caption)}</figcaption>" if caption else "")
            + "</figure>"
        )

    def table(
        self,
        header: Sequence[str],
        rows: Sequence[Sequence[object]],
        caption: str = "",
        *,
        folded: bool = False,
    ) -> None:
        """Add a table; columns of numbers are set flush right, floats with four digits.

        Args:
            header: titles of the columns.
            rows: cells; numbers, text, or None for an empty one.
            caption: stands above.
            folded: only the caption shows until the reader opens it.

        Raises:
            UsageError: a row has another number of cells than the header.
        """
        for row in rows:
            if len(row) != len(header):
                raise UsageError(
                    f"report: expected rows of {len(header)} cells, got {len(row)}; fill with None"
                )
        numeric = [
            any(_is_number(row[at]) for row in rows)
            and all(row[at] is None or _is_number(row[at]) for row in rows)
            for at in range(len(header))
        ]

        def line(cells: Sequence[object], tag: str) -> str:
            return "".join(
                f"<{tag}{' class=number' if right else ''}>{html.escape(_cell(cell))}</{tag}>"
                for cell, right in zip(cells, numeric, strict=True)
            )

        title = f"<caption>{html.escape(caption)}</caption>" if caption and not folded else ""
        body = "".join(f"<tr>{line(row, 'td')}</tr>\n" for row in rows)
        table = (
            f'<div class="wide"><table>{title}<thead><tr>{line(header, "th")}</tr></thead>\n'
            f"<tbody>{body}</tbody></table></div>"
        )
        summary = f"<summary>{html.escape(caption)}</summary>"
        self._body.append(f"<details>{summary}{table}</details>" if folded else table)

    def html(self) -> str:
        """The whole page."""
        title = html.escape(self.title)
        lead = f'<p class="lead">{html.escape(self._lead)}</p>\n' if self._lead else ""
        links = "".join(
            f'<a href="#s{number}">{html.escape(name)}</a>'
            for number, name in enumerate(self._sections, 1)
        )
        nav = f"<nav>{links}</nav>\n" if len(self._sections) > 1 else ""
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
            f"<h1>{title}</h1>\n{lead}{nav}"
            + "\n".join(self._body)
            + f"\n<footer>Made with convnd {html.escape(__version__)}.</footer>\n</body>\n</html>\n"
        )

    def write(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the page; the file appears whole or not at all.

        Raises:
            OutputExistsError: it exists and ``overwrite`` is false.
            OutputFileError: it cannot be written there.
        """
        with atomic_path(path, overwrite=overwrite) as temporary:
            temporary.write_text(self.html(), encoding="utf-8")


def check_report(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Prove, before any work, that a report can be written here.

    Raises:
        UsageError: the name does not end in ``.html`` or ``.htm``.
        OutputExistsError: it exists and ``overwrite`` is false.
        OutputFileError: it cannot be written there.
    """
    if not os.fspath(path).lower().endswith((".html", ".htm")):
        raise UsageError(
            f"report: expected a name ending in .html, got {os.fspath(path)!r}; rename it"
        )
    check_target(path, overwrite=overwrite)


def _is_number(cell: object) -> bool:
    return isinstance(cell, int | float) and not isinstance(cell, bool)


def _cell(cell: object) -> str:
    if cell is None:
        return ""
    if isinstance(cell, float):
        return f"{cell:.4g}"
    return f"{cell:,}" if _is_number(cell) else str(cell)
