"""The known answers of `networks.py` for signals: real ECGs.

Content error: energy of the change between 1 and 15 Hz (the band of P, QRS and T) over the energy
of the content in this band. Figures: F1 of the content's R peaks (±50 ms) in the result, and four
distances of the result to the style, each over the same distance of the content: spectrum (dB,
RMS), mean beat (one minus the correlation), autocorrelation up to 1 s, and amplitudes
(Wasserstein-1). Their mean is ``left``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from convnd_tasks.modalities.signals.options import SignalOptions

from benchmarks.common import Network, Try
from benchmarks.performance import known_answer_signals
from benchmarks.performance.known_answer_signals import RATE, Array
from convnd.backbones import Backbone

START = 1.0
COLUMNS = ("f1", "left", "psd", "beat", "acf", "amp")


@dataclass(frozen=True)
class Pair:
    """A content and a style in mV at `RATE`."""

    name: str
    content: Array
    style: Array


def extra_candidates() -> dict[str, Network]:
    """Candidates of this rank only."""
    return {}


def pairs(data: Path, words: Sequence[str]) -> Iterator[Pair]:
    """Recordings: pydicom's (A) and MIT-BIH 208 (B), each as content, clean and with noise."""
    path = data / "ecg.dat"
    clean = known_answer_signals.clean_rhythm()
    early, late = (known_answer_signals.other_recording(path, second, 10) for second in (20, 130))
    noisy = early + known_answer_signals.noise(len(early), np.random.default_rng(0))
    for pair in (
        Pair("A-II to noisy B", clean["II"], noisy),
        Pair("A-V5 to B", clean["V5"], early),
        Pair("A-II to B", clean["II"], late),
        Pair("B to A-V2", early, clean["V2"]),
        Pair("B to A-II", late, clean["II"]),
    ):
        if not words or any(word in pair.name for word in words):
            yield pair


def figures(pair: Pair, network: Backbone, weight: float, args: argparse.Namespace) -> Try:
    """Runs a transfer with a content weight and measures it."""
    statistics = tuple(name for name in args.value_statistics.split(",") if name)
    options = SignalOptions(
        value_statistics=statistics, steps=args.steps, scales=1, content_weight=weight
    )
    result = known_answer_signals.transfer(pair.content, pair.style, options, network=network)
    measures = known_answer_signals.figures(pair.content, pair.style, result)
    shares = {
        "psd": measures["psd"] / measures["psd_A"],
        "beat": (1 - measures["beat"]) / (1 - measures["beat_A"]),
        "acf": measures["acf"] / measures["acf_A"],
        "amp": measures["amp"] / measures["amp_A"],
    }
    # A result without beats has not come closer to the style's beat.
    shares = {key: value if np.isfinite(value) else 2.0 for key, value in shares.items()}
    error = _band(result - pair.content) / _band(pair.content)
    return {
        "error": error,
        "f1": measures["f1"],
        "left": float(np.mean(list(shares.values()))),
        **shares,
    }


def _band(values: Array) -> float:
    """Energy between 1 and 15 Hz."""
    frequency = np.fft.rfftfreq(len(values), 1 / RATE)
    inside = (frequency >= 1) & (frequency <= 15)
    return float((np.abs(np.fft.rfft(values))[inside] ** 2).sum())
