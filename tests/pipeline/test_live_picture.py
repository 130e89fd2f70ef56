"""`convnd.stylize` shows its steps in a notebook, and nowhere else."""

from __future__ import annotations

import base64
import io as streams
import re
import sys
import types
from typing import Any

import pytest
import torch
from PIL import Image

import convnd

SETTINGS: dict[str, Any] = {"dim": 2, "size": 32, "scales": 1, "backbone": "compact"}


class Handle:
    """Keeps the HTML of each update, as the cell of a notebook shows it."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def update(self, picture: Any) -> None:
        self.shown.append(picture._repr_html_())


def pretend(monkeypatch: pytest.MonkeyPatch, kernel: object) -> Handle:
    """Stand in for the two functions of IPython that are called; a test below runs a kernel."""
    handle = Handle()
    package: Any = types.ModuleType("IPython")
    package.get_ipython = lambda: types.SimpleNamespace(kernel=kernel)
    display: Any = types.ModuleType("IPython.display")

    def show(picture: Any, display_id: bool) -> Handle:
        assert display_id
        handle.update(picture)
        return handle

    display.display = show
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return handle


def picture_of(shown: str) -> Image.Image:
    found = re.search(r"data:image/jpeg;base64,([^\"]+)", shown)
    assert found is not None
    return Image.open(streams.BytesIO(base64.b64decode(found[1])))


def test_a_notebook_shows_steps_and_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    handle = pretend(monkeypatch, object())
    seen: list[int] = []
    result = convnd.stylize(
        "town", "waves", steps=3, on_progress=lambda step: seen.append(step.step), **SETTINGS
    )
    assert seen[-1] == 3  # the caller is told as well
    assert "<img" not in handle.shown[0]
    assert "loading" in handle.shown[0]
    assert "step 0 of 3" in handle.shown[1]
    assert "3 steps" in handle.shown[-1]
    assert picture_of(handle.shown[-1]).size == (result.values.shape[3], result.values.shape[2])


def test_signals_are_drawn_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    handle = pretend(monkeypatch, object())
    wave = torch.linspace(0, 9, 200).sin()
    convnd.stylize(wave, wave.flip(0), dim=1, steps=1)
    assert picture_of(handle.shown[-1]).width > 100


@pytest.mark.parametrize("settings", [{}, {"quiet": True}], ids=str)
def test_nothing_is_shown_in_a_terminal_or_when_it_is_quiet(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    handle = pretend(monkeypatch, object() if settings else None)  # None: IPython in a terminal
    convnd.stylize("town", "waves", steps=1, **SETTINGS, **settings)
    assert handle.shown == []


@pytest.mark.slow
def test_a_kernel_shows_it() -> None:
    """In a real notebook's kernel, where it is installed (pip install ipykernel)."""
    manager = pytest.importorskip("jupyter_client.manager")
    spec = pytest.importorskip("jupyter_client.kernelspec")
    pytest.importorskip("ipykernel")
    kernel = manager.KernelManager()
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel._kernel_spec = spec.KernelSpec(argv=command, display_name="test", language="python")
    kernel.start_kernel()
    client = kernel.client()
    client.start_channels()
    client.wait_for_ready(timeout=120)
    shown: list[str] = []

    def on_output(message: Any) -> None:
        if "display_data" in message["msg_type"]:
            shown.append(message["content"]["data"]["text/html"])

    code = f"import convnd; convnd.stylize('town', 'waves', steps=2, **{SETTINGS!r})"
    reply = client.execute_interactive(code, timeout=300, output_hook=on_output)
    client.stop_channels()
    kernel.shutdown_kernel(now=True)
    assert reply["content"]["status"] == "ok"
    assert "2 steps" in shown[-1]
