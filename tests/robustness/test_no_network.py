"""Nothing reaches for the network unless a download was asked for, and nobody is told anything."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, NoReturn

import nibabel as nib
import numpy as np
import pytest
from command_line import Run

from convnd.backbones.weights import download

COMMANDS = [
    ["--version"],
    ["samples"],
    ["backbones"],
    ["backbones", "compact"],
    ["weights", "list"],
    ["trace", "--dim", "3", "14x14x14x1", "conv:5:16"],
    ["stylize", "--dim", "2", "--size", "32", "--steps", "1"],
    ["stylize", "--dim", "1", "--steps", "1"],
    ["stylize", "bodies", "weave", "--dim", "3", "--size", "24", "--steps", "1"],
    ["stylize-video", "--size", "32", "--to", "0.1", "--steps", "1", "--frame-steps", "1"],
    ["patches", "--dim", "2", "--layer", "relu1_1", "--units", "0-1"],
]
SLOW = COMMANDS[10], COMMANDS[7], COMMANDS[8]  # a whole set of pictures; a long signal; a volume


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every way out is closed, and tells that it was tried."""
    tried: list[str] = []

    def refuse(name: str) -> Callable[..., NoReturn]:
        def call(*arguments: Any, **_: Any) -> NoReturn:
            tried.append(f"{name}{arguments}")
            raise OSError("no network in this test")

        return call

    for name in ("connect", "connect_ex", "sendto", "bind"):
        monkeypatch.setattr(socket.socket, name, refuse(name))
    for name in ("getaddrinfo", "gethostbyname", "create_connection"):
        monkeypatch.setattr(socket, name, refuse(name))
    return tried


@pytest.mark.parametrize(
    "command",
    [pytest.param(words, marks=pytest.mark.slow) if words in SLOW else words for words in COMMANDS],
    ids=" ".join,
)
def test_no_command_uses_it_unasked(run: Run, no_network: list[str], command: list[str]) -> None:
    code, out, err = run(*command)
    assert not no_network
    assert code == 0, err
    assert out


PAINT = ("--transfer", "paint", "--steps", "1", "--style-layers", "relu1_1")


@pytest.mark.slow
def test_nor_does_one_with_files(
    run: Run, no_network: list[str], rng: np.random.Generator, tmp_path: Any
) -> None:
    radius = np.linalg.norm(np.indices((24, 23, 22)).T - 11, axis=-1).T
    for name, contrast in (("scan.nii", 1.0), ("other.nii", 0.8)):
        anatomy = contrast * (100 * (radius < 9) + 60 * (radius < 5))
        values = anatomy + 3 * rng.normal(size=radius.shape)
        image = nib.Nifti1Image(values.astype(np.float32), np.eye(4))
        nib.save(image, tmp_path / name)
    for command in (
        ["stylize-volume", "scan.nii", "--style", "other.nii", "-o", "a.nii.gz", *PAINT],
        ["rerun", "a.nii.gz", "-o", "b.nii.gz"],
        ["evaluate", "scan.nii", "b.nii.gz", "--style", "other.nii"],
    ):
        code, out, err = run(*command)
        assert not no_network
        assert code == 0, err
        assert out


def test_a_download_that_was_asked_for_does(
    run: Run, no_network: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("CONVND_HOME", str(tmp_path / "empty"))
    monkeypatch.setattr(download, "_PAUSE", 0.0)
    code, _, err = run("weights", "get", "vgg16-torchvision")
    assert no_network
    assert code != 0
    assert err
