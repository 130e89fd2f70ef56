"""Files of trained networks: what is written comes back; foreign and hostile ones are refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from convnd.errors import InputFileError, OutputExistsError
from convnd.feedforward.network_file import (
    StyleNetwork,
    network_rank,
    read_network,
    write_network,
)
from convnd.feedforward.network_shape import NetworkShape
from convnd.feedforward.transform_net import TransformNet
from convnd.grid import Grid


def make_network(rank: int = 2, channels: int = 3) -> StyleNetwork:
    shape = NetworkShape(spatial_dims=rank, channels=channels, width=2, levels=1, blocks=1)
    network = TransformNet(shape)
    network.initialize(3)
    values = torch.rand(1, channels, *[20] * rank)
    names = ("R", "G", "B") if channels == 3 else ()
    style = Grid(values=values, channels=names, header={"value_units": ["mV"]})
    return StyleNetwork(network=network, kind="pictures", styles=[style], record={"a": "b"})


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "style.safetensors"
    write_network(path, make_network(), overwrite=False)
    return path


@pytest.mark.parametrize(("rank", "channels"), [(1, 1), (2, 3), (3, 1), (4, 1)])
def test_a_network_comes_back(tmp_path: Path, rank: int, channels: int) -> None:
    path, trained = tmp_path / "style.safetensors", make_network(rank, channels)
    write_network(path, trained, overwrite=False)
    again = read_network(path)
    x = torch.rand(1, channels, *[9] * rank)
    with torch.no_grad():
        assert torch.equal(again.network(x), trained.network(x))
    assert (again.kind, dict(again.record)) == ("pictures", {"a": "b"})
    assert again.styles[0].header == {"value_units": ["mV"]}
    step = 1 / 510 if channels == 3 else 0.0  # pictures have 8 bits
    difference = (again.styles[0].values - trained.styles[0].values).abs().max()
    assert float(difference) <= step + 1e-6
    assert network_rank(path) == rank


def test_reading_leaves_torchs_compiler_alone(written: Path) -> None:
    code = (
        "import sys\n"
        "from convnd.feedforward.network_file import read_network\n"
        f"read_network({str(written)!r})\n"
        "assert 'torch._dynamo' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_existing_file_stays(written: Path) -> None:
    with pytest.raises(OutputExistsError):
        write_network(written, make_network(), overwrite=False)
    write_network(written, make_network(), overwrite=True)


def rewrite(path: Path, change: dict[str, str], tensors: dict[str, torch.Tensor]) -> None:
    with safe_open(path, "pt") as file:
        metadata = {**file.metadata(), **change}
    state = {**load_file(path), **tensors}
    save_file(state, path, metadata=metadata)


SHAPE = {"spatial_dims": 2, "channels": 3, "width": 2, "levels": 1, "blocks": 1}
HEADERS = [
    {"format": "convnd checkpoint 6"},
    {"shape": "[" * 100_000},
    {"shape": json.dumps({**SHAPE, "width": 64, "blocks": 16, "levels": 5})},
    {"shape": json.dumps({**SHAPE, "width": 10**12})},
    {"shape": json.dumps({**SHAPE, "width": "2"})},
    {"shape": json.dumps({**SHAPE, "width": True})},
    {"shape": json.dumps({**SHAPE, "evil": 1})},
    {"shape": "{}"},
    {"shape": "5"},
    {"styles": "[]"},
    {"styles": "{}"},
    {"styles": "[5]"},
    {"styles": json.dumps([{}] * 10_000)},
    {"styles": json.dumps([{"spacing": ["x"], "units": [], "axes": [], "channels": []}])},
    {"record": "[1]"},
    {"record": '{"a": 1}'},
    {"sha256": "0"},
]


@pytest.mark.parametrize("change", HEADERS, ids=range(len(HEADERS)))
def test_hostile_headers_are_refused(written: Path, change: dict[str, str]) -> None:
    rewrite(written, change, {})
    with pytest.raises(InputFileError) as error:
        read_network(written)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 800


@pytest.mark.parametrize(
    "tensors",
    [
        {"network.last.bias": torch.full((3,), float("nan"))},
        {"network.last.bias": torch.zeros(3, dtype=torch.float64)},
        {"network.last.bias": torch.zeros(4)},
        {"network.more": torch.zeros(1)},
        {"style.0": torch.zeros(1, 3, 4)},
    ],
    ids=["nan", "type", "shape", "name", "style"],
)
def test_other_tensors_are_refused(written: Path, tensors: dict[str, torch.Tensor]) -> None:
    rewrite(written, {}, tensors)
    with pytest.raises(InputFileError):
        read_network(written)


def test_the_checks_of_tensors_hold_with_a_right_digest(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("convnd.feedforward.network_file.tensors_sha256", lambda _: "0")
    for tensors in (
        {"network.last.bias": torch.full((3,), float("nan"))},
        {"network.last.bias": torch.zeros(4)},
    ):
        rewrite(written, {"sha256": "0"}, tensors)
        with pytest.raises(InputFileError):
            read_network(written)


def test_other_files_are_refused(tmp_path: Path, written: Path) -> None:
    content = written.read_bytes()
    cases = {
        "empty": b"",
        "text": b"hello, world",
        "cut": content[: len(content) // 2],
        "long": (2**62).to_bytes(8, "little") + content[8:],
        "weights": b"",
    }
    for name, data in cases.items():
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(data)
        if name == "weights":
            save_file({"a": torch.zeros(2)}, path)
        for read in (read_network, network_rank):
            with pytest.raises(InputFileError):
                read(path)
    with pytest.raises(InputFileError):
        read_network(tmp_path / "none.safetensors")


def test_a_file_of_unusual_size_is_refused(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convnd.feedforward.network_file._LARGEST", 100)
    with pytest.raises(InputFileError):
        read_network(written)
