"""Which detector of R peaks keeps them under noise, told without any result of a style transfer.

Contents alone are looked at: 12 leads of one recording (pydicom's), which beat together, and the
noise of `known_ecg`. For each method of neurokit2, over all leads: F1 (±50 ms) of a lead's R peaks
against those of lead II, and against themselves with noise added (mean and worst lead, its mean
over draws). The method for style transfer and ``convnd evaluate`` keeps 0.98 in every lead.

    python -m benchmarks.experiments.r_peak_detectors

Needs neurokit2, and the extra ``signals``.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from functools import partial

import neurokit2
import numpy as np
from convnd_tasks.modalities.signals.leads import at_rate
from convnd_tasks.modalities.signals.rhythm import match_peaks

from benchmarks.measurement import add_json_option, write_results
from benchmarks.performance.known_answer_signals import RATE, Array, clean_rhythm, noise

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
METHODS = (
    "neurokit",
    "pantompkins1985",
    "nabian2018",
    "gamboa2008",
    "hamilton2002",
    "zong2003",
    "martinez2004",
    "christov2004",
    "engzeemod2012",
    "elgendi2010",
    "kalidas2017",
    "rodrigues2021",
    "manikandan2012",
    "khamis2016",
)
Detector = Callable[[Array], Array]


def theirs(values: Array, *, method: str, rate: int) -> Array:
    """R peaks in s by a method of neurokit2, after its own cleaning; none where it fails."""
    signal = at_rate(values, RATE, rate)
    try:
        try:
            cleaned = neurokit2.ecg_clean(signal, sampling_rate=rate, method=method)
        except ValueError:  # no cleaning of its own
            cleaned = neurokit2.ecg_clean(signal, sampling_rate=rate)
        _, found = neurokit2.ecg_peaks(cleaned, sampling_rate=rate, method=method)
    except Exception:
        return np.zeros(0)
    peaks = np.asarray(found["ECG_R_Peaks"], np.float64)
    return np.unique(peaks[np.isfinite(peaks)]) / rate


def main() -> None:
    """Print a row for each method and rate."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--draws", type=int, default=8)
    add_json_option(parser)
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")
    leads = clean_rhythm(LEADS)
    cases: list[tuple[str, Detector]] = [
        (f"{method}, {rate} Hz", partial(theirs, method=method, rate=rate))
        for method in METHODS
        for rate in (round(RATE), 500)
    ]
    head = ("against II", "least", "in noise", "least lead", "lead", "ms for 1 s")
    print(f"{'':24}" + "".join(f"{each:>12}" for each in head))
    rows = []
    for name, find in cases:
        began, seconds = time.process_time(), 0.0
        own = {lead: find(values) for lead, values in leads.items()}
        together = [match_peaks(own["II"], own[lead], 0.05)[0] for lead in LEADS]
        kept = {}
        for lead, values in leads.items():
            found = []
            for draw in range(asked.draws):
                noisy = values + noise(len(values), np.random.default_rng(100 + draw))
                found.append(match_peaks(own[lead], find(noisy), 0.05)[0] if len(own[lead]) else 0)
            kept[lead] = float(np.mean(found))
            seconds += (asked.draws + 1) * len(values) / RATE
        worst = min(kept, key=kept.__getitem__)
        spent = 1000 * (time.process_time() - began) / seconds
        print(
            f"{name:24}{np.mean(together):12.3f}{min(together):12.2f}"
            f"{np.mean(list(kept.values())):12.3f}{kept[worst]:12.2f}{worst:>12}{spent:12.2f}",
            flush=True,
        )
        means = float(np.mean(together)), float(np.mean(list(kept.values())))
        figures = [means[0], min(together), means[1], kept[worst], worst, spent]
        rows.append({"method": name, **dict(zip(head, figures, strict=True))})
    write_results(asked.json, "Detectors of R peaks", rows)


if __name__ == "__main__":
    main()
