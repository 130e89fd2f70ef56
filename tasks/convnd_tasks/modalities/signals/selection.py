"""Selects the leads of a recording by name, and by sampling rate."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from convnd.errors import UsageError
from convnd.grid import Grid
from convnd.io.signals.signal import OtherLead, describe, sampling_rate, signal_of, value_units
from convnd_tasks.modalities.signals.leads import lead_key

if TYPE_CHECKING:
    from convnd.io.signals.signal import Signal

__all__ = ["choose_rate", "describe_others", "lead_pairs", "with_leads"]


def lead_pairs(leads: Sequence[str]) -> Mapping[str, str]:
    """Parse ``--leads`` to the key of the style's lead by the key of the content's, see `lead_key`.

    Args:
        leads: names, or ``CONTENT=STYLE`` for leads of different names.

    Raises:
        UsageError: a name is missing on one side of ``=``.

    >>> lead_pairs(["Lead II", "V1=MCL1"])
    {'ii': 'ii', 'v1': 'mcl1'}
    """
    pairs = {}
    for entry in leads:
        name, _, style_name = entry.partition("=")
        if not name.strip() or ("=" in entry and not style_name.strip()):
            raise UsageError(
                "--leads", expected="NAME or CONTENT=STYLE", got=repr(entry), remedy="correct it"
            )
        pairs[lead_key(name)] = lead_key(style_name or name)
    return pairs


def choose_rate(grid: Grid, keys: Sequence[str], label: str) -> Grid:
    """Bring the leads with these keys into the grid of a recording.

    Args:
        grid: the recording; its metadata hold leads of other sampling rates.
        keys: keys of the leads, see `lead_key`.
        label: name of the recording, for the message.

    Raises:
        UsageError: there is no such lead, or the leads have several sampling rates.
    """
    if set(keys) <= {lead_key(name) for name in grid.channels}:
        return grid
    chosen_grid = with_leads(grid, keys)
    if chosen_grid is not None:
        return chosen_grid
    rates = {lead_key(name): sampling_rate(grid) for name in grid.channels}
    rates |= {lead_key(other.name): other.rate for other in signal_of(grid).others}
    names = [*grid.channels, *(other.name for other in signal_of(grid).others)]
    unknown_leads = [key for key in keys if key not in rates]
    if unknown_leads:
        raise UsageError(
            f"--leads: {label}", expected=f"some of {', '.join(names)}", got=unknown_leads[0],
            remedy="correct it",
        )  # fmt: skip
    lead_rates = ", ".join(f"{key} at {rates[key]:g} Hz" for key in keys)
    raise UsageError(
        f"--leads: {label}", expected="leads of one sampling rate", got=lead_rates,
        remedy="stylise them one rate at a time",
    )  # fmt: skip


def with_leads(grid: Grid, keys: Sequence[str]) -> Grid | None:
    """Exchange the leads of a grid for those of another sampling rate.

    Args:
        grid: the recording; its metadata hold leads of other sampling rates.
        keys: keys of the leads, see `lead_key`.

    Returns:
        None if no other rate has all of the leads.
    """
    import numpy as np
    import torch

    signal = signal_of(grid)
    rates = {other.rate for other in signal.others if lead_key(other.name) in keys}
    members = [other for other in signal.others if other.rate in rates]
    if len(rates) != 1 or not set(keys) <= {lead_key(other.name) for other in members}:
        return None
    other_leads = [other for other in signal.others if other.rate not in rates]
    new_grid = dataclasses.replace(
        grid,
        values=torch.from_numpy(np.stack([other.values for other in members]).astype("f"))[None],
        spacing=(1 / rates.pop(),),
        channels=tuple(other.name for other in members),
    )
    steps = tuple(other.step for other in members)
    return describe(
        new_grid,
        units=tuple(other.unit for other in members),
        steps=steps if all(steps) else (),
        zeros=tuple(other.zero for other in members),
        positions=tuple(other.position for other in members),
        others=(*other_leads, *_as_others(grid, signal)),
    )


def _as_others(grid: Grid, signal: Signal) -> list[OtherLead]:
    """Convert the leads of a grid to metadata of a recording with another rate."""
    count = len(grid.channels)
    steps = signal.steps if len(signal.steps) == count else (0.0,) * count
    zeros = signal.zeros if len(signal.zeros) == count else (0,) * count
    positions = signal.positions if len(signal.positions) == count else range(count)
    return [
        OtherLead(
            name=name,
            unit=unit,
            rate=sampling_rate(grid),
            position=position,
            values=row.double().numpy(),
            step=step,
            zero=zero,
        )
        for name, unit, position, row, step, zero in zip(
            grid.channels, value_units(grid), positions, grid.values[0], steps, zeros, strict=True
        )
    ]


def describe_others(grid: Grid, label: str) -> str:
    """Make a message about leads that do not change because of their rate; "" if there are none."""
    other_leads = signal_of(grid).others
    if not other_leads:
        return ""
    names = ", ".join(f"{other.name} at {other.rate:g} Hz" for other in other_leads)
    return (
        f"{label} has leads of several sampling rates: {', '.join(grid.channels)} at "
        f"{sampling_rate(grid):g} Hz change, {names} stay as they are; --leads chooses others"
    )
