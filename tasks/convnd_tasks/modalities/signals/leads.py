"""Leads: their names, the limb leads that follow from others, and their sampling rates."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from convnd.io.reading import import_optional
from convnd.io.signals.signal import value_units

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from convnd.grid import Grid

__all__ = [
    "DERIVED",
    "band_limit",
    "derive_leads",
    "find_name",
    "identity_error",
    "independent",
    "interpolate_gaps",
    "is_ecg_lead",
    "is_other_lead",
    "lead_key",
    "lead_kind",
    "may_be_ecg",
    "per_millivolt",
    "resample",
    "resample_lead",
]

_PER_MILLIVOLT = {"mv": 1.0, "uv": 1e3, "µv": 1e3, "μv": 1e3, "v": 1e-3, "nv": 1e6}

_LEADS = {"i", "ii", "iii", "avr", "avl", "avf", "mli", "mlii", "mliii"}
_LEADS |= {f"{kind}{number}" for kind in ("v", "mcl", "mv") for number in range(1, 7)}

_MARKS = {"status", "trigger", "trig", "sti", "stim", "marker", "markers", "event", "events"}
_OTHER_WORDS = {
    *("ppg", "spo", "sao", "resp", "rsp", "eeg", "emg", "eog", "ecog", "ieeg", "seeg", "meg"),
    *("eda", "gsr", "scr", "scl", "abp", "art", "bp", "nibp", "pap", "cvp", "icp", "acc", "gyro"),
    *("co", "etco", "pulse", "hr", "pr", "imu", "light", "sound", "audio", "mic", "snore", "flow"),
    *("mag", "thor", "abdo", "abd", "nasal", "effort", "chin", "gait", "force", "angle"),
}
_OTHER_STEMS = (
    *("pleth", "photopleth", "respir", "breath", "airflow", "temp", "press", "accel", "oxy"),
)
_SCALP = re.compile("(fp|af|f|fc|ft|c|cp|t|tp|p|po|o|a|m)([0-9]{1,2}|z)")

# Einthoven (III = II - I) and Goldberger, in terms of I and II.
DERIVED: Mapping[str, tuple[float, float]] = {
    "iii": (-1.0, 1.0),
    "avr": (-0.5, -0.5),
    "avl": (1.0, -0.5),
    "avf": (-0.5, 1.0),
}
"""Limb leads that follow from I and II: the factors of each."""


def lead_key(name: str) -> str:
    """Reduce the name of a lead to a key by which leads of recordings are matched.

    Case, the word "Lead", brackets and punctuation are dropped.

    >>> lead_key("Lead I (Einthoven)"), lead_key("aVR"), lead_key("ECG V1")
    ('i', 'avr', 'v1')
    """
    bare = re.sub(r"\(.*?\)", "", name.lower())
    bare = re.sub(r"\b(lead|ecg|ekg)\b", "", bare.replace("_", " "))
    return re.sub(r"[^a-z0-9]+", "", bare) or name.lower()


def find_name(names: Sequence[str], name: str) -> int | None:
    """Return the index of a lead by its name; a recording of one lead serves for all.

    Args:
        names: names of the leads of a recording.
        name: name of a lead in another recording.

    Returns:
        None if the recording has no such lead.

    >>> find_name(["I", "II"], "Lead ii"), find_name(["I", "II"], "V1"), find_name(["ch1"], "V1")
    (1, None, 0)
    """
    keys = [lead_key(one) for one in names]
    if lead_key(name) in keys:
        return keys.index(lead_key(name))
    return 0 if len(keys) == 1 else None


def independent(names: Sequence[str]) -> list[int]:
    """Find the leads that do not follow from I and II; indices.

    >>> independent(["I", "II", "III", "aVR", "V1"])
    [0, 1, 4]
    >>> independent(["II", "III"])
    [0, 1]
    """
    keys = [lead_key(name) for name in names]
    if not {"i", "ii"} <= set(keys):
        return list(range(len(names)))
    return [index for index, key in enumerate(keys) if key not in DERIVED]


def derive_leads(values: Tensor, names: Sequence[str]) -> Tensor:
    """Compute all leads from the independent ones.

    Args:
        values: independent leads ``(1, K, T)``, in the order of ``independent(names)``.
        names: names of all leads.

    Returns:
        ``(1, C, T)``.
    """
    import torch

    rows = dict(zip(independent(names), values.unbind(1), strict=True))
    by_key = {lead_key(names[index]): row for index, row in rows.items()}
    for index, name in enumerate(names):
        if index not in rows:
            one, two = DERIVED[lead_key(name)]
            derived_lead = one * by_key["i"].double() + two * by_key["ii"].double()
            rows[index] = derived_lead.to(values.dtype)
    return torch.stack([rows[index] for index in range(len(names))], 1)


def identity_error(grid: Grid) -> float | None:
    """Measure the largest error of the limb-lead identities, in mV or the unit of the file.

    Returns:
        None without I, II and a lead that follows from them.
    """
    import torch

    keys = [lead_key(name) for name in grid.channels]
    if not {"i", "ii"} <= set(keys) or not set(keys) & set(DERIVED):
        return None
    values = grid.values[0].double()
    scale = per_millivolt(grid)
    if scale is not None:
        values = values / torch.tensor(scale, dtype=torch.float64)[:, None]
    one, two = values[keys.index("i")], values[keys.index("ii")]
    worst = 0.0
    for key, (a, b) in DERIVED.items():
        if key in keys:
            error = (values[keys.index(key)] - a * one - b * two).abs()
            error = error[torch.isfinite(error)]
            worst = max(worst, error.max().item() if error.numel() else 0.0)
    return worst


def per_millivolt(grid: Grid) -> list[float] | None:
    """Return how many units of each channel make a millivolt; None unless all are voltages."""
    factors = [_PER_MILLIVOLT.get(unit.strip().lower()) for unit in value_units(grid)]
    return None if None in factors else [factor for factor in factors if factor is not None]


def lead_kind(name: str) -> str:
    """Classify a lead by its name.

    Returns:
        ``"ecg"``; ``"marks"`` for triggers and status words; ``"other"`` for pulse, respiration,
        brain, muscles and so on; "" for any other name.

    >>> [lead_kind(name) for name in ("Lead II", "PLETH", "EEG Fpz-Cz", "Resp nasal", "ch1")]
    ['ecg', 'other', 'other', 'other', '']
    """
    if lead_key(name) in _LEADS or re.search("ecg|ekg", name.lower()):
        return "ecg"
    words = re.findall("[a-zµ]+[0-9]*", name.lower())
    if any(word in _MARKS for word in words):
        return "marks"
    stems = {word.rstrip("0123456789") for word in words}
    if stems & _OTHER_WORDS or any(stem.startswith(_OTHER_STEMS) for stem in stems):
        return "other"
    # Electrodes of the 10-20 system, also as pairs. C1 to C6 may be chest leads, too.
    electrodes = [word for word in words if word not in {"ref", "le", "avg", "m"}]
    is_scalp = bool(electrodes) and all(_SCALP.fullmatch(word) for word in electrodes)
    return "other" if is_scalp else ""


def is_other_lead(name: str, names: Sequence[str]) -> bool:
    """Whether a lead of a recording is not of an electrocardiogram, by its name.

    C1 to C6 are positions on the scalp, but chest leads next to other leads of an
    electrocardiogram.

    Args:
        name: name of the lead.
        names: names of all leads of the recording.

    >>> is_other_lead("C3", ["C3", "C4"]), is_other_lead("C3", ["I", "II", "C3"])
    (True, False)
    """
    is_chest = re.fullmatch("c[1-6]", lead_key(name)) is not None
    if is_chest and any(lead_kind(other) == "ecg" for other in names):
        return False
    return lead_kind(name) in ("other", "marks")


def is_ecg_lead(name: str, unit: str) -> bool:
    """Whether a lead may be of an electrocardiogram, by its name, or else by its unit."""
    kind = lead_kind(name)
    return kind == "ecg" or (not kind and unit.strip().lower() in _PER_MILLIVOLT)


def may_be_ecg(grid: Grid, names: Sequence[str] | None = None) -> bool:
    """Whether a recording may be an electrocardiogram.

    It may if it has a sampling rate, and a lead with the name of one of an electrocardiogram, or a
    voltage whose name is not that of another kind of lead.

    Args:
        grid: the recording.
        names: names of the leads to check; None is all.

    >>> import torch
    >>> from convnd.grid import Grid
    >>> lead = Grid(values=torch.zeros(1, 1, 9), spacing=(0.01,), units=("s",), channels=("II",))
    >>> may_be_ecg(lead), may_be_ecg(Grid(values=torch.zeros(1, 1, 9)))
    (True, False)
    """
    leads = zip(grid.channels, value_units(grid), strict=True)
    return grid.units == ("s",) and any(
        is_ecg_lead(name, unit) for name, unit in leads if names is None or name in names
    )


def resample(values: Tensor, rate: float, new_rate: float) -> Tensor:
    """Bring a signal to another sampling rate, without aliases.

    The method is polyphase filtering with a Kaiser window (`scipy.signal.resample_poly`), by the
    nearest ratio of whole numbers up to 10,000. Ends are continued as straight lines.

    Args:
        values: ``(B, C, T)``, without gaps.
        rate: samples per second of the values.
        new_rate: samples per second of the result.

    Raises:
        DependencyError: scipy is missing.
    """
    import torch

    if _rate_ratio(rate, new_rate) == 1:
        return values
    resampled_values = _resample_array(values.double().numpy(), rate, new_rate)
    return torch.from_numpy(resampled_values).to(values.dtype)


def _rate_ratio(rate: float, new_rate: float) -> Fraction:
    """The nearest ratio of whole numbers up to 10,000; 1 if that is 0."""
    return Fraction(new_rate / rate).limit_denominator(10_000) or Fraction(1)


def _resample_array(
    values: NDArray[np.float64], rate: float, new_rate: float
) -> NDArray[np.float64]:
    """Resample the last axis, see `resample`; without torch, for processes that do not load it."""
    ratio = _rate_ratio(rate, new_rate)
    if ratio == 1:
        return values
    signal = import_optional("scipy.signal", "resample")
    resampled_values: NDArray[np.float64] = signal.resample_poly(
        values, ratio.numerator, ratio.denominator, axis=-1, padtype="line"
    )
    return resampled_values


def band_limit(values: Tensor, rate: float, low_rate: float) -> Tensor:
    """Remove the frequencies that a lower sampling rate cannot hold.

    Args:
        values: ``(B, C, T)``, without gaps.
        rate: samples per second of the values.
        low_rate: the lower sampling rate, samples per second.

    Raises:
        DependencyError: scipy is missing.
    """
    import torch

    leads = [resample(resample(lead[None], rate, low_rate), low_rate, rate) for lead in values]
    return torch.cat([lead[..., : values.shape[2]] for lead in leads])


def resample_lead(signal: NDArray[np.float64], rate: float, new_rate: float) -> NDArray[np.float64]:
    """Bridge the gaps of one lead ``(T,)``, and bring it to another sampling rate by `resample`."""
    if rate == new_rate:
        return signal
    return _resample_array(interpolate_gaps(signal), rate, new_rate)


def interpolate_gaps(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bridge gaps (NaN) of ``(T,)`` with straight lines; a lead without values becomes zeros."""
    import numpy as np

    finite = np.isfinite(values)
    if finite.all() or not finite.any():
        return np.nan_to_num(values)
    positions = np.arange(len(values))
    return np.interp(positions, positions[finite], values[finite])
