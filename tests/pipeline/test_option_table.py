"""The table of options and kinds of data says what the pipeline does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from convnd_tasks.modalities import MODALITIES, options_class
from convnd_tasks.pipeline.job_options import make_options
from convnd_tasks.pipeline.job_spec import JobSpec
from convnd_tasks.pipeline.option_table import OptionRow, as_markdown, option_table
from convnd_tasks.runtime.settings import JobSettings

from convnd.errors import UsageError
from convnd.options import flag_name, flags_of

ROWS = option_table()
DIM = {"pictures": 2, "signals": 1, "arrays": 4, "volumes": 3, "videos": 3}


def field_of(row: OptionRow) -> tuple[str, type[Any]]:
    """The field behind an option, and its dataclass."""
    classes: list[type[Any]] = [JobSettings, *map(options_class, MODALITIES)]
    for dataclass in classes:
        for name, (_, flag) in flags_of(dataclass).items():
            if flag_name(name, flag) == row.name:
                return name, dataclass
    raise AssertionError(row.name)


@pytest.mark.parametrize("kind", MODALITIES)
def test_an_option_is_accepted_where_the_table_says_so(kind: str) -> None:
    for row in ROWS:
        check_option(row, kind)


def check_option(row: OptionRow, kind: str) -> None:
    name, dataclass = field_of(row)
    value = dataclass.__dataclass_fields__[name].default
    spec = JobSpec(
        modality=kind,
        dim=DIM[kind],
        contents=("content",),
        styles=("style",),
        outputs=(Path("result"),),
    )
    options, settings = ({}, {name: value}) if dataclass is JobSettings else ({name: value}, {})
    if row.applies[kind]:
        accepted = make_options(spec, options, settings)
        assert type(accepted) is options_class(kind)
        return
    with pytest.raises(UsageError, match=rf"^{row.name} (applies to|has no meaning for) ") as error:
        make_options(spec, options, settings)
    reason = row.reasons.get(kind)
    assert reason is None or reason in str(error.value)


def test_every_option_applies_to_some_kind_and_has_a_heading() -> None:
    assert len(ROWS) > 50
    for row in ROWS:
        assert any(row.applies.values()), row.name
        assert row.panel, row.name
        assert row.help[-1] in ".)", row.name


def test_what_has_a_meaning_everywhere_applies_everywhere() -> None:
    everywhere = {row.name for row in ROWS if all(row.applies.values())}
    for name in (
        *("--report", "--style-weights", "--tile", "--memory", "--skip-existing", "--shard"),
        *("--mask", "--strength", "--metadata", "--resume", "--overwrite", "--figures", "--seed"),
    ):
        assert name in everywhere


def test_the_page_has_a_row_for_every_option() -> None:
    page = as_markdown()
    for row in ROWS:
        assert page.count(f"| `{row.name}` |") == 1
