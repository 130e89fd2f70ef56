"""``convnd export``: trained networks as ONNX files."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import Run
from error_fields import raises, read_fields
from torch import Tensor

from convnd.backbones.weights import load_state
from convnd.errors import DependencyError
from convnd.feedforward import ArbitraryStyleNet
from convnd.feedforward.decoder import LEVELS, decode
from convnd.feedforward.network_file import StyleNetwork, write_network
from convnd.feedforward.network_shape import NetworkShape
from convnd.feedforward.onnx_file import write_onnx
from convnd.feedforward.transform_net import TransformNet
from convnd.grid import Grid


def network(spatial_dims: int, channels: int) -> TransformNet:
    shape = NetworkShape(spatial_dims=spatial_dims, channels=channels, width=4, levels=2, blocks=1)
    net = TransformNet(shape)
    net.initialize(0)
    net.set_style([torch.rand(1, channels, *[20] * spatial_dims)])
    return net.eval()


def write(path: str, net: TransformNet, kind: str) -> None:
    style = Grid(values=torch.rand(1, net.shape.channels, *[16] * net.shape.spatial_dims))
    write_network(path, StyleNetwork(network=net, kind=kind, styles=[style]), overwrite=False)


@pytest.mark.slow
@pytest.mark.parametrize(("spatial_dims", "channels"), [(1, 1), (2, 3), (3, 1)])
def test_any_batch_and_size_has_the_same_values(
    run: Run, tmp_path: Path, spatial_dims: int, channels: int
) -> None:
    runtime: Any = pytest.importorskip("onnxruntime")
    net = network(spatial_dims, channels)
    write("n.safetensors", net, {1: "signals", 2: "pictures", 3: "volumes"}[spatial_dims])
    code, out, err = run("export", "n.safetensors", "--json")
    assert (code, json.loads(out)["path"]) == (0, "n.onnx"), err
    session = runtime.InferenceSession("n.onnx", providers=["CPUExecutionProvider"])
    for batch, size in ((1, (24, 32, 16)), (3, (37, 18, 21)), (2, (16, 25, 30))):
        x = torch.rand(batch, channels, *size[:spatial_dims])
        (values,) = session.run(None, {"x": x.numpy()})
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(values), net(x), atol=1e-4, rtol=0)
    assert run("export", "n.safetensors")[0] != 0  # n.onnx exists


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*:FutureWarning")  # of torch, about its own exporter
def test_the_decoder_for_any_style_can_be_exported(tmp_path: Path) -> None:
    runtime: Any = pytest.importorskip("onnxruntime")
    net = ArbitraryStyleNet(load_state("instant"))

    class Decoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.decoder = net.decoder

        def forward(self, *features: Tensor) -> Tensor:
            levels = (dict(zip(LEVELS, part, strict=True)) for part in (features[:4], features[4:]))
            return decode(self.decoder, *levels)

    features = net(torch.rand(1, 3, 48, 64), LEVELS)
    inputs = 2 * tuple(features[name].contiguous() for name in LEVELS)
    program: Any = torch.onnx.export(Decoder().eval(), inputs, dynamo=True, verbose=False)
    program.save(tmp_path / "decoder.onnx")
    session = runtime.InferenceSession(tmp_path / "decoder.onnx")
    names = [entry.name for entry in session.get_inputs()]
    feed = {name: values.numpy() for name, values in zip(names, inputs, strict=True)}
    (change,) = session.run(None, feed)
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(change), Decoder()(*inputs), atol=1e-4, rtol=0)


def test_wrong_files_are_refused(run: Run) -> None:
    write("n.safetensors", network(1, 1), "signals")
    write("four.safetensors", network(4, 1), "arrays")
    Path("text.safetensors").write_text("no network")
    for words, code in (
        (("none.safetensors",), 3),
        (("text.safetensors",), 3),
        (("n.safetensors", "n.pt"), 2),
        (("four.safetensors",), 4),
    ):
        actual, out, err = run("export", *words)
        assert (actual, out) == (code, ""), err
        assert len(err.strip().splitlines()) == 1
        assert read_fields(err).remedy
    assert not list(Path().glob("*.onnx"))


def test_without_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnxscript" else found(name)
    )
    with raises(DependencyError, got="no onnxscript", remedy="[onnx]"):
        write_onnx("n.onnx", network(1, 1))
    assert not Path("n.onnx").exists()
