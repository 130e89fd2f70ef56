"""Preparation of recordings for a transfer: encodes their leads and finds their beats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convnd.errors import DependencyError, UsageError
from convnd.io.signals.signal import sampling_rate
from convnd_tasks.modalities.inputs import PreparedInputs, TransferInputs
from convnd_tasks.modalities.signals.beats import BeatTemplate, extract_beats
from convnd_tasks.modalities.signals.codec import LeadCodec
from convnd_tasks.modalities.signals.leads import may_be_ecg
from convnd_tasks.modalities.signals.peaks import MIN_RATE
from convnd_tasks.modalities.signals.texture_beats import texture_beats

if TYPE_CHECKING:
    from torch import Tensor

    from convnd_tasks.modalities.signals.options import SignalOptions

__all__ = ["prepare"]


def prepare(inputs: TransferInputs, options: SignalOptions) -> PreparedInputs:
    """Encode recordings, see `LeadCodec`, and find their beats.

    Args:
        inputs: grids ``(1, C, T)``.
        options: options, of which ``size``, ``leads``, ``beat_weight`` and ``style_weights`` are
            used.

    Raises:
        UsageError: beats are requested for a recording without a sampling rate or with a low one;
            or a requested lead is not in the content.
        InputFileError: a recording is too short, a lead has no values, no lead changes in all
            recordings, or leads or sampling rates do not fit.
    """
    codec = LeadCodec(inputs, options)
    content = None if inputs.content is None else codec.content
    beats, message = None, ""
    if _has_several_styles(inputs) and options.beat_weight is None:
        message = "beats keep the content's shape, since regions have styles of their own"
    elif options.beat_weight != 0:
        beats, message = _beats(inputs, options, codec)
    messages = [*codec.messages, *([message] if message else [])]
    return PreparedInputs(
        content=content,
        styles=codec.styles,
        feature_styles=None if beats is None else beats.styles,
        initial=None if beats is None else beats.insert,
        extra_terms=None if beats is None else lambda extent: [beats.term(extent[0])],
        record={"beat_weight_used": f"{0.0 if beats is None else beats.weight:g}"},
        known_bandwidth=codec.bandwidth,
        init=codec.init,
        size=codec.size,
        decode=codec.decode,
        encode_share=codec.encode_share,
        encode_style_share=_whole_style,
        spacing=codec.spacing,
        same_grid=True,
        matches_detail=True,
        messages=tuple(dict.fromkeys(messages)),
    )


def _has_several_styles(inputs: TransferInputs) -> bool:
    """Return whether regions take different styles, whose beats would be averaged."""
    regions = inputs.regions
    if regions is None:
        return False
    shared = set(regions.shared)
    return len({number for number in regions.styles.values() if number is not None} | shared) > 1


def _whole_style(_: int, share: Tensor | None) -> None:
    if share is not None:
        raise UsageError(
            "regions of a style",
            expected="pictures, arrays or scans, whose styles keep their positions",
            got="a signal",
            remedy="cut the style instead",
        )


def _beats(
    inputs: TransferInputs, options: SignalOptions, codec: LeadCodec
) -> tuple[BeatTemplate | None, str]:
    """Make the template of the styles' beats, if the user asks for beats or there are some.

    Returns:
        The template or None, and a message or "".
    """
    weight, template, names = options.beat_weight, inputs.template, codec.names
    has_rate = template.units == ("s",)
    can_have_beats = has_rate and sampling_rate(template) >= MIN_RATE
    if weight is not None and not can_have_beats:
        raise UsageError(
            "--beat-weight",
            expected=f"a {'style' if inputs.content is None else 'content'} with a sampling rate"
            + (f" of at least {MIN_RATE:g} Hz" if has_rate else ""),
            got=f"{sampling_rate(template):g} Hz" if has_rate else "one without",
            remedy=("" if has_rate else "add --rate, or ") + "leave --beat-weight out",
        )
    if not can_have_beats:
        return None, ""
    if weight is None and not (
        may_be_ecg(template, names) and all(may_be_ecg(style) for style in inputs.styles)
    ):
        return None, ""
    rate, labels = sampling_rate(template), [label for *_, label in inputs.labelled()]
    more: dict[str, Any] = {"weights": options.style_weights, "weight": weight}
    try:
        if inputs.content is None:
            more |= {"labels": labels[: len(inputs.styles)], "seed": options.seed}
            return texture_beats(
                codec.styles, names, rate, codec.size[0], periodic=options.seamless, **more
            )
        return extract_beats(codec.content, codec.styles, names, rate, labels=labels, **more)
    except DependencyError as error:
        if weight is not None:
            raise
        return None, f"beats are left out: {error}"
