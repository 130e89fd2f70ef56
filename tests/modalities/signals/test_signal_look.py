"""`convnd.SignalLook`: the spectrum of a style arrives, and waves stay where they are."""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from convnd_tasks import samples
from convnd_tasks.modalities.signals.signal_look import SignalLook
from error_fields import raises
from torch import Tensor

import convnd
from convnd import io
from convnd.errors import InputFileError, ShapeError, UsageError
from convnd.grid import Grid

RATE = 500


def noise(seed: int, exponent: float, shape: tuple[int, ...] = (4000,)) -> Tensor:
    """Noise whose amplitude falls with the frequency by a power."""
    white = np.random.default_rng(seed).normal(size=shape)
    frequencies = np.fft.rfftfreq(shape[-1], 1 / RATE)
    factors = np.maximum(frequencies, 0.5) ** -exponent
    return torch.tensor(np.fft.irfft(np.fft.rfft(white) * factors, shape[-1])).float()


def slope(values: Tensor) -> float:
    """Exponent of the amplitude over frequency, by scipy's estimate of Welch."""
    from scipy.signal import welch

    frequencies, power = welch(values.double().numpy(), RATE, nperseg=1000)
    band = (frequencies > 2) & (frequencies < 100)
    return float(np.polyfit(np.log(frequencies[band]), np.log(power[..., band]).mean(0)
                            if power.ndim > 1 else np.log(power[band]), 1)[0]) / 2  # fmt: skip


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_the_spectrum_of_the_style_arrives(strength: float) -> None:
    look = SignalLook(noise(0, 1.0), rate=RATE)
    batch = noise(1, 0.2, (6, 2, 4000)) * 7 + 3
    result = look.apply(batch, strength=strength)
    expected = -0.2 - 0.8 * strength
    assert slope(result[:, 0]) == pytest.approx(expected, abs=0.08)
    torch.testing.assert_close(result.mean(2), batch.mean(2), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(result.std(2), batch.std(2), rtol=1e-3, atol=1e-3)
    if not strength:
        torch.testing.assert_close(result, batch)


def test_waves_stay_at_their_times() -> None:
    beats = torch.zeros(1, 5000)
    beats[0, 300:4800:400] = 1.0
    beats = torch.nn.functional.conv1d(
        beats[None], torch.hann_window(25)[None, None], padding=12
    )[0]  # fmt: skip
    result = SignalLook(noise(0, 0.6), rate=RATE).apply(beats)
    for place in range(300, 4800, 400):
        window = result[0, place - 100 : place + 100]
        assert abs(int(window.argmax()) - 100) <= 1


def test_each_item_of_a_batch_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    look = SignalLook([noise(0, 1.0), noise(1, 0.0)], rate=RATE, strength=(0.2, 1.0))
    batch = noise(2, 0.5, (1, 2, 1000)).expand(8, -1, -1)
    torch.manual_seed(0)
    first = look(batch)
    assert len({round(float(item.diff(dim=1).std()), 6) for item in first}) == 8
    torch.manual_seed(0)
    assert torch.equal(look(batch), first)
    assert torch.equal(pickle.loads(pickle.dumps(look)).apply(batch), look.apply(batch))
    assert torch.equal(SignalLook(noise(0, 1.0), rate=RATE, probability=0)(batch), batch)


def test_every_kind_of_data() -> None:
    look = SignalLook(noise(0, 1.0), rate=RATE, strength=1.0)
    line = noise(1, 0.3)
    result = look(line)
    assert result.shape == line.shape
    torch.testing.assert_close(look(line[None])[0], result)
    torch.testing.assert_close(torch.tensor(look(line.numpy())), result)
    assert look(line.double()).dtype == torch.float64
    assert look((100 * line).short()).dtype == torch.float32
    entry = SignalLook(noise(0, 1.0), rate=RATE, strength=1.0, keys=["ecg"])
    changed = entry({"ecg": line, "label": 1})
    torch.testing.assert_close(changed["ecg"], result)
    leaf = line.clone().requires_grad_()
    look(leaf).square().sum().backward()
    assert leaf.grad is not None


def test_styles_from_files_know_their_rate(tmp_path: Path) -> None:
    slow = noise(0, 1.0)[::2]
    grid = Grid(values=slow[None, None], spacing=(2 / RATE,), units=("s",))
    io.write(tmp_path / "style.csv", grid)
    line = noise(1, 0.3)
    by_file = SignalLook(tmp_path / "style.csv", rate=RATE).apply(line)
    torch.testing.assert_close(
        by_file, SignalLook(grid, rate=RATE).apply(line), atol=1e-3, rtol=1e-3
    )
    lead = samples.content("ecg", spatial_dims=1)
    assert convnd.SignalLook(lead, rate=RATE).apply(line).shape == line.shape


def test_leads_of_their_own() -> None:
    style = torch.stack([noise(0, 1.2), noise(1, 0.0)])
    data = noise(2, 0.6, (2, 4000))
    result = SignalLook(style, rate=RATE).apply(data)
    assert slope(result[0]) < -0.9 < -0.4 < slope(result[1])


def test_what_is_refused() -> None:
    look: Any = SignalLook(noise(0, 1.0), rate=RATE)
    for shape in [(8,), (2, 8), (1, 1, 1, 99), ()]:
        with raises(ShapeError, operation="SignalLook"):
            look.apply(torch.zeros(shape))
    with raises(UsageError, expected="without gaps"):
        look.apply(torch.full((99,), math.nan))
    with raises(UsageError, expected="a style from 0 to 0"):
        look.apply(noise(0, 1.0), style=1)
    for rate in (0, math.inf):
        with raises(UsageError, expected="a rate above 0"):
            SignalLook(noise(0, 1.0), rate=rate)
    with raises(ShapeError, operation="SignalLook", expected="styles"):
        SignalLook(torch.zeros(3, 3), rate=RATE)
    with raises(InputFileError, operation="SignalLook", got="2"):
        SignalLook(Grid(values=torch.zeros(1, 1, 40, 40)), rate=RATE)
    assert bool(torch.isfinite(look.apply(torch.zeros(99))).all())  # a constant stays


@pytest.mark.parametrize("gap", [slice(None), slice(500, 510), slice(7, 8)])
def test_a_style_with_gaps_is_refused(gap: slice) -> None:
    style = noise(0, 1.0)
    style[gap] = math.nan
    for data in (style, style.numpy(), Grid(values=style[None, None], spacing=(1 / RATE,))):
        with raises(InputFileError, operation="SignalLook", expected="without gaps"):
            SignalLook(data, rate=RATE)


def test_a_dictionary_without_keys_is_told_of_them() -> None:
    look = SignalLook(noise(0, 1.0), rate=RATE)
    with raises(UsageError, operation="SignalLook", got="dict", remedy="keys for a dictionary"):
        look.apply({"ecg": noise(1, 0.2)})


def test_reversed_and_big_endian_arrays_are_recordings() -> None:
    style, batch = noise(0, 1.0).numpy(), noise(1, 0.2, (2, 4000)).numpy()
    expected = SignalLook(style, rate=RATE).apply(batch, strength=1.0)
    look = SignalLook(style[::-1].copy()[::-1].astype(">f4"), rate=RATE)
    for view in (batch.astype(">f4"), batch[:, ::-1].copy()[:, ::-1]):
        np.testing.assert_array_equal(look.apply(view, strength=1.0), expected)
