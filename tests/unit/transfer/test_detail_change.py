"""What a finer size adds to the content's detail, see `convnd.transfer.random_phase`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from convnd.transfer.random_phase import detail_change

_LENGTH, _COARSE = 4096, 2048


def _noise(seed: int, deviation: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return deviation * torch.randn(1, 1, _LENGTH, generator=generator)


def _power(values: Tensor, low: float, high: float) -> float:
    """Power between two shares of the Nyquist frequency, by numpy's Fourier transform."""
    spectrum = np.abs(np.fft.rfft(values.double().numpy()[0, 0])) ** 2
    first, last = (round(share * (len(spectrum) - 1)) for share in (low, high))
    return float(spectrum[first:last].sum())


def _change(style: Tensor, content: Tensor, *, bandwidth: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(9)
    coarse = [_COARSE, *content.shape[3:]]
    return detail_change([style], content, coarse, bandwidth=bandwidth, generator=generator)


@pytest.mark.parametrize("deviations", [(1.0, 0.1), (0.1, 1.0), (0.5, 1.0)])
def test_content_gets_the_power_of_the_styles_detail(deviations: tuple[float, float]) -> None:
    style, content = (_noise(seed, deviation) for seed, deviation in enumerate(deviations))
    change = _change(style, content)
    # Power of n bins of white noise varies by n^-1/2, here 6 %. Below this band the filter is soft.
    assert _power(content + change, 0.85, 1) == pytest.approx(_power(style, 0.85, 1), rel=0.25)
    assert _power(change, 0, 0.1) < 0.01 * _power(style + content, 0, 0.1)


def test_frequencies_that_the_style_does_not_contain_keep_their_power() -> None:
    content, style = _noise(0), torch.zeros(1, 1, _LENGTH)
    change = _change(style, content, bandwidth=0.75)
    assert _power(change, 0.55, 0.65) > 4 * _power(change, 0.9, 1)
    assert _power(content + change, 0.9, 1) > 0.8 * _power(content, 0.9, 1)
    assert not _change(style, content, bandwidth=0.5).any()


def test_a_style_equal_to_the_content_changes_nothing() -> None:
    content = _noise(0)
    assert not _change(content, content).any()


def test_an_axis_of_one_sample_changes_nothing() -> None:
    style, content = _noise(0, 0.3), _noise(1)
    flat = _change(style[..., None], content[..., None])
    torch.testing.assert_close(flat[..., 0], _change(style, content), rtol=1e-4, atol=1e-6)


def test_channels_do_not_mix() -> None:
    style = torch.cat([_noise(0), _noise(1, 0.1)], 1)
    content = torch.cat([_noise(2, 0.1), _noise(3)], 1)
    generator = torch.Generator().manual_seed(9)
    result = content + detail_change([style], content, [_COARSE], generator=generator)
    for channel in range(2):
        power = _power(result[:, channel : channel + 1], 0.85, 1)
        expected = _power(style[:, channel : channel + 1], 0.85, 1)
        assert power == pytest.approx(expected, rel=0.25)
