"""Biosignals: 12-lead electrocardiograms, breathing and a chirp."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from convnd.io.signals.signal import describe
from convnd_tasks.samples.fields import Array, Lattice
from convnd_tasks.samples.sample import Maker, Sample, as_grid

if TYPE_CHECKING:
    from convnd.grid import Grid

__all__ = ["CONTENTS", "LEADS", "RATE", "STYLES"]

RATE = 500.0  # samples per second
LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")

# Peak amplitudes in mV of the waves of a healthy adult. I and II determine the other limb leads.
_WAVES = ("P", "Q", "R", "S", "T")
_AMPLITUDES = {
    "I": (0.08, -0.05, 0.62, -0.08, 0.20),
    "II": (0.13, -0.08, 1.10, -0.16, 0.30),
    "V1": (0.05, 0.00, 0.24, -0.95, -0.06),
    "V2": (0.07, 0.00, 0.48, -1.45, 0.42),
    "V3": (0.08, 0.00, 0.90, -0.95, 0.48),
    "V4": (0.08, -0.06, 1.50, -0.50, 0.44),
    "V5": (0.08, -0.09, 1.40, -0.24, 0.36),
    "V6": (0.08, -0.09, 1.10, -0.12, 0.28),
}
# Axis of a beat that starts in a ventricle, relative to a normal beat.
_ECTOPIC = {
    "I": -0.9, "II": 0.8, "V1": -1.0, "V2": -0.8, "V3": 0.7, "V4": 0.6, "V5": -0.6, "V6": -0.8
}  # fmt: skip
_DELAY = (-0.165, -0.030, 0.0, 0.029, 0.285)  # s after the R peak, at 60 beats per minute
_WIDTH = (0.021, 0.009, 0.0105, 0.0105, 0.050)  # s, standard deviation

# I and II are whole multiples of this many mV (0.5 µV, finer than any recorder), so that the
# halves in the augmented leads, and with them the limb-lead identities, are exact in float32.
_STEP = 2.0**-11


@dataclass(frozen=True, kw_only=True)
class _Heart:
    """Rhythm, shape of the beats and disturbances of a recording, in mV, s and 1/s."""

    rate: float = 72.0 / 60
    irregular: float = 0.0  # standard deviation of log RR: atrial fibrillation
    ectopic: float = 0.0  # fraction of premature ventricular beats
    wide: float = 1.0  # width of the QRS complex relative to normal conduction
    p_wave: float = 1.0
    discordance: float = 0.0  # inversion of T relative to the QRS complex
    flutter: float = 0.0  # amplitude of fibrillation waves
    wander: float = 0.02
    muscle: float = 0.004
    hum: float = 0.0


_HEALTHY = _Heart()
_ARRHYTHMIA = _Heart(
    rate=92.0 / 60,
    irregular=0.17,
    ectopic=0.14,
    wide=2.0,
    p_wave=0.0,
    discordance=1.0,
    flutter=0.07,
    wander=0.10,
    muscle=0.022,
    hum=0.008,
)
_AMBULATORY = _Heart(rate=128.0 / 60, wander=0.22, muscle=0.065, hum=0.01)


def _beats(heart: _Heart, seconds: float, rng: np.random.Generator) -> list[tuple[float, float]]:
    """Draw the time of each R peak and the RR interval before it.

    The beats begin before the recording. Heart-rate variability consists of breathing (0.25 Hz),
    blood pressure (0.1 Hz) and chance.
    """
    phases = rng.uniform(0, 2 * math.pi, 2)
    t = -1.5 + float(rng.uniform(0, 0.5))
    beats = []
    while t < seconds + 1:
        sway = 0.035 * math.sin(2 * math.pi * 0.25 * t + phases[0])
        sway += 0.025 * math.sin(2 * math.pi * 0.10 * t + phases[1])
        rr = (1 + sway + 0.008 * rng.standard_normal()) / heart.rate
        rr = max(rr * math.exp(heart.irregular * rng.standard_normal()), 0.3)
        t += rr
        beats.append((t, rr))
    return beats


def _lead(
    lead: str, heart: _Heart, beats: list[tuple[float, float]], kinds: Array, t: Array, build: Array
) -> Array:
    """Add the Gaussian waves of all beats of a lead, in mV, at times ``t``."""
    signal = np.zeros(t.size, dtype=np.float64)
    amplitudes = np.array(_AMPLITUDES[lead]) * build
    for (peak, rr), kind in zip(beats, kinds, strict=True):
        ectopic = kind < heart.ectopic
        wide = 3.4 if ectopic else heart.wide
        against = 1.0 if ectopic else heart.discordance
        axis = _ECTOPIC[lead] if ectopic else 1.0
        turn = (0.0 if ectopic else heart.p_wave, axis, axis, axis, 1.0)
        net = axis * amplitudes[1:4].sum()
        stretch = math.sqrt(min(rr, 1.2))  # Bazett: repolarisation follows the root of RR
        early = 0.12 * rr if ectopic else 0.0
        for wave, size, delay, width, factor in zip(
            _WAVES, amplitudes, _DELAY, _WIDTH, turn, strict=True
        ):
            scale = {"P": 1.0, "T": stretch}.get(wave, wide)
            height = size * factor
            if wave == "T":
                height += against * (-0.38 * net - size)
            centre = peak - early + delay * scale
            if wave == "T":
                centre += 0.045 * (wide - 1)
            first, last = np.searchsorted(t, (centre - 0.35, centre + 0.35))
            d = (t[first:last] - centre) / (width * scale)
            if wave == "T":
                d = np.where(d < 0, d / 1.25, d / 0.8)  # T rises slowly and falls quickly
            signal[first:last] += height * np.exp(-0.5 * d * d)
            if wave == "R" and wide > 1.5:  # the late ventricle adds a notch
                d2 = (t[first:last] - centre - 0.022 * wide) / (0.012 * wide)
                signal[first:last] += 0.45 * height * np.exp(-0.5 * d2 * d2)
    return signal.astype(np.float32)


def _ecg(heart: _Heart, size: int, seed: int) -> Array:
    """Compute twelve leads ``(12, size)`` in mV; the limb-lead identities hold exactly."""
    lattice = Lattice((size,), seed)
    rng = lattice.rng("ecg")
    t = (np.arange(size) / RATE).astype(np.float32)
    beats = _beats(heart, size / RATE, rng)
    kinds = rng.random(len(beats)).astype(np.float32)
    build = (1 + 0.12 * rng.standard_normal(len(_WAVES))).astype(np.float32)
    breath = 1 + 0.05 * np.sin(2 * np.pi * 0.25 * t + float(rng.uniform(0, 6)))
    leads = {}
    for k, lead in enumerate(_AMPLITUDES):
        signal = _lead(lead, heart, beats, kinds, t, build) * breath
        signal += heart.wander * _slow_noise(lattice, f"wander {lead}", 1.6)
        noise = rng.standard_normal(size, dtype=np.float32)
        # Muscle noise: white noise, differenced and smoothed, in bursts.
        emg = np.convolve(noise, [0.3, 0.6, -0.2, -0.5, -0.2], mode="same")
        burst = 0.4 + np.maximum(_slow_noise(lattice, f"burst {lead}", 0.9), 0)
        signal += heart.muscle * emg * burst
        if heart.flutter:
            wave = 5.6 * t + 0.35 * _slow_noise(lattice, "flutter", 0.35)
            f = np.sin(2 * np.pi * wave) + 0.4 * np.sin(4 * np.pi * wave + 1)
            signal += heart.flutter * (1.6 if lead in {"V1", "II"} else 0.8) * f
        signal += heart.hum * np.sin(2 * np.pi * 50 * t + k)
        leads[lead] = np.round(signal / _STEP) * np.float32(_STEP)
    one, two = leads["I"], leads["II"]
    derived = {
        "III": two - one,
        "aVR": -(one + two) / 2,
        "aVL": one - two / 2,
        "aVF": two - one / 2,
    }
    return np.stack([{**leads, **derived}[lead] for lead in LEADS]).astype(np.float32)


def _slow_noise(lattice: Lattice, tag: str, seconds: float) -> Array:
    """Make noise of unit variance that changes over about ``seconds``."""
    return lattice.noise(tag, seconds * RATE / lattice.shape[0])


def _ecg_maker(heart: _Heart) -> Maker:
    def make(shape: tuple[int, ...], seed: int, /) -> Grid:
        values = _ecg(heart, shape[0], seed)
        grid = as_grid(values, spacing=(1 / RATE,), channels=LEADS)
        return describe(grid, units=("mV",) * len(LEADS))

    return make


def _respiration(shape: tuple[int, ...], seed: int, /) -> Grid:
    """Simulate a breathing belt at 25 Hz: fast in, slow out, sighs, and the heartbeat."""
    lattice = Lattice(shape, seed)
    rate = 25.0
    seconds = shape[0] / rate
    t = (np.arange(shape[0]) / rate).astype(np.float32)
    pace = 0.24 * np.exp(0.12 * lattice.noise("pace", 9 / seconds))
    phase = 2 * np.pi * np.cumsum(pace, dtype=np.float64) / rate
    depth = np.exp(0.22 * lattice.noise("depth", 12 / seconds))
    chest = np.sin(phase + 0.45 * np.sin(phase)) * depth
    heart = 0.03 * np.sin(2 * np.pi * 1.15 * t + 0.5 * lattice.noise("heart", 5 / seconds))
    belt = chest + heart + 0.10 * lattice.noise("slip", 20 / seconds)
    belt = belt + 0.01 * lattice.noise("noise", 0.5 * lattice.step)
    values = np.clip(0.5 + 0.2 * belt, 0, 1).astype(np.float32)
    return as_grid(values[None], spacing=(1 / rate,), channels=("belt",))


def _chirp(shape: tuple[int, ...], seed: int, /) -> Grid:
    """Compute a sweep from 1 to 40 Hz with harmonics, in packets."""
    lattice = Lattice(shape, seed)
    t = np.arange(shape[0]) / RATE
    seconds = shape[0] / RATE
    phase = 2 * np.pi * (t + (40.0 - 1.0) * t * t / (2 * seconds))
    phase = phase + float(lattice.rng("phase").uniform(0, 6))
    tone = np.sin(phase) + 0.35 * np.sin(2 * phase + 0.6) + 0.15 * np.sin(3 * phase)
    envelope = 0.55 + 0.45 * np.tanh(1.5 * lattice.noise("envelope", 0.12))
    values = np.clip(0.5 + 0.3 * tone * envelope, 0, 1).astype(np.float32)
    return as_grid(values[None], spacing=(1 / RATE,), channels=("tone",))


CONTENTS: dict[str, Sample] = {
    "ecg": Sample(
        make=_ecg_maker(_HEALTHY), summary="12-lead ECG, sinus rhythm, mV", sizes={1: (5000,)}
    ),
    "respiration": Sample(make=_respiration, summary="breathing belt, 25 Hz", sizes={1: (3000,)}),
    "chirp": Sample(make=_chirp, summary="sweep from 1 to 40 Hz", sizes={1: (5000,)}),
}
STYLES: dict[str, Sample] = {
    "arrhythmia": Sample(
        make=_ecg_maker(_ARRHYTHMIA),
        summary="12-lead ECG, fibrillation, wide QRS, ectopic beats",
        sizes={1: (5000,)},
    ),
    "ambulatory": Sample(
        make=_ecg_maker(_AMBULATORY),
        summary="12-lead ECG in motion: muscle noise and wander",
        sizes={1: (5000,)},
    ),
}
