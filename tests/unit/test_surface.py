"""What others may rely on: names, imports, docstrings, errors."""

from __future__ import annotations

import base64
import importlib
import inspect
import io
import pkgutil
import subprocess
import sys
from typing import Any
from xml.etree import ElementTree

import convnd_tasks
import pytest
import torch
from error_fields import raises
from PIL import Image

import convnd
from convnd import errors
from convnd.errors import ConvndError, ShapeError, UnknownNameError, UsageError
from convnd.grid import Grid
from convnd.registry import Registry


@pytest.mark.parametrize("package", [convnd, convnd_tasks])
def test_all_names_what_is_there_and_documented(package: Any) -> None:
    names = [
        module.name
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        if not module.name.endswith("__main__")
    ]
    assert len(names) > 50
    for name in names:
        module = importlib.import_module(name)
        assert module.__doc__, name
        for public in getattr(module, "__all__", []):
            member = getattr(module, public)
            if inspect.isclass(member) or inspect.isfunction(member):
                assert member.__doc__, f"{name}.{public}"


def test_importing_is_quick_and_without_effects() -> None:
    code = (
        "import sys, convnd, convnd.cli\n"
        "heavy = {'torch', 'numpy', 'cv2', 'nibabel', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert set(convnd.__all__) <= set(dir(convnd))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    # What a name gives on its first use, here without the start of another process.
    lazily: Any = convnd.__getattr__
    assert callable(lazily("nn").ConvNd)
    assert lazily("Grid").__name__ == "Grid"


def test_unknown_attribute() -> None:
    with pytest.raises(AttributeError, match="module 'convnd' has no attribute 'conv'"):
        convnd.conv  # noqa: B018


@pytest.mark.parametrize(
    "kind",
    [
        kind
        for kind in map(errors.__dict__.get, errors.__all__)
        if isinstance(kind, type) and issubclass(kind, Exception)
    ],
)
def test_every_error_is_of_the_family_and_prints_its_message(kind: type[ConvndError]) -> None:
    error = kind("operation: expected this, got that; do so")
    assert isinstance(error, ConvndError)
    assert str(error) == "operation: expected this, got that; do so"
    assert error.exit_code in (1, 2, 3, 4, 5, 70)
    if kind is not ConvndError:
        builtin = [base for base in kind.__mro__ if base.__module__ == "builtins"]
        assert builtin[0] is not Exception


def test_grid_keeps_its_field_of_view() -> None:
    grid = Grid(
        values=torch.zeros(1, 2, 10, 20), spacing=(3.0, 0.5), units=("mm", "mm"), axes=("y", "x")
    )
    smaller = grid.with_values(torch.zeros(1, 2, 5, 10))
    assert smaller.spacing == (6.0, 1.0)
    assert (smaller.ndim, smaller.shape, smaller.axes) == (2, (5, 10), ("y", "x"))
    assert grid.with_values(torch.zeros(1, 1, 10, 20)).channels == ("0",)


def test_grid_to_another_type_and_device() -> None:
    grid = Grid(values=torch.zeros(1, 2, 4), spacing=(0.5,), units=("s",), header={"rate": 2.0})
    assert grid.to("cpu") is grid
    assert grid.to(torch.float32) is grid
    for moved in (
        grid.to(torch.float64),
        grid.to("cpu", torch.float64),
        grid.to(dtype=torch.float64),
    ):
        assert moved.values.dtype == torch.float64
        assert (moved.spacing, moved.units, moved.header) == ((0.5,), ("s",), {"rate": 2.0})
    assert grid.to("meta").values.device.type == "meta"
    assert grid.values.dtype == torch.float32


@pytest.mark.parametrize(
    "shape", [(1, 1, 9), (1, 14, 600), (1, 3, 300, 7), (1, 1, 5, 6, 7), (1, 2, 3, 3, 3, 3)]
)
def test_notebooks_show_grids(shape: tuple[int, ...]) -> None:
    ndim = len(shape) - 2
    values = torch.rand(shape)
    values.flatten()[::5] = float("nan")
    names = ("R", "G", "B") if shape[1] == 3 else tuple(f"<{n}>" for n in range(shape[1]))
    grid = Grid(values=values, channels=names, header={"patient": "J. Doe"}, spacing=(0.25,) * ndim)
    text = grid._repr_html_()
    ElementTree.fromstring(text)  # well formed
    assert ("<svg" in text) == (ndim == 1)
    assert ("data:image/png;base64," in text) == (ndim > 1)
    assert " × ".join(map(str, shape[2:])) in text
    assert "0.25 px" in text
    assert "J. Doe" not in text
    for constant in (float("nan"), float("inf"), 3.0):
        ElementTree.fromstring(Grid(values=torch.full(shape, constant))._repr_html_())


def test_a_picture_is_shown_in_its_colours() -> None:
    values = torch.zeros(1, 3, 2, 2)
    values[0, 0] = 1.0
    text = Grid(values=values, channels=("R", "G", "B"))._repr_html_()
    data = base64.b64decode(text.split("base64,")[1].split("'")[0])
    assert Image.open(io.BytesIO(data)).convert("RGB").getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"values": torch.zeros(3, 4)}, r"Grid: expected non-empty values of shape \(1, C, \*S\)"),
        ({"values": torch.zeros(2, 3, 4)}, r"got \(2, 3, 4\)"),
        ({"values": torch.zeros(1, 3, 0)}, r"got \(1, 3, 0\)"),
        ({"values": torch.zeros(1, 1, 4), "spacing": (1.0, 1.0)}, "expected 1 spacing .* got 2"),
        ({"values": torch.zeros(1, 1, 4), "channels": ("a", "b")}, "expected 1 channels"),
        ({"values": torch.zeros(1, 1, 4), "spacing": (0.0,)}, "expected positive finite spacing"),
        ({"values": torch.zeros(1, 1, 4), "spacing": (float("nan"),)}, "positive finite spacing"),
    ],
)
def test_grid_errors(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        Grid(**arguments)  # type: ignore[arg-type]
    with raises(ShapeError, operation="Grid.with_values", got="4"):
        Grid(values=torch.zeros(1, 1, 4)).with_values(torch.zeros(1, 1, 4, 4))


def test_registry() -> None:
    table = Registry[int]("number")
    table.add("one", 1)
    assert ("one" in table, len(table), list(table), table["one"]) == (True, 1, ["one"], 1)
    with raises(UsageError, operation="number", got="'one'") as caught:
        table.add("one", 2)
    assert type(caught.value) is UsageError
    with raises(UnknownNameError, operation="number", got="'on'"):
        table["on"]
    with raises(UnknownNameError, operation="number", got="'zzz'"):
        table["zzz"]
