"""Every component has a row in the table that the generic tests run over."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from components import LAYERS, make_losses
from malformed import WHOLE
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin

import convnd.io
import convnd.losses
import convnd.nn
from convnd.io.registry import FORMATS


def public_classes(module: Any, base: type) -> set[str]:
    """Names of the concrete classes of a kind that a module offers."""
    members = {name: getattr(module, name) for name in module.__all__}
    return {
        name
        for name, member in members.items()
        if inspect.isclass(member) and issubclass(member, base) and not inspect.isabstract(member)
    }


def test_every_layer_has_a_row() -> None:
    layers = public_classes(convnd.nn, nn.Module)
    lazy = public_classes(convnd.nn, LazyModuleMixin)  # become those with rows at their first input
    assert lazy < layers
    assert layers - lazy == {case.ours.__name__ for case in LAYERS.values()}


def test_every_loss_has_a_row() -> None:
    rows = {type(loss).__name__ for loss in make_losses(torch.rand(1, 3, 4)).values()}
    losses = {name for name in public_classes(convnd.losses, object) if name.endswith("Loss")}
    # The protocol, and the module that holds several losses.
    assert losses - {"Loss", "PerceptualLoss"} == rows


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_has_a_whole_file(name: str) -> None:
    suffixes = FORMATS[name].suffixes
    if not suffixes:
        assert name == "DICOM series"
        suffixes = ("series",)
    assert any(file.endswith(tuple(suffixes)) for file in WHOLE), f"add a file of {name} to WHOLE"


def test_every_suffix_is_one_of_a_format() -> None:
    suffixes = {suffix for name in FORMATS for suffix in FORMATS[name].suffixes}
    assert set(convnd.io.suffixes()) == suffixes
