"""Mask, strength, report and refusals: the same for every kind of data that is one grid."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Run
from error_fields import check_error
from numpy.typing import NDArray
from PIL import Image

from convnd import io


@dataclass(frozen=True)
class Kind:
    """Files of one kind of data.

    Args:
        dim: number of spatial axes.
        content: file name of the content.
        shape: extent along each axis.
        channels: number of channels.
        options: words of the command line that make its transfers quicker.
    """

    dim: int
    content: str
    shape: tuple[int, ...]
    channels: int
    options: tuple[str, ...] = ()

    def file(self, stem: str) -> str:
        return stem + Path(self.content).suffix

    def write(self, stem: str, values: NDArray[Any]) -> None:
        """Write values ``(C, *S)`` in ``[0, 1]``."""
        path = self.file(stem)
        if path.endswith(".png"):
            Image.fromarray((255 * np.moveaxis(values, 0, -1)).round().astype(np.uint8)).save(path)
        elif path.endswith(".csv"):
            columns = [np.arange(values.shape[1]) / 100, *values]
            header = ",".join(["t (s)", *(f"ch{n} (mV)" for n in range(len(values)))])
            np.savetxt(path, np.stack(columns, 1), delimiter=",", header=header, comments="")
        else:
            np.save(path, values.astype(np.float32))

    def command(self, *arguments: str) -> list[str]:
        """The command line of a short transfer, at the content's own size."""
        return [
            *("stylize", self.content, self.file("style"), "--dim", str(self.dim)),
            *("--backbone", "compact", "--steps", "2", "--scales", "1", "--size", "0", "-q"),
            *self.options,
            *arguments,
        ]


KINDS = {
    "pictures": Kind(2, "content.png", (40, 36), 3),
    "signals": Kind(1, "content.csv", (200,), 2, ("--no-figures", "--beat-weight", "0")),
    "arrays": Kind(2, "content.npy", (36, 40), 2),
    "arrays of 3 axes": Kind(
        3,
        "content.npy",
        (18, 17, 16),
        1,
        ("--style-layers", "relu1_1,relu2_1", "--content-layers", "relu2_1"),
    ),
}


QUICK_KINDS = ["pictures", "arrays of 3 axes"]
"""Each kind takes the same way; two of them are quick."""


@pytest.fixture(
    params=[
        kind if kind in QUICK_KINDS else pytest.param(kind, marks=pytest.mark.slow)
        for kind in KINDS
    ]
)
def kind(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rng: np.random.Generator,
) -> Kind:
    """A kind of data with a content, a style, and a mask that is 1 in the first half."""
    chosen = KINDS[request.param]
    monkeypatch.chdir(tmp_path)
    for stem in ("content", "style"):
        chosen.write(stem, rng.uniform(0.2, 0.8, (chosen.channels, *chosen.shape)))
    mask = np.zeros((chosen.channels, *chosen.shape))
    mask[:, : chosen.shape[0] // 2] = 1
    chosen.write("mask", mask)
    return chosen


def values_of(path: str) -> NDArray[Any]:
    return io.read(path).values[0].numpy()


def test_nothing_changes_where_mask_or_strength_is_0(kind: Kind, run: Run) -> None:
    for stem, arguments in (
        ("masked", ("--mask", kind.file("mask"))),
        ("none", ("--strength", "0")),
        ("half", ("--strength", "0.5")),
        ("whole", ()),
    ):
        code, _, err = run(*kind.command(*arguments, "-o", kind.file(stem)))
        assert code == 0, err
    stems = ("content", "masked", "none", "half", "whole")
    content, masked, none, half, whole = (values_of(kind.file(stem)) for stem in stems)
    middle = kind.shape[0] // 2
    np.testing.assert_array_equal(masked[:, middle:], content[:, middle:])
    assert np.abs(masked - content)[:, :middle].max() > 0.01
    np.testing.assert_array_equal(none, content)
    assert np.abs(whole - content)[:, middle:].max() > 0.01
    rounding = 1 / 255 if kind.content.endswith(".png") else 1e-5
    if kind.dim == 1:  # of a signal, half of the change is applied
        np.testing.assert_allclose(half, (content + whole) / 2, atol=rounding)
    else:  # of others, the targets are halfway; two steps go nearly as far in any direction
        assert not np.array_equal(half, whole)
        assert np.abs(half - content).max() > rounding


def test_a_mask_of_another_extent_is_refused(kind: Kind, run: Run) -> None:
    kind.write("small", np.ones((kind.channels, *(extent - 1 for extent in kind.shape))))
    code, out, err = run(*kind.command("--mask", kind.file("small"), "-o", kind.file("result")))
    assert (code, out, err.count("\n")) == (3, "", 1), err
    check_error(err, operation="--mask")
    assert not Path(kind.file("result")).exists()


@pytest.mark.parametrize("stem", ["content", "style", "mask"])
def test_an_output_that_is_an_input_is_refused(kind: Kind, run: Run, stem: str) -> None:
    path = Path(kind.file(stem))
    before = path.read_bytes()
    arguments = ("--mask", kind.file("mask"), "--overwrite", "-o", f"./{path}")
    code, out, err = run(*kind.command(*arguments))
    assert (code, out, err.count("\n")) == (2, "", 1), err
    check_error(err, expected=f"another file than the input {path}")
    assert path.read_bytes() == before


def test_a_report_shows_figures_losses_and_options(kind: Kind, run: Run) -> None:
    code, out, err = run(*kind.command("--report", "r.html", "-o", kind.file("result"), "--json"))
    assert code == 0, err
    (result,) = json.loads(out)["results"]
    assert result["report"] == "r.html"
    page = Path("r.html").read_text(encoding="utf-8")
    for text in (kind.content, kind.file("style"), "style_weight", "data:image/", "Measures"):
        assert text in page
    assert "Not measured" not in page
    code, _, err = run(*kind.command("--report", "r.html", "-o", kind.file("other")))
    assert (code, err.count("\n")) == (2, 1), err
    assert not Path(kind.file("other")).exists()


def test_style_option_and_positional_styles_are_one_list(kind: Kind, run: Run) -> None:
    kind.write("second", values_of(kind.content) ** 2)
    common = ("--style-weights", "3,1", "--no-metadata")
    option = ("--style", kind.file("second"))
    positional = kind.command(*common, "-o", kind.file("a"))
    positional.insert(3, kind.file("second"))
    code, _, err = run(*positional)
    assert code == 0, err
    code, _, err = run(*kind.command(*option, *common, "-o", kind.file("b")))
    assert code == 0, err
    assert Path(kind.file("a")).read_bytes() == Path(kind.file("b")).read_bytes()
