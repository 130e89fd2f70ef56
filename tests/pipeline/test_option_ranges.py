"""Every number among the options of a task has a range; outside of it option and range are named.

The fields are found by looking at the dataclasses, so that a new one is tested without being named.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from command_line import Run
from convnd_tasks.inspect.options import PatchOptions
from convnd_tasks.modalities.video.options import VideoOptions
from convnd_tasks.modalities.volumes.options import VolumeOptions
from convnd_tasks.runtime.settings import JobSettings
from error_fields import read_fields

from convnd.errors import UsageError
from convnd.options import flags_of
from convnd.transfer.options import TransferOptions

OPTIONS: dict[type[Any], dict[str, Any]] = {
    TransferOptions: {},
    VideoOptions: {},
    VolumeOptions: {},
    PatchOptions: {"layers": ("relu1_1",)},
}
WRONG: dict[type, list[Any]] = {
    int: [-1, 10**30],
    float: [-1.0, 1e300, math.nan, math.inf, -math.inf],
}
CASES = [
    (options, name, values)
    for options in OPTIONS
    for name, (kind, _) in flags_of(options).items()
    for number, values in WRONG.items()
    if number in (kind, *(get_args(kind) if get_args(kind)[-1:] == (type(None),) else ()))
]


def test_all_numbers_are_found() -> None:
    assert len({case[:2] for case in CASES}) > 30


@pytest.mark.parametrize(("options", "name", "values"), CASES)
def test_numbers_out_of_range_are_usage_errors(options: Any, name: str, values: Any) -> None:
    for value in values:
        with pytest.raises(UsageError) as refused:
            options(**OPTIONS[options], **{name: value})
        fields = read_fields(refused.value)
        assert fields.operation == name
        assert re.fullmatch(rf"\S+ <= {name} <= \S+", fields.expected), value


@pytest.mark.parametrize(
    ("command", "option", "lowest", "highest"),
    [
        ("stylize", "--steps=nan", "0", "10000000"),
        ("stylize", "--size=1e9", "0", "1048576"),
        ("stylize", "--learning-rate=fast", "1e-12", "1e+12"),
        ("stylize", "--quality=best", "1", "100"),
        ("stylize-video", "--every=two", "1", "1000000"),
        ("stylize-video", "--block-frames=1.5", "16", "4096"),
        ("patches", "--top=", "1", "10000"),
        ("backbones", "--channels=0", "1", "1000000"),
        ("trace", "--dim=2.5", "1", "16"),
    ],
)
def test_what_is_no_number_is_told_the_range(
    run: Run, tmp_path: Path, command: str, option: str, lowest: str, highest: str
) -> None:
    arguments = {"trace": ["14x1", "conv:5:16"], "patches": ["waves"], "backbones": []}
    code, out, err = run(command, *arguments.get(command, ["a.png"]), option)
    message = " ".join(err.replace("│", " ").split())
    assert (code, out) == (2, "")
    assert option.partition("=")[0] in message
    assert f"number from {lowest} to {highest}, got {option.partition('=')[2]!r}" in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("trace", "--dim=17"),
        ("stylize", "--dim=0"),
        ("stylize", "--quality=101"),
        ("stylize", "--save-every=-1"),
        ("stylize", "--rate=nan"),
        ("stylize", "--steps=nan"),
        ("stylize", "--style-weight=nan"),
        ("stylize-video", "--every=0"),
        ("stylize-video", "--crf=64"),
        ("stylize-volume", "--strength=nan"),
        ("patches", "--top=0"),
    ],
)
def test_the_command_line_names_the_option(
    run: Run, tmp_path: Path, command: str, option: str
) -> None:
    arguments = {
        "trace": ["14x1", "conv:5:16"],
        "patches": ["waves", "--layer", "relu1_1"],
        "stylize-volume": ["chest"],
        "stylize-video": ["video"],
    }
    code, out, err = run(command, *arguments.get(command, ["town"]), option)
    name = option.partition("=")[0]
    assert (code, out) == (2, "")
    assert name in err or f"{name[2:].replace('-', '_')}:" in err
    assert not list(tmp_path.iterdir())


TYPES: dict[Any, list[Any]] = {
    int: [1.5, "3", True, [1]],
    float: ["0.5", False, [0.5], 1j],
    bool: ["no", 1, 0.0],
    str: [3, True, torch.ones(3, 3) > 0, b"x"],
}


@pytest.mark.parametrize("options", [*OPTIONS, JobSettings])
def test_values_of_another_type_are_usage_errors(options: Any) -> None:
    """Of every option that is a number, a word, or true or false; such values come from Python."""
    checked = 0
    for name, (kind, _) in flags_of(options).items():
        plain = set(get_args(kind) or (kind,)) - {type(None)}
        if len(plain) == 1 and plain <= set(TYPES):
            for value in TYPES[plain.pop()]:
                checked += 1
                with pytest.raises(UsageError) as refusal:
                    options(**{**OPTIONS.get(options, {}), name: value})
                assert read_fields(refusal.value).operation == name
    assert checked > 40


def test_numbers_of_numpy_and_paths_are_taken() -> None:
    values: Any = {"steps": np.int64(3), "strength": np.float32(0.5), "style_weights": [1.0]}
    options = VolumeOptions(**values)
    assert (options.steps, options.strength) == (3, 0.5)
    path: Any = Path("mask.nii")
    assert JobSettings(mask=path).mask == path


@pytest.mark.parametrize("value", ["relu2_1", 2.0])
def test_a_word_is_no_sequence(value: Any) -> None:
    """It would be read letter by letter."""
    with pytest.raises(UsageError, match="content_layers: expected a sequence"):
        TransferOptions(content_layers=value)
