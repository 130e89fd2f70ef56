"""The options of a job, made from those that were typed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from convnd.errors import UsageError
from convnd.options import flag_name, flags_of
from convnd.registry import unknown_name
from convnd_tasks.modalities import MODALITIES, modality_class, options_class
from convnd_tasks.modalities.style_network import UNUSED_OPTIONS
from convnd_tasks.pipeline.flags import applicable_modalities
from convnd_tasks.runtime.settings import JobSettings
from convnd_tasks.runtime.wording import join_words

if TYPE_CHECKING:
    from convnd.transfer.options import TransferOptions
    from convnd_tasks.pipeline.job_spec import JobSpec

__all__ = ["READING_OPTIONS", "make_options"]

READING_OPTIONS = (
    *("leads", "rate", "spacing", "series"),
    *("start", "end", "every", "deinterlace", "tone_map"),
)
"""Options that say how files are read; a transfer and an evaluation have them."""


def make_options(
    spec: JobSpec, typed_options: Mapping[str, Any], typed_settings: Mapping[str, Any]
) -> TransferOptions:
    """Make the options of a job from those that were typed.

    Args:
        spec: inputs and outputs of the job.
        typed_options: values of the options of the transfer that were typed, by field.
        typed_settings: values of the fields of `JobSettings` that were typed; they are checked.

    Raises:
        UnknownNameError: an option does not exist.
        UsageError: an option has no meaning for this kind of data, or a value is out of range.
    """
    kind = spec.modality
    unsupported = modality_class(kind).unsupported
    if spec.network is not None:
        _check_network_options([*typed_options], spec.network)
    for name in (*typed_options, *typed_settings):
        holders = applicable_modalities(name)
        if not holders:
            raise unknown_name("option", name, _option_names(kind))
        if name in unsupported:
            raise UsageError(
                f"{_typed(name)} has no meaning for {kind}: {unsupported[name]}; leave it out"
            )
        if kind not in holders:
            raise UsageError(
                f"{_typed(name)} applies to {join_words(sorted(holders))}, and these are {kind}; "
                "leave it out"
            )
    return options_class(kind).for_dim(spec.dim, **{**spec.defaults, **typed_options})


def _check_network_options(names: Sequence[str], network: str) -> None:
    """Refuse options of the optimisation, since a trained network makes the result."""
    from convnd.feedforward.network_file import is_look_network

    for name in names:
        draws = name == "seed" and is_look_network(network)
        if name in UNUSED_OPTIONS and not draws:
            raise UsageError(
                _typed(name),
                expected="no option of the optimisation with a trained network",
                got="one",
                remedy="leave it out, or train with it (convnd train)",
            )


def _option_names(kind: str) -> list[str]:
    names = [*flags_of(options_class(kind)), *flags_of(JobSettings)]
    return sorted(name for name in names if kind in applicable_modalities(name))


def _typed(name: str) -> str:
    kinds: list[type[Any]] = [JobSettings, *map(options_class, MODALITIES)]
    for kind in kinds:
        flags = flags_of(kind)
        if name in flags:
            return flag_name(name, flags[name][1])
    return flag_name(name)
