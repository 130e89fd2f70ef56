"""Files of weights come from anywhere: they are taken, or refused in one line."""

from __future__ import annotations

import io
import os
import pickle
import time
import zipfile
from collections import Counter as Counts
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from error_fields import raises
from safetensors.torch import load_file, save_file

from convnd.backbones import load
from convnd.backbones.weights import WEIGHTS, add_file, load_state, user_path
from convnd.errors import InputFileError


def vgg(**changes: Any) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(2)
    state = {
        "conv1_1.weight": torch.rand(4, 3, 3, 3, generator=generator),
        "conv1_1.bias": torch.zeros(4),
        "mean": torch.zeros(3),
    }
    return {**state, **changes}


WEIGHT = torch.rand(4, 3, 3, 3)
TENSORS: dict[str, Callable[[], Any]] = {
    "nan": lambda: vgg(mean=torch.tensor([0.0, float("nan"), 0.0])),
    "inf": lambda: vgg(**{"conv1_1.bias": torch.full((4,), float("inf"))}),
    "sparse": lambda: vgg(**{"conv1_1.weight": WEIGHT.to_sparse()}),
    "meta": lambda: vgg(**{"conv1_1.weight": WEIGHT.to("meta")}),
    "quantised": lambda: vgg(
        **{"conv1_1.weight": torch.quantize_per_tensor(WEIGHT, 0.1, 0, torch.qint8)}
    ),
    "complex": lambda: vgg(**{"conv1_1.weight": WEIGHT.to(torch.complex64)}),
    "repeated": lambda: vgg(**{"conv1_1.weight": torch.zeros(1, 1, 1, 1).expand(4, 3, 3, 3)}),
    "vast": lambda: vgg(extra=torch.zeros(1).expand(2**40)),
    "another shape": lambda: vgg(**{"conv1_1.weight": torch.rand(4, 3, 5, 5)}),
    "no axes": lambda: vgg(**{"conv1_1.weight": torch.zeros(())}),
    "no bias": lambda: {k: v for k, v in vgg().items() if k != "conv1_1.bias"},
    "no mean": lambda: {k: v for k, v in vgg().items() if k != "mean"},
    "another name": lambda: {"conv1_one.weight": WEIGHT},
    "no number": lambda: {"features.0.weight": WEIGHT, "features.zero.weight": WEIGHT},
    "a number that is none": lambda: {"features.0.weight": WEIGHT, "features.².weight": WEIGHT},
    "gaps": lambda: {"features.0.weight": WEIGHT, "features.7.weight": WEIGHT},
    "one tensor": lambda: WEIGHT,
    "numbers": lambda: {"conv1_1.weight": 3},
    "no names": lambda: {1: WEIGHT},
    "nothing": dict,
}


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
@pytest.mark.parametrize("name", TENSORS)
def test_tensors_of_every_kind_are_refused(name: str, tmp_path: Path) -> None:
    torch.save(TENSORS[name](), tmp_path / "a.pth")
    with raises(InputFileError, operation="weights"):
        add_file(tmp_path / "a.pth")
    assert not user_path("a").exists()


@pytest.mark.parametrize("dtype", [torch.complex64, torch.float8_e5m2, torch.bool, torch.int64])
def test_types_of_safetensors_are_refused_or_numbers(dtype: torch.dtype, tmp_path: Path) -> None:
    save_file(vgg(**{"conv1_1.weight": WEIGHT.to(dtype)}), tmp_path / "a.safetensors")
    try:
        name = add_file(tmp_path / "a.safetensors")
    except InputFileError:
        return
    assert all(value.dtype == torch.float32 for value in load_state(name).values())
    user_path(name).unlink()


class _Calls:
    def __reduce__(self) -> Any:
        return print, ("CODE RUNS",)


FILES: dict[str, Callable[[Path], object]] = {
    "code.pth": lambda path: path.write_bytes(pickle.dumps({"a": _Calls()})),
    "text.pth": lambda path: path.write_text("weights"),
    "empty.pth": lambda path: path.touch(),
    "folder.pth": lambda path: path.mkdir(),
    "pipe.pth": os.mkfifo,
    "cut.pth": lambda path: path.write_bytes(_saved(vgg())[:-200]),
    "deflated.pth": lambda path: path.write_bytes(_deflated(_saved(vgg()))),
    "none.safetensors": lambda path: path.write_bytes(b"\xff" * 100),
    "header.safetensors": lambda path: path.write_bytes(b"\xff\xff\xff\xff\xff\0\0\0{}"),
    "deep.safetensors": lambda path: path.write_bytes(b"\x20\xa1\x07\0\0\0\0\0" + b"[" * 500_000),
    "pipe.safetensors": os.mkfifo,
    "none.whl": lambda path: path.write_bytes(b"PK\5\6"),
    "other.whl": lambda path: path.write_bytes(_deflated(_saved(vgg()))),
}


def _saved(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def _deflated(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(data)) as source,
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for member in source.namelist():
            target.writestr(member, source.read(member))
    return buffer.getvalue()


@pytest.mark.parametrize("name", FILES)
def test_files_of_every_kind_are_refused(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    FILES[name](tmp_path / name)
    with pytest.raises(InputFileError):
        add_file(tmp_path / name)
    assert capfd.readouterr() == ("", "")


class _Many:
    """A pickle of a few bytes that asks for as many, or counts them."""

    def __init__(self, count: int, kind: Callable[..., Any] | None = None) -> None:
        self.call = (bytearray, (count,)) if kind is None else (kind, (_Many(count),))

    def __reduce__(self) -> Any:
        return self.call


def test_a_pickle_cannot_ask_for_memory(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(pickle.dumps({"a": _Many(2**34)}, protocol=2))
    with pytest.raises(InputFileError, match="asks for more than there is|nothing else"):
        add_file(tmp_path / "a.pth")


@pytest.mark.slow
def test_a_pickle_cannot_compute_without_an_end(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(pickle.dumps({"a": _Many(2**29, Counts)}, protocol=2))
    start = time.monotonic()
    with pytest.raises(InputFileError, match="without an end|of its decoder within|nothing else"):
        add_file(tmp_path / "a.pth")
    assert time.monotonic() - start < 120


def test_names_that_share_values_are_refused(tmp_path: Path) -> None:
    weight, bias = torch.rand(64, 64, 3, 3).half(), torch.zeros(64).half()
    state = {"features.0.weight": torch.rand(64, 3, 3, 3).half(), "features.0.bias": bias}
    state |= {f"features.{2 * k}.weight": weight for k in range(1, 600)}
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(InputFileError, match="share their values"):
        add_file(tmp_path / "a.pth")


def _renamed(state: dict[str, Any]) -> dict[str, Any]:
    return {f"x{name}" if name == "mean" else name: value for name, value in state.items()}


DAMAGES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "renamed": _renamed,
    "flipped": lambda state: {**state, "mean": state["mean"] + 1e-7},
    "another type": lambda state: {**state, "mean": state["mean"].double()},
    "less": lambda state: {"mean": state["mean"]},
    "not finite": lambda state: {**state, "mean": state["mean"] / 0},
}


@pytest.mark.parametrize("name", DAMAGES)
def test_kept_weights_are_compared_when_they_are_used(name: str, tmp_path: Path) -> None:
    save_file(vgg(), tmp_path / "mine.safetensors")
    add_file(tmp_path / "mine.safetensors")
    path = user_path("mine")
    from convnd.backbones.weights.cache import read_metadata

    metadata = read_metadata(path)
    save_file(DAMAGES[name](load_file(path)), path, metadata)
    try:
        for use in (lambda: load_state("mine"), lambda: load("mine", layers=["relu1_1"])):
            with raises(InputFileError, operation="weights", expected="intact weights in"):
                use()
    finally:
        path.unlink()


@pytest.mark.slow
def test_kept_weights_of_a_published_network_are_made_again(tmp_path: Path) -> None:
    """They are converted from the installed package; a file that was changed is not used."""
    state = load_state("vgg19")
    path = WEIGHTS["vgg19"].path
    whole = path.read_bytes()
    save_file(_renamed(load_file(path)), path, {"sha256": "0" * 64})
    assert all(load_state("vgg19")[name].equal(value) for name, value in state.items())
    assert load_file(path).keys() == state.keys()
    path.write_bytes(whole)


def test_comparing_takes_little_time() -> None:
    load_state("vgg19")
    began = time.process_time()
    load_state("vgg19")
    assert time.process_time() - began < 0.5  # 0.07 s on a machine of its own
