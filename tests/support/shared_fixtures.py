"""Fixtures of all tests, and what makes them quick; `conftest.py` loads them where tests run."""

from __future__ import annotations

import dataclasses
import functools
import os
import signal
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer.main
from command_line import Run
from convnd_tasks import samples
from convnd_tasks.modalities.signals import peaks
from convnd_tasks.samples import video
from video_files import request_here

from convnd import cli
from convnd.backbones import VGG, VGG19
from convnd.grid import Grid
from convnd.io.video import file
from convnd.io.worker import client
from convnd.losses import (
    ContentLoss,
    Objective,
    StyleLoss,
    TemporalLoss,
    Term,
    TotalVariationLoss,
)
from convnd.stats import STATISTICS

# The tensors are small: a second thread would mostly wait for the first.
torch.set_num_threads(1)

client.IDLE_SECONDS = 60.0  # a child that decodes pictures serves many tests


@cache
def _detect_peaks(samples: bytes, detect: Callable[..., Any] = peaks._detect) -> Any:
    return detect(np.frombuffer(samples))


# Many tests look for the beats of the same lead, and neurokit2 takes 20 ms for each second of it.
peaks._detect = lambda signal: _detect_peaks(signal.tobytes()).copy()


def _keep_defaults(make: Callable[..., Grid]) -> Callable[..., Grid]:
    """Let each built-in sample of its default size be computed once; it takes up to 0.5 s."""
    make_default = cache(make)

    @functools.wraps(make)
    def make_or_copy(name: str | None = None, *, size: Any = None, **options: Any) -> Grid:
        if size is not None:
            return make(name, size=size, **options)
        grid = make_default(name, **options)
        return dataclasses.replace(grid, values=grid.values.clone())

    return make_or_copy


def _keep_first_seed(render: Callable[..., Any]) -> Callable[..., Any]:
    """Let the built-in video be rendered once a size; its town takes 0.2 s at every size."""
    render_first = cache(lambda shape: render(shape, 0))

    @functools.wraps(render)
    def render_or_copy(shape: tuple[int, int, int], seed: int) -> Any:
        if seed != 0:
            return render(shape, seed)
        return tuple(values.copy() for values in render_first(tuple(shape)))

    return render_or_copy


video.render_video = _keep_first_seed(video.render_video)
samples.content = _keep_defaults(samples.content)
samples.style = _keep_defaults(samples.style)


@pytest.fixture
def no_idle_children() -> None:
    """For tests that count children: those that other tests left waiting end first."""
    for child in list(client._IDLE):
        client._close_idle(child)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(20)


@pytest.fixture(autouse=True)
def settings(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One cache folder for the run, and none of the user's settings; a test's stay its own.

    Videos are decoded in this process, which is quicker than to start one for each request.
    """
    if "child" not in request.keywords:
        monkeypatch.setattr(file, "request", request_here)
    monkeypatch.setenv("CONVND_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setenv("CONVND_OFFLINE", "")
    monkeypatch.setenv("CONVND_MAX_PIXELS", "")
    monkeypatch.setenv("CONVND_TRACEBACK", "1")  # a fault is an exception, not a line with a code


@pytest.fixture
def make_objective(
    generator: torch.Generator,
) -> Callable[[int], tuple[Objective, torch.Tensor]]:
    """A small objective of every kind of term in float64, and an iterate ``(1, 1, 6, …)``."""

    def make(ndim: int) -> tuple[Objective, torch.Tensor]:
        plan = VGG19.truncate(["relu2_1"])
        net = VGG(plan, spatial_dims=ndim, in_channels=1, generator=generator).double()
        x, content, style = torch.rand(3, 1, 1, *[6] * ndim, generator=generator).double()
        layers = ["relu1_1", "relu2_1"]
        with torch.no_grad():
            targets = net(style, layers)
            features = net(content, ["relu2_1"])["relu2_1"]
        terms = [Term("content", 1.0, ContentLoss(features, layer="relu2_1"))]
        terms += [
            Term("style", 3.0, StyleLoss(STATISTICS["gram"].sums(targets[name]), layer=name))
            for name in layers
        ]
        terms.append(Term("smooth", 0.5, TotalVariationLoss([1.0] * ndim)))
        terms.append(Term("temporal", 0.5, TemporalLoss(content, style)))
        return Objective(net, terms), x

    return make


_app = cli.app


@cache
def _command_line(only: str | None, *_environment: object) -> Any:
    """The parser of the command line, which takes longer to make than many tests to run."""
    return typer.main.get_command(_app(only))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """The command line in this process, in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    known = ("COLUMNS", "RANK", "WORLD_SIZE")

    def app(only: str | None = None) -> Any:
        find_tasks = cli.entry_points  # type: ignore[attr-defined]
        return _command_line(only, find_tasks, *map(os.environ.get, known))

    monkeypatch.setattr(cli, "app", app)
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["convnd", *map(str, arguments)])
        try:
            with pytest.raises(SystemExit) as stopped:
                cli.main()
        finally:
            signal.signal(signal.SIGINT, before[0])
            signal.signal(signal.SIGTERM, before[1])
        out, err = capsys.readouterr()
        code = stopped.value.code
        return (code if isinstance(code, int) else 0), out, err

    return call
