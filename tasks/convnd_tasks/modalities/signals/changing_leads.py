"""Chooses the leads of a recording that are stylised: those that vary in content and styles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from convnd.errors import InputFileError, UsageError
from convnd_tasks.modalities.base import MIN_EXTENT
from convnd_tasks.modalities.inputs import LabelledGrid
from convnd_tasks.modalities.signals.leads import independent, lead_key, lead_kind
from convnd_tasks.modalities.signals.matching import match_leads
from convnd_tasks.modalities.signals.selection import choose_rate, with_leads

if TYPE_CHECKING:
    from convnd.grid import Grid

__all__ = ["LeadChoice", "choose_leads", "matching_grid"]


class LeadChoice(NamedTuple):
    """The independent leads of a recording, divided into those that are stylised and the others.

    Args:
        changing: indices of the leads that are stylised.
        unchanged: indices of the other leads.
        messages: lines for users about leads that do not change.
    """

    changing: list[int]
    unchanged: list[int]
    messages: list[str]


def choose_leads(
    content: LabelledGrid, styles: Sequence[LabelledGrid], pairs: Mapping[str, str]
) -> LeadChoice:
    """Choose the leads to stylise: independent ones that vary in content and styles.

    Args:
        content: the recording whose leads the result has.
        styles: recordings with leads of these names, or with one lead.
        pairs: the style's lead for each lead that the user chose, see `lead_pairs`; empty chooses
            all leads but triggers.

    Raises:
        UsageError: a requested lead is not in the content, or follows from other leads.
        InputFileError: no lead changes in all recordings.
    """
    channels = content.grid.channels
    leads, messages = _requested_leads(content, pairs)
    constant = dict.fromkeys(
        [index for index in _constant_leads(content.grid) if index in leads], content.label
    )
    names = [channels[index] for index in leads]
    for style in styles:
        grid = matching_grid(style.grid, names, pairs)
        constant_rows = _constant_leads(grid)
        rows = match_leads(style.label, names, grid, pairs)
        for index, row in zip(leads, rows, strict=True):
            if row in constant_rows:
                constant.setdefault(index, style.label)
    changing = [index for index in leads if index not in constant]
    if not changing:
        raise InputFileError(
            constant[leads[0]],
            expected="a lead that changes in content and style",
            got=f"a constant {channels[leads[0]]}",
            remedy="use another recording",
        )
    for source in dict.fromkeys(constant.values()):
        flat = ", ".join(channels[index] for index in constant if constant[index] == source)
        messages.append(f"{source} is constant or empty in {flat}, which stays unchanged")
    unchanged = [index for index in independent(channels) if index not in changing]
    return LeadChoice(changing, unchanged, messages)


def matching_grid(grid: Grid, names: Sequence[str], pairs: Mapping[str, str]) -> Grid:
    """Bring these leads into the grid of another recording, even if they have another rate."""
    if len(grid.channels) == 1 and not pairs:
        return grid
    return with_leads(grid, [pairs.get(lead_key(name), lead_key(name)) for name in names]) or grid


def _requested_leads(
    content: LabelledGrid, pairs: Mapping[str, str]
) -> tuple[list[int], list[str]]:
    """Find the independent leads that the user chose, or all but an index and triggers."""
    channels = content.grid.channels
    leads = independent(channels)
    if not pairs:
        return _leads_with_values(content, leads)
    choose_rate(content.grid, list(pairs), content.label)
    chosen_leads = [index for index in leads if lead_key(channels[index]) in pairs]
    if not chosen_leads:
        raise UsageError(
            f"--leads: {content.label}",
            expected="I or II",
            got=f"{', '.join(pairs)}, which follow from them",
            remedy="choose I, II or both",
        )
    return chosen_leads, []


def _leads_with_values(content: LabelledGrid, leads: list[int]) -> tuple[list[int], list[str]]:
    """Find the leads with neither an index nor triggers, and make messages about the others."""
    channels = content.grid.channels
    marks = [index for index in leads if lead_kind(channels[index]) == "marks"]
    index = [0] if 0 in leads and _rises_evenly(content.grid) else []
    left_out = [*index, *marks]
    if not left_out or len(left_out) == len(leads):
        return leads, []
    messages = [
        f"{content.label} has {reason} in {', '.join(channels[row] for row in rows)}, "
        "which stays unchanged"
        for reason, rows in (("an index or times", index), ("marks", marks))
        if rows
    ]
    return [row for row in leads if row not in left_out], messages


def _rises_evenly(grid: Grid) -> bool:
    """Whether the first lead of a recording rises evenly, as an index or times do."""
    import torch

    lead = grid.values[0, 0].double()
    if len(lead) < MIN_EXTENT or not bool(torch.isfinite(lead).all()):
        return False
    step = (lead[-1] - lead[0]) / (len(lead) - 1)
    distance = (lead - lead[0] - step * torch.arange(len(lead))).abs().max()
    rounding = 4 * lead.abs().max() * torch.finfo(torch.float32).eps
    return bool(step > 0) and bool(distance <= 0.01 * step + rounding)


def _constant_leads(grid: Grid) -> set[int]:
    """Find the leads whose finite values are all equal, or that have none; indices."""
    import torch

    constant = set()
    for index, lead in enumerate(grid.values[0]):
        finite = lead[torch.isfinite(lead)]
        if not len(finite) or bool((finite == finite[0]).all()):
            constant.add(index)
    return constant
