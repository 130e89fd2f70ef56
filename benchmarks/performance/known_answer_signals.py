"""Known-answer experiments on real electrocardiograms.

(a) Noise: a clean rhythm A gets the style of a recording B with muscle noise and baseline wander.
    The result must keep A's R peaks (F1 at least 0.98), with a spectrum 80 % closer to B's.
(b) Morphology: A's mean beat must come closer to B's, at A's R peaks.
(c) The same with a simulated, clean B.

    python -m benchmarks.performance.known_answer_signals --mitbih scipy/misc/ecg.dat

A is the 12-lead recording in the package pydicom (leads II, V2, V5, resampled to 360 Hz). B is
MIT-BIH record 208 (``scipy/misc/ecg.dat`` in the wheel of scipy 1.11.4); (a) adds noise to it. The
defaults are compared with ``--beat-weight 0`` and with two baselines: noise with B's spectrum added
to A, and a network with random weights. Needs the extra ``signals``.
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
from convnd_tasks.modalities.inputs import TransferInputs
from convnd_tasks.modalities.signals.distances import (
    amplitude_distance,
    autocorrelation_distance,
    psd_distance,
)
from convnd_tasks.modalities.signals.leads import resample
from convnd_tasks.modalities.signals.options import SignalOptions
from convnd_tasks.modalities.signals.peaks import r_peaks
from convnd_tasks.modalities.signals.prepare import prepare
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
    """A section of MIT-BIH 208 in mV at `RATE` (gain 200, zero at 1024)."""
    samples: Array = np.load(path)["ecg"].astype(np.float64)
    start = round(first * RATE)
    return (samples[start : start + round(seconds * RATE)] - 1024) / 200


def simulated() -> Array:
    """20 s of a clean B, 90 beats a minute, by neurokit2's ECGSYN (McSharry et al., 2003)."""
    import neurokit2

    values: Array = neurokit2.ecg_simulate(
        duration=20,
        sampling_rate=int(RATE),
        heart_rate=90,
        noise=0.01,
        method="ecgsyn",
        random_state=7,
    )
    return values


def noise(
    count: int, rng: np.random.Generator, muscle: float = 0.05, wander: float = 0.12
) -> Array:
    """Muscle noise (20 to 150 Hz) and baseline wander (below 0.6 Hz), in mV."""
    frequencies = np.fft.rfftfreq(count, 1 / RATE)
    white = np.fft.rfft(rng.standard_normal(count))

    def band(low: float, high: float, power: float) -> Array:
        shape = ((frequencies >= low) & (frequencies <= high)) * 1.0
        values: Array = np.fft.irfft(white * shape, count)
        scaled: Array = power * values / values.std()
        return scaled

    return band(20, 150, muscle) + band(0.05, 0.6, wander)


def matched_noise(content: Array, style: Array, rng: np.random.Generator) -> Array:
    """The baseline: A plus noise of random phase that raises its spectrum to B's."""
    from scipy.signal import welch

    length = round(2 * RATE)
    frequencies, target = welch(style, RATE, nperseg=length)
    _, have = welch(content, RATE, nperseg=length)
    missing = np.sqrt(np.maximum(target - have, 0))
    spectrum = np.fft.rfft(rng.standard_normal(len(content)))
    grid_frequencies = np.fft.rfftfreq(len(content), 1 / RATE)
    spectrum *= np.interp(grid_frequencies, frequencies, missing) * np.sqrt(RATE / 2)
    return content + np.fft.irfft(spectrum, len(content))


def grid(values: Array, lead: str) -> Grid:
    """One lead as a grid."""
    result = Grid(
        values=torch.from_numpy(values.astype(np.float32))[None, None],
        spacing=(1 / RATE,),
        units=("s",),
        axes=("t",),
        channels=(lead,),
    )
    return describe(result, units=("mV",))


def transfer(
    content: Array,
    style: Array,
    options: SignalOptions,
    *,
    network: Backbone | None = None,
) -> Array:
    """A style transfer with the shipped network, or with another one."""
    inputs = TransferInputs(
        content=grid(content, "II"), styles=[grid(style, "II")], names=("A", "B")
    )
    ready = prepare(inputs, options)
    work = StyleTransfer(options, spatial_dims=1, in_channels=1)
    if network is not None:
        work.backbone = network
    for progress in work.run(ready):
        values = progress.values
    result: Array = ready.decode(values).values[0, 0].double().numpy()
    return result


def figures(content: Array, style: Array, result: Array) -> dict[str, float]:
    """Measures of a result, and the same measures of A (names that end in ``_A``)."""
    peaks = {name: r_peaks(values, RATE) for name, values in (("A", content), ("", result))}
    measures = {"f1": match_peaks(peaks["A"] / RATE, peaks[""] / RATE, 0.05)[0]}
    beat = mean_beat(style, RATE)
    measures["beat"] = beat_correlation(mean_beat(result, RATE, peaks[""]), beat)
    measures["beat_A"] = beat_correlation(mean_beat(content, RATE, peaks["A"]), beat)
    # At the R peaks of A, since a detector may find others in the result.
    measures["beat_there"] = beat_correlation(mean_beat(result, RATE, peaks["A"]), beat)
    for suffix, signal in (("", result), ("_A", content)):
        measures[f"psd{suffix}"] = psd_distance(signal, style, RATE)
        measures[f"acf{suffix}"] = autocorrelation_distance(signal, style, RATE)
        measures[f"amp{suffix}"] = amplitude_distance(signal, style)
    measures["psd_down"] = 1 - measures["psd"] / measures["psd_A"]
    for name, band in (("low", (0.0, 5.0)), ("mid", (5.0, 20.0)), ("high", (20.0, 180.0))):
        measures[name] = psd_distance(result, style, RATE, band)
        measures[f"{name}_A"] = psd_distance(content, style, RATE, band)
    return measures


def settings(path: Path | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """The defaults and each statistic alone, or the settings in a file."""
    if path is not None:
        yield from json.loads(path.read_text()).items()
        return
    yield "defaults", {}
    yield "gram only", {"value_statistics": (), "beat_weight": 0}
    yield "spectrum only", {"style_weight": 0, "value_statistics": ("spectrum",), "beat_weight": 0}
    for name in ("autocorrelation", "spectrum", "distribution"):
        yield f"gram + {name}", {"value_statistics": (name,), "beat_weight": 0}


def main() -> None:
    """Runs the experiments and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mitbih", type=Path, required=True, help="scipy 1.11.4's ecg.dat")
    parser.add_argument("--settings", type=Path, help="JSON: name to options of TransferOptions")
    parser.add_argument("--experiments", default="a,b", help="c is b with a clean, simulated B")
    parser.add_argument("--leads", default="II,V2,V5")
    parser.add_argument("--first", type=float, default=20, help="start of B in its recording, in s")
    parser.add_argument("--no-baselines", action="store_true")
    add_json_option(parser)
    args = parser.parse_args()

    rows: list[dict[str, Any]] = []
    rng = np.random.default_rng(0)
    plain = other_recording(args.mitbih, args.first, 20)
    for experiment in args.experiments.split(","):
        style = plain + noise(len(plain), rng) if experiment == "a" else plain
        style = simulated() if experiment == "c" else style
        for lead, content in clean_rhythm(tuple(args.leads.split(","))).items():
            results: list[tuple[str, float, Array]] = []
            for name, choice in settings(args.settings):
                choice = {k: tuple(v) if isinstance(v, list) else v for k, v in choice.items()}
                options = SignalOptions(size=0, **choice)
                start = time.process_time()
                results.append((name, 0, transfer(content, style, options)))
                results[-1] = (name, time.process_time() - start, results[-1][2])
            if not args.no_baselines:
                options = SignalOptions(size=0)
                without = SignalOptions(size=0, beat_weight=0)
                results.append(("without beats", 0, transfer(content, style, without)))
                network = random_weights(load("compact", spatial_dims=1, in_channels=1), 0)
                result = transfer(content, style, options, network=network)
                results.append(("random weights", 0, result))
                results.append(("matched noise", 0, matched_noise(content, style, rng)))
            for name, seconds, result in results:
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
    write_results(args.json, "Known answers on real ECGs", rows)


if __name__ == "__main__":
    main()
