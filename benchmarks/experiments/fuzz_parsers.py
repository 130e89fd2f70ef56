"""Parsers of convnd's own files, for `benchmarks.experiments.fuzz`.

A parser takes bytes that an attacker may have changed. It may raise only errors of convnd.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["PARSERS"]

MARK = "mark"


def record(folder: Path) -> tuple[list[bytes], Callable[[bytes], object]]:
    """The record of a result, as far as ``rerun`` reads it before the command runs."""
    from convnd_tasks.commands import rerun
    from convnd_tasks.pipeline import recorded_command
    from convnd_tasks.pipeline.recorded_inputs import fill_places

    from convnd import io

    result = folder / "a.csv"
    result.write_text("0\n1\n2\n")
    command = ["stylize", "{0}", "--style={1}", "--dim=1", "--steps=3", "--backbone=compact"]
    inputs = [{"name": "a.csv", "sha256": io.digest(result)}, {"name": "ecg"}]
    seed = {
        "convnd:command": json.dumps(command),
        "convnd:inputs": json.dumps(inputs),
        "convnd:record": "2",
        "convnd:versions": json.dumps({"python": "3.11", "torch": "2"}),
        "convnd:backbone": "compact",
        "Software": "convnd 0.1.0",
    }

    def parse(data: bytes) -> None:
        (folder / "a.csv.json").write_bytes(data)
        fields = io.read_provenance(result)
        line, entries = recorded_command.parse_record(result, fields)
        recorded_command.check_line(result, line, len(entries), trusted=False)
        for text in rerun._differences(fields):
            if len(text) > 500:
                raise AssertionError(text)
        words = fill_places(line, entries, [folder])
        for word in words:
            option, _, value = word.partition("=")
            # Only a backbone may name foreign code; a value that stands alone was not checked.
            if option == "--backbone" and (not value or ":" in value):
                raise AssertionError(words)

    return [json.dumps(seed).encode()], parse


def checkpoint(folder: Path) -> tuple[list[bytes], Callable[[bytes], object]]:
    """A complete checkpoint, and the run that continues from it."""
    transfer, problem, states = _runs()
    from convnd.optimize import load_checkpoint, save_checkpoint

    path = folder / "c"
    seeds = []
    for state in states:
        save_checkpoint(path, state, MARK)
        seeds.append(path.read_bytes())

    def parse(data: bytes) -> None:
        path.write_bytes(data)
        resume = load_checkpoint(path, MARK)
        next(iter(transfer.run(problem, resume=resume)))

    return seeds, parse


def structure(folder: Path) -> tuple[list[bytes], Callable[[bytes], object]]:
    """The JSON inside a checkpoint with valid tensors."""
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    seeds, parse = checkpoint(folder)
    path = folder / "whole"
    path.write_bytes(seeds[-1])
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        metadata = dict(file.metadata() or {})

    def parse_json(data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        save_file(tensors, path, {**metadata, "state": text})
        parse(path.read_bytes())

    return [metadata["state"].encode()], parse_json


def frames(folder: Path) -> tuple[list[bytes], Callable[[bytes], object]]:
    """The list of a video's stored frames."""
    import torch
    from convnd_tasks.modalities.video.frame_cache import FIRST_PASS, FrameCache
    from convnd_tasks.modalities.video.options import VideoOptions
    from convnd_tasks.modalities.video.result import mean_of

    options, path = VideoOptions(backbone="compact"), folder / "a.mp4"
    cache = FrameCache(path)
    cache.open(options, [MARK], resume=False)
    facts: dict[str, Any] = {
        **{"pts": 0, "name": "a.png", "cut": False, "steps": 3, "rejected_steps": 0, "loss": 1.5},
        **{"parts": {"style": 1.5}, "e_warp": None, "input_e_warp": 0.1, "codec": 0.1},
        **{"flow": 0.0, "features": 1},
    }
    cache.save(FIRST_PASS, 0, torch.full((1, 3, 4, 6), 0.5), facts)
    log = cache.path / "frames.jsonl"
    seed = log.read_bytes()

    def parse(data: bytes) -> None:
        log.write_bytes(data)
        cache.open(options, [MARK], resume=True)
        records = list(cache.records.values())
        for key in ("loss", "e_warp", "codec"):
            mean_of(records, key)
        json.dumps(records)

    return [seed], parse


def weights(folder: Path) -> tuple[list[bytes], Callable[[bytes], object]]:
    """A user's file of weights."""
    import torch
    from safetensors.torch import save

    from convnd.backbones.weights.conversion import load_user_vgg

    state = {
        "conv1_1.weight": torch.rand(2, 3, 3, 3),
        "conv1_1.bias": torch.zeros(2),
        "mean": torch.zeros(3),
    }
    other = {"features.0.weight": torch.rand(2, 3, 3, 3), "features.0.bias": torch.zeros(2)}
    path = folder / "w.safetensors"

    def parse(data: bytes) -> None:
        path.write_bytes(data)
        load_user_vgg(path)

    return [save(state), save(other)], parse


def _runs() -> tuple[Any, Any, list[dict[str, Any]]]:
    import copy

    import torch

    from convnd.transfer.options import TransferOptions
    from convnd.transfer.problem import TransferProblem
    from convnd.transfer.style_transfer import StyleTransfer

    torch.set_num_threads(1)
    options = TransferOptions(
        backbone="compact",
        precision="float32",
        steps=2,
        scales=1,
        size=0,
        init="random",
        style_layers=("relu1_1",),
        content_layers=("relu1_1",),
    )
    content, style = torch.rand(2, 1, 1, 24, generator=torch.Generator().manual_seed(1))
    transfer = StyleTransfer(options, spatial_dims=1, in_channels=1)
    problem = TransferProblem(content, [style])
    states = [copy.deepcopy(step.state()) for step in transfer.run(problem)]
    return transfer, problem, states


PARSERS: dict[str, Callable[[Path], tuple[list[bytes], Callable[[bytes], object]]]] = {
    "record": record,
    "checkpoint": checkpoint,
    "structure": structure,
    "frames": frames,
    "weights": weights,
}
"""By name: makes seeds and the parser in a folder."""
