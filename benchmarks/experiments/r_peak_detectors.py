"""Which detector of R peaks withstands noise? The choice uses no result of a style transfer.

The data are the 12 simultaneous leads of pydicom's recording and the noise of
`known_answer_signals`. For each method of neurokit2 the script prints two values of F1 (±50 ms),
as the mean and worst lead, each a mean over draws: the R peaks of each lead against those of lead
II, and the R peaks with noise against those without. A method for convnd must reach 0.98 in every
lead.

    python -m benchmarks.experiments.r_peak_detectors

Needs the extra ``signals``.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from functools import partial

import neurokit2
import numpy as np
from convnd_tasks.modalities.signals.leads import resample_lead
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


def neurokit_peaks(values: Array, *, method: str, rate: int) -> Array:
    """R peaks in s by a method of neurokit2, after the method's own cleaning; empty if it fails."""
    signal = resample_lead(values, RATE, rate)
    try:
        try:
            cleaned = neurokit2.ecg_clean(signal, sampling_rate=rate, method=method)
        except ValueError:  # no cleaning of its own
            cleaned = neurokit2.ecg_clean(signal, sampling_rate=rate)
        _, info = neurokit2.ecg_peaks(cleaned, sampling_rate=rate, method=method)
    except Exception:
        return np.zeros(0)
    peaks = np.asarray(info["ECG_R_Peaks"], np.float64)
    return np.unique(peaks[np.isfinite(peaks)]) / rate


def main() -> None:
    """Print a row for each method and rate."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--draws", type=int, default=8)
    add_json_option(parser)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    leads = clean_rhythm(LEADS)
    cases: list[tuple[str, Detector]] = [
        (f"{method}, {rate} Hz", partial(neurokit_peaks, method=method, rate=rate))
        for method in METHODS
        for rate in (round(RATE), 500)
    ]
    head = ("against II", "least", "in noise", "least lead", "lead", "ms for 1 s")
    print(f"{'':24}" + "".join(f"{word:>12}" for word in head))
    rows = []
    for name, find in cases:
        start, seconds = time.process_time(), 0.0
        peaks = {lead: find(values) for lead, values in leads.items()}
        agreement = [match_peaks(peaks["II"], peaks[lead], 0.05)[0] for lead in LEADS]
        robustness = {}
        for lead, values in leads.items():
            scores = []
            for draw in range(args.draws):
                noisy = values + noise(len(values), np.random.default_rng(100 + draw))
                scores.append(
                    match_peaks(peaks[lead], find(noisy), 0.05)[0] if len(peaks[lead]) else 0
                )
            robustness[lead] = float(np.mean(scores))
            seconds += (args.draws + 1) * len(values) / RATE
        worst = min(robustness, key=robustness.__getitem__)
        milliseconds = 1000 * (time.process_time() - start) / seconds
        print(
            f"{name:24}{np.mean(agreement):12.3f}{min(agreement):12.2f}"
            f"{np.mean(list(robustness.values())):12.3f}{robustness[worst]:12.2f}{worst:>12}{milliseconds:12.2f}",
            flush=True,
        )
        means = float(np.mean(agreement)), float(np.mean(list(robustness.values())))
        figures = [means[0], min(agreement), means[1], robustness[worst], worst, milliseconds]
        rows.append({"method": name, **dict(zip(head, figures, strict=True))})
    write_results(args.json, "Detectors of R peaks", rows)


if __name__ == "__main__":
    main()
