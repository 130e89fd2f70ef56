"""Known-answer experiments on real electrocardiograms.

(a) A clean rhythm A takes on a recording B with muscle noise and baseline wander: the result must
    keep A's R peaks (F1 at least 0.98) and have B's spectrum (distance down by at least 80 %).
(b) A rhythm A takes on B's morphology: the mean beat must come closer to B's, A's R peaks stay.
(c) The same with a B that is simulated and clean, so that nothing of its noise is in the way.

    python -m benchmarks.performance.known_answer_signals --mitbih scipy/misc/ecg.dat

A is the 12-lead recording that pydicom carries (lead II, V2, V5, brought to 360 Hz); B is MIT-BIH
record 208 (``scipy/misc/ecg.dat`` in the wheel of scipy 1.11.4), for (a) with noise added that is
made here. Beside the defaults runs a transfer that leaves beats to the statistics
(``--beat-weight 0``), and two baselines: noise with B's spectrum added to A, and the same network
with random weights (with beats as in the defaults). Needs the extra ``signals``, and neurokit2.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from convnd_tasks.modalities.base import TransferInputs
from convnd_tasks.modalities.signals.codec import prepare
from convnd_tasks.modalities.signals.leads import resample
from convnd_tasks.modalities.signals.metrics import (
    amplitude_distance,
    autocorrelation_distance,
    psd_distance,
)
from convnd_tasks.modalities.signals.options import SignalOptions
from convnd_tasks.modalities.signals.peaks import r_peaks
from convnd_tasks.modalities.signals.rhythm import beat_correlation, match_peaks, mean_beat
from numpy.typing import NDArray

from benchmarks.common import random_weights
from benchmarks.measurement import add_json_option, write_results
from convnd.backbones import Backbone, load
from convnd.grid import Grid
from convnd.io.signals.signal import describe
from convnd.transfer.style_transfer import StyleTransfer

RATE = 360.0
Array = NDArray[np.float64]


def clean_rhythm(leads: tuple[str, ...] = ("II", "V2", "V5")) -> dict[str, Array]:
    """Leads of pydicom's ECG in mV at `RATE`."""
    from pydicom import dcmread
    from pydicom.data import get_testdata_file

    path = get_testdata_file("waveform_ecg.dcm", download=False)
    assert isinstance(path, str)
    data = dcmread(path)
    group = data.WaveformSequence[0]
    names = [c.ChannelSourceSequence[0].CodeMeaning for c in group.ChannelDefinitionSequence]
    values = torch.from_numpy(data.waveform_array(0).T.copy())[None]  # µV
    values = resample(values, float(group.SamplingFrequency), RATE)[0] / 1000
    return {
        lead: values[[n.split("(")[0].strip() for n in names].index(f"Lead {lead}")].numpy()
        for lead in leads
    }


def other_recording(path: Path, first: float, seconds: float) -> Array:
    """A stretch of MIT-BIH 208 in mV at `RATE` (gain 200, zero at 1024)."""
    samples: Array = np.load(path)["ecg"].astype(np.float64)
    start = round(first * RATE)
    return (samples[start : start + round(seconds * RATE)] - 1024) / 200


def simulated() -> Array:
    """20 s of a clean B, 90 beats a minute, by neurokit2's ECGSYN (McSharry et al., 2003)."""
    import neurokit2

    found: Array = neurokit2.ecg_simulate(
        duration=20,
        sampling_rate=int(RATE),
        heart_rate=90,
        noise=0.01,
        method="ecgsyn",
        random_state=7,
    )
    return found


def noise(
    count: int, rng: np.random.Generator, muscle: float = 0.05, wander: float = 0.12
) -> Array:
    """Muscle noise (20 to 150 Hz) and baseline wander (below 0.6 Hz), in mV."""
    frequencies = np.fft.rfftfreq(count, 1 / RATE)
    white = np.fft.rfft(rng.standard_normal(count))

    def band(low: float, high: float, power: float) -> Array:
        shape = ((frequencies >= low) & (frequencies <= high)) * 1.0
        found: Array = np.fft.irfft(white * shape, count)
        scaled: Array = power * found / found.std()
        return scaled

    return band(20, 150, muscle) + band(0.05, 0.6, wander)


def matched_noise(content: Array, style: Array, rng: np.random.Generator) -> Array:
    """The baseline: A with noise of random phase that fills its spectrum up to B's."""
    from scipy.signal import welch

    length = round(2 * RATE)
    frequencies, target = welch(style, RATE, nperseg=length)
    _, have = welch(content, RATE, nperseg=length)
    missing = np.sqrt(np.maximum(target - have, 0))
    spectrum = np.fft.rfft(rng.standard_normal(len(content)))
    at = np.fft.rfftfreq(len(content), 1 / RATE)
    spectrum *= np.interp(at, frequencies, missing) * np.sqrt(RATE / 2)
    return content + np.fft.irfft(spectrum, len(content))


def grid(values: Array, lead: str) -> Grid:
    """One lead as a grid."""
    made = Grid(
        values=torch.from_numpy(values.astype(np.float32))[None, None],
        spacing=(1 / RATE,),
        units=("s",),
        axes=("t",),
        channels=(lead,),
    )
    return describe(made, units=("mV",))


def transfer(
    content: Array,
    style: Array,
    options: SignalOptions,
    *,
    network: Backbone | None = None,
) -> Array:
    """Ours, or the same with another network."""
    inputs = TransferInputs(
        content=grid(content, "II"), styles=[grid(style, "II")], names=("A", "B")
    )
    ready = prepare(inputs, options)
    work = StyleTransfer(options, spatial_dims=1, in_channels=1)
    if network is not None:
        work.backbone = network
    for progress in work.run(**ready.arguments()):
        last = progress.values
    result: Array = ready.decode(last).values[0, 0].double().numpy()
    return result


def figures(content: Array, style: Array, result: Array) -> dict[str, float]:
    """What is asked of a result, and what it was for A itself."""
    peaks = {name: r_peaks(values, RATE) for name, values in (("A", content), ("", result))}
    found = {"f1": match_peaks(peaks["A"] / RATE, peaks[""] / RATE, 0.05)[0]}
    beat = mean_beat(style, RATE)
    found["beat"] = beat_correlation(mean_beat(result, RATE, peaks[""]), beat)
    found["beat_A"] = beat_correlation(mean_beat(content, RATE, peaks["A"]), beat)
    # Where A has its R peaks, whatever a detector says of the result.
    found["beat_there"] = beat_correlation(mean_beat(result, RATE, peaks["A"]), beat)
    for suffix, signal in (("", result), ("_A", content)):
        found[f"psd{suffix}"] = psd_distance(signal, style, RATE)
        found[f"acf{suffix}"] = autocorrelation_distance(signal, style, RATE)
        found[f"amp{suffix}"] = amplitude_distance(signal, style)
    found["psd_down"] = 1 - found["psd"] / found["psd_A"]
    for name, band in (("low", (0.0, 5.0)), ("mid", (5.0, 20.0)), ("high", (20.0, 180.0))):
        found[name] = psd_distance(result, style, RATE, band)
        found[f"{name}_A"] = psd_distance(content, style, RATE, band)
    return found


def settings(path: Path | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """The defaults, and what of the statistics each adds; or those of a file."""
    if path is not None:
        yield from json.loads(path.read_text()).items()
        return
    yield "defaults", {}
    yield "gram only", {"value_statistics": (), "beat_weight": 0}
    yield "spectrum only", {"style_weight": 0, "value_statistics": ("spectrum",), "beat_weight": 0}
    for fact in ("autocorrelation", "spectrum", "distribution"):
        yield f"gram + {fact}", {"value_statistics": (fact,), "beat_weight": 0}


def main() -> None:
    """Run both experiments and print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mitbih", type=Path, required=True, help="scipy 1.11.4's ecg.dat")
    parser.add_argument("--settings", type=Path, help="JSON: name to options of TransferOptions")
    parser.add_argument("--experiments", default="a,b", help="c is b with a clean, simulated B")
    parser.add_argument("--leads", default="II,V2,V5")
    parser.add_argument("--no-baselines", action="store_true")
    add_json_option(parser)
    asked = parser.parse_args()

    rows: list[dict[str, Any]] = []
    rng = np.random.default_rng(0)
    plain = other_recording(asked.mitbih, 20, 20)
    for experiment in asked.experiments.split(","):
        style = plain + noise(len(plain), rng) if experiment == "a" else plain
        style = simulated() if experiment == "c" else style
        for lead, content in clean_rhythm(tuple(asked.leads.split(","))).items():
            made: list[tuple[str, float, Array]] = []
            for name, given in settings(asked.settings):
                given = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
                options = SignalOptions(size=0, **given)
                began = time.monotonic()
                made.append((name, 0, transfer(content, style, options)))
                made[-1] = (name, time.monotonic() - began, made[-1][2])
            if not asked.no_baselines:
                options = SignalOptions(size=0)
                without = SignalOptions(size=0, beat_weight=0)
                made.append(("without beats", 0, transfer(content, style, without)))
                network = random_weights(load("compact", spatial_dims=1, in_channels=1), 0)
                result = transfer(content, style, options, network=network)
                made.append(("random weights", 0, result))
                made.append(("matched noise", 0, matched_noise(content, style, rng)))
            for name, seconds, result in made:
                row = {"experiment": experiment, "lead": lead, "what": name, "s": seconds}
                rows.append(row | figures(content, style, result))
    keys = (
        "f1",
        "psd_A",
        "psd",
        "psd_down",
        "beat_A",
        "beat",
        "beat_there",
        "acf_A",
        "acf",
        "amp_A",
        "amp",
        "low_A",
        "low",
        "mid_A",
        "mid",
        "high_A",
        "high",
        "s",
    )
    print(f"{'':2}{'lead':5}{'what':30}" + "".join(f"{key:>11}" for key in keys))
    for row in rows:
        head = f"{row['experiment']:2}{row['lead']:5}{row['what']:30}"
        print(head + "".join(f"{row[key]:11.3f}" for key in keys))
    write_results(asked.json, "Known answers on real ECGs", rows)


if __name__ == "__main__":
    main()
