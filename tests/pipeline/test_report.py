"""Reports are whole pages that need nothing else, and say what they were given."""

from __future__ import annotations

import base64
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from convnd_tasks.pipeline.report import Report, check_report
from convnd_tasks.runtime import plots
from error_fields import raises

from convnd.errors import OutputExistsError, OutputFileError, UsageError


class _Reader(HTMLParser):
    """Tags that were opened, their attributes and all text, read by the standard library."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.stack: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.opened.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def _page() -> Report:
    report = Report("A <title> & more", lead="It says <this>.")
    report.section("First <part>", "One.\n\nTwo <script>alert(1)</script>.")
    report.table(["name", "value"], [["<i>", 1.23456789], ["b", None]], "Cells & co")
    report.section("Second")
    report.figure(plots.encode_pixels(np.zeros((3, 4), np.uint8)), 'a "quoted" caption')
    report.figure(plots.loss_curve({"a": [3.0, 1.0], "b": [2.0, -1.0]}))
    report.code("x < y")
    return report


def test_page_is_whole_escaped_and_alone() -> None:
    reader = _Reader()
    reader.feed(_page().html())
    assert not reader.stack
    tags = {tag for tag, _ in reader.opened}
    assert not tags & {"script", "link", "iframe", "i", "this", "part"}
    text = "".join(reader.words)
    for words in ("A <title> & more", "Two <script>alert(1)</script>.", "<i>", "1.235", "x < y"):
        assert words in text
    ids = {attributes.get("id") for _, attributes in reader.opened}
    links = [attributes["href"] for tag, attributes in reader.opened if tag == "a"]
    assert len(links) == 2
    assert all(link and link[1:] in ids for link in links)
    sources = [attributes["src"] or "" for tag, attributes in reader.opened if tag == "img"]
    assert [source.partition(";")[0] for source in sources] == [
        "data:image/png",
        "data:image/svg+xml",
    ]
    assert b"IHDR" in base64.b64decode(sources[0].partition(",")[2])


def test_no_text_becomes_markup() -> None:
    hostile = "</title></style><script>alert('1')</script><img src=x onerror=\"go()\">{{ 7 * 7 }}"
    picture = plots.encode_pixels(np.zeros((3, 4), np.uint8))
    report = Report(hostile, lead=hostile)
    for folded in (False, True):
        report.section(hostile, hostile)
        report.table([hostile, "b"], [[hostile, Path(hostile)], [1, 2]], hostile, folded=folded)
        report.figure(picture, hostile, width=9)
        report.code(hostile)
    page = report.html()
    assert page.startswith("<!doctype html>\n")
    reader = _Reader()
    reader.feed(page)
    assert not reader.stack
    assert "script" not in {tag for tag, _ in reader.opened}
    images = [attributes for tag, attributes in reader.opened if tag == "img"]
    assert len(images) == 2
    for attributes in images:
        assert attributes.keys() == {"alt", "style", "src"}
        assert attributes["alt"] == hostile
    assert "".join(reader.words).count(hostile) == 3 + 2 + 2 * 8
    assert "49" not in "".join(reader.words)


def test_same_page_same_bytes(tmp_path: Path) -> None:
    _page().write(tmp_path / "a.html")
    assert (tmp_path / "a.html").read_text(encoding="utf-8") == _page().html()


def test_errors(tmp_path: Path) -> None:
    report = Report("x")
    with raises(UsageError, operation="report", got="b'GIF89a'"):
        report.figure(b"GIF89a")
    with raises(UsageError, operation="report", expected="2 cells", got="1"):
        report.table(["a", "b"], [[1]])
    with raises(UsageError, operation="report", expected="a name ending in"):
        check_report(tmp_path / "a.pdf")
    with raises(OutputFileError, operation="a.html", got="missing"):
        check_report(tmp_path / "no" / "a.html")
    report.write(tmp_path / "a.html")
    check_report(tmp_path / "a.html", overwrite=True)
    for again in (check_report, report.write):
        with raises(OutputExistsError, operation="a.html", got="one that exists"):
            again(tmp_path / "a.html")
    assert [path.name for path in tmp_path.iterdir()] == ["a.html"]


def test_drawing_leaves_pyplot_alone_and_importing_draws_nothing() -> None:
    code = (
        "import sys, convnd_tasks.pipeline.report, convnd_tasks.runtime.plots as plots\n"
        "assert not {'matplotlib', 'torch', 'numpy'} & set(sys.modules)\n"
        "plots.loss_curve({'loss': [1.0]})\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
