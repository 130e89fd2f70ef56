"""Electrocardiogram leads: their names, which follow from which, and their sampling."""

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
    "identity_error",
    "independent",
    "interpolate_gaps",
    "lead_key",
    "may_be_ecg",
    "per_millivolt",
    "resample",
    "resample_lead",
]

_PER_MILLIVOLT = {"mv": 1.0, "uv": 1e3, "µv": 1e3, "μv": 1e3, "v": 1e-3, "nv": 1e6}

_LEADS = {"i", "ii", "iii", "avr", "avl", "avf", "mli", "mlii", "mliii"}
_LEADS |= {f"{kind}{number}" for kind in ("v", "mcl", "mv") for number in range(1, 7)}

# Einthoven (III = II - I) and Goldberger, in terms of I and II.
DERIVED: Mapping[str, tuple[float, float]] = {
    "iii": (-1.0, 1.0),
    "avr": (-0.5, -0.5),
    "avl": (1.0, -0.5),
    "avf": (-0.5, 1.0),
}
"""Limb leads that follow from I and II: the factors of each."""


def lead_key(name: str) -> str:
    """What leads are matched by: case, "Lead", brackets and punctuation do not count.

    >>> lead_key("Lead I (Einthoven)"), lead_key("aVR"), lead_key("ECG V1")
    ('i', 'avr', 'v1')
    """
    bare = re.sub(r"\(.*?\)", "", name.lower())
    bare = re.sub(r"\b(lead|ecg|ekg)\b", "", bare.replace("_", " "))
    return re.sub(r"[^a-z0-9]+", "", bare) or name.lower()


def independent(names: Sequence[str]) -> list[int]:
    """Positions of the leads that do not follow from I and II.

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
    """All leads from the independent ones.

    Args:
        values: ``(1, K, T)``, in the order of ``independent(names)``.
        names: of all leads.

    Returns:
        ``(1, C, T)``.
    """
    import torch

    kept = independent(names)
    rows = dict(zip(kept, values.unbind(1), strict=True))
    at = {lead_key(names[index]): row for index, row in rows.items()}
    for index, name in enumerate(names):
        if index not in rows:
            one, two = DERIVED[lead_key(name)]
            rows[index] = (one * at["i"].double() + two * at["ii"].double()).to(values.dtype)
    return torch.stack([rows[index] for index in range(len(names))], 1)


def identity_error(grid: Grid) -> float | None:
    """Largest departure from the limb-lead identities, in mV (or in the file's own unit).

    None when there is nothing to compare: I and II are needed, and a lead that follows from them.
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
    """How many of each channel's units are a millivolt; None unless all are voltages."""
    found = [_PER_MILLIVOLT.get(unit.strip().lower()) for unit in value_units(grid)]
    return None if None in found else [each for each in found if each is not None]


def may_be_ecg(grid: Grid) -> bool:
    """Whether a signal may be an electrocardiogram: voltages in time, or leads named like one's.

    >>> import torch
    >>> from convnd.grid import Grid
    >>> lead = Grid(values=torch.zeros(1, 1, 9), spacing=(0.01,), units=("s",), channels=("II",))
    >>> may_be_ecg(lead), may_be_ecg(Grid(values=torch.zeros(1, 1, 9)))
    (True, False)
    """
    named = any(
        lead_key(name) in _LEADS or re.search("ecg|ekg", name.lower()) for name in grid.channels
    )
    return grid.units == ("s",) and (named or per_millivolt(grid) is not None)


def resample(values: Tensor, rate: float, wanted: float) -> Tensor:
    """The signal at another sampling rate, with what aliases taken out first.

    Polyphase filtering with a Kaiser window (`scipy.signal.resample_poly`), by the nearest ratio
    of whole numbers up to 10,000. Ends are continued as straight lines.

    Args:
        values: ``(B, C, T)``, without gaps.
        rate: samples per second now.
        wanted: samples per second then.

    Raises:
        DependencyError: scipy is missing.
    """
    import torch

    ratio = Fraction(wanted / rate).limit_denominator(10_000)
    if ratio == 1 or ratio == 0:
        return values
    signal = import_optional("scipy.signal", "resample")
    found = signal.resample_poly(
        values.double().numpy(), ratio.numerator, ratio.denominator, axis=-1, padtype="line"
    )
    return torch.from_numpy(found).to(values.dtype)


def band_limit(values: Tensor, rate: float, wanted: float) -> Tensor:
    """What of a signal a lower sampling rate can hold, at its own rate; lead by lead.

    Args:
        values: ``(B, C, T)``, without gaps.
        rate: samples per second.
        wanted: the lower rate.

    Raises:
        DependencyError: scipy is missing.
    """
    import torch

    found = [
        resample(resample(each[None], rate, wanted), wanted, rate)[..., : values.shape[2]]
        for each in values
    ]
    return torch.cat(found)


def resample_lead(signal: NDArray[np.float64], rate: float, wanted: float) -> NDArray[np.float64]:
    """The signal at another sampling rate, by `resample`."""
    import torch

    if rate == wanted:
        return signal
    return resample(torch.from_numpy(interpolate_gaps(signal))[None, None], rate, wanted)[
        0, 0
    ].numpy()


def interpolate_gaps(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gaps bridged by straight lines; zeros where there is nothing else."""
    import numpy as np

    good = np.isfinite(values)
    if good.all() or not good.any():
        return np.nan_to_num(values)
    at = np.arange(len(values))
    return np.interp(at, at[good], values[good])
