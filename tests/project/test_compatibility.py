"""The page on torch's tools says what is found by trying them."""

from __future__ import annotations

import pytest
from compatibility import PAGE, REASONS, SUBJECTS, TEXT, TOOLS, column, reasons, works


def test_the_page_has_a_row_for_every_case() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text.startswith(TEXT)
    rows = [line.split(" | ")[0].removeprefix("| ") for line in text.splitlines() if " | " in line]
    assert rows == ["|", *SUBJECTS]
    assert all(tool in text for tool in TOOLS)
    assert text.endswith(reasons())


def test_the_page_gives_a_reason_for_every_cell_that_does_not_work() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    tools, _, *rows = [line.strip("| ").split(" | ") for line in lines if line[:1] == "|"]
    failing = {
        (tool, subject)
        for subject, *cells in rows
        for tool, cell in zip(tools, cells, strict=True)
        if cell != "✓"
    }
    explained = {
        (tool, subject)
        for of_tool, subjects, _ in REASONS
        for tool in (TOOLS if of_tool == "every tool" else [of_tool])
        for subject in subjects
    }
    assert failing == explained


def test_a_tool_that_does_not_work_is_found() -> None:
    assert works("vmap", "StyleLoss, gram", 1)
    assert not works("jit.script", "StyleLoss, gram", 1)


@pytest.mark.slow
@pytest.mark.parametrize("tool", TOOLS)
def test_a_column_is_what_is_found(tool: str) -> None:
    """If it differs on purpose: python tests/support/compatibility.py."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    (head, _, *rows) = [line.strip("| ").split(" | ") for line in lines if line.startswith("|")]
    place = head.index(tool) + 1
    assert [row[place] for row in rows] == column(tool)
