"""The page on torch's tools says what is found by trying them."""

from __future__ import annotations

import pytest
from compatibility import PAGE, SUBJECTS, TEXT, TOOLS, column, works


def test_the_page_has_a_row_for_every_case() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text.startswith(TEXT)
    rows = [line.split(" | ")[0].removeprefix("| ") for line in text.splitlines() if " | " in line]
    assert rows == ["|", *SUBJECTS]
    assert all(tool in text for tool in TOOLS)


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
