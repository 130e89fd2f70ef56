"""The settings of a job that say which inputs it has, and how they are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from convnd.errors import UsageError
from convnd.options import LOOK, Flag, Range, check_fields
from convnd_tasks.runtime.fraction import parse_fraction

__all__ = ["INPUT", "InputSettings"]

INPUT = "Input"
"""Heading of the help."""


_WITH_REGIONS = ("pictures", "signals", "arrays", "volumes", "videos")


@dataclass(frozen=True, kw_only=True)
class InputSettings:
    """Settings of a job about its inputs.

    Args:
        texture: every file is a style, and there is no content.
        mask: path of an input of the content's kind: 0 keeps the content, 1 takes the result.
        regions: path of a map of the content's regions: colours in a picture, whole numbers in a
            scan or an array, intervals of time in a table for signals; of a video one picture, or a
            video or folder of as many.
        region: ``LABEL=STYLE`` for each label of the map, a path or the name of a built-in style,
            or ``keep``. Labels without one take the styles that are given besides, if any.
        style_regions: path of a map for each style: a region takes the part of its style that has
            the same label.
        keyframe: ``FRAME=FILE`` for each frame of a video, counted from 0, whose result is known.
        region_edge: standard deviation of the Gaussian that blurs the edges of regions, in samples
            of the map along its finest axis; 0 keeps them as they are.
        track_regions: move the map of a video's first frame along the optical flow.
        rate: samples per second of signals, or frames per second of a folder of pictures, whose
            files do not hold it; a number or a fraction as ``"30000/1001"``.
        spacing: millimetres between samples along three axes, for arrays: ``"0.6,0.6,5"``.
        series: UID, number or description of the series in a folder of several, of DICOM files;
            ``"CONTENT,STYLE"`` where both folders hold several.
        start: seconds into a video where the result begins.
        end: seconds into a video where the result ends; None is its end.
        every: distance, in frames, of the frames of a video that are taken.
        deinterlace: turn frames of two fields into progressive ones.
        tone_map: bring videos of high dynamic range into BT.709.
        sheet: make small results of each style by itself, and write one picture of them.
        vary: options whose values vary in a sheet, as ``"strength=0.5,1 style-scale=1,2"``; empty
            varies the strength.
        preview: stylise only the first frame of a video, and write it as a picture.

    Raises:
        UsageError: a value is outside its range.
    """

    texture: Annotated[
        bool,
        Flag(
            "Make a texture: every file is a style, and there is no content.",
            LOOK,
            modalities=("pictures", "signals", "arrays", "videos"),
        ),
    ] = False
    mask: Annotated[
        str | None,
        Flag(
            "A file of the content's kind: 0 keeps the content, 1 takes the result.",
            LOOK,
            metavar="FILE",
        ),
    ] = None
    regions: Annotated[
        str | None,
        Flag(
            "Map of the content's regions: a picture with a colour for each (for a video also a "
            "video of such pictures), whole numbers in a scan or an array, a table of intervals "
            "(start, end, label) for signals.",
            LOOK,
            metavar="FILE",
            modalities=_WITH_REGIONS,
        ),
    ] = None
    region: Annotated[
        tuple[str, ...],
        Flag(
            "Style of each region, for example red=painting.jpg,blue=waves,white=keep; keep leaves "
            "the content as it is.",
            LOOK,
            metavar="LABEL=STYLE,...",
            repeated=True,
            modalities=_WITH_REGIONS,
        ),
    ] = ()
    style_regions: Annotated[
        tuple[str, ...],
        Flag(
            "Map of each style: a region takes the part of its style with the same label.",
            LOOK,
            metavar="FILE,...",
            modalities=("pictures", "arrays", "volumes", "videos"),
        ),
    ] = ()
    keyframe: Annotated[
        tuple[str, ...],
        Flag(
            "Result of a frame, counted from 0, that you painted or stylised; frames between "
            "follow it. May be repeated.",
            LOOK,
            metavar="FRAME=FILE",
            modalities=("videos",),
            repeated=True,
        ),
    ] = ()
    region_edge: Annotated[
        float,
        Flag(
            "Width of the soft edges between regions, in samples of the map (standard deviation "
            "of a Gaussian).",
            LOOK,
            modalities=("pictures", "arrays", "volumes", "videos"),
        ),
        Range(0, 1000),
    ] = 0.0
    track_regions: Annotated[
        bool,
        Flag(
            "Move the regions of a video's first frame along the optical flow.",
            LOOK,
            modalities=("videos",),
        ),
    ] = False
    rate: Annotated[
        str | None,
        Flag(
            "Samples per second of a signal, or frames per second of a folder of pictures, "
            "where no file holds it.",
            INPUT,
            metavar="N",
            modalities=("signals", "videos"),
        ),
    ] = None
    spacing: Annotated[
        str,
        Flag(
            "Millimetres between samples of a scan in .npy or .npz.",
            INPUT,
            metavar="X,Y,Z",
            modalities=("volumes",),
        ),
    ] = ""
    series: Annotated[
        str,
        Flag(
            "DICOM series to take from a folder of several: its number, description or UID. "
            "CONTENT,STYLE: one for each of two such folders.",
            INPUT,
            metavar="NAME",
            modalities=("volumes",),
        ),
    ] = ""
    start: Annotated[
        str,
        Flag(
            "Begin at this time.",
            INPUT,
            metavar="SECONDS",
            names=("--from",),
            modalities=("videos",),
        ),
    ] = "0"
    end: Annotated[
        str | None,
        Flag(
            "End at this time.", INPUT, metavar="SECONDS", names=("--to",), modalities=("videos",)
        ),
    ] = None
    every: Annotated[
        int, Flag("Take only every Nth frame.", INPUT, modalities=("videos",)), Range(1, 1_000_000)
    ] = 1
    deinterlace: Annotated[
        bool, Flag("Turn interlaced frames into progressive ones.", INPUT, modalities=("videos",))
    ] = False
    tone_map: Annotated[
        bool,
        Flag(
            "Convert high dynamic range (PQ, HLG, BT.2020) to BT.709.",
            INPUT,
            modalities=("videos",),
        ),
    ] = False
    sheet: Annotated[
        bool,
        Flag(
            "Write one picture of small, numbered results, to choose from: each style by itself, "
            "with several strengths; `convnd rerun SHEET --pick N --size S` makes one of them.",
            LOOK,
            modalities=("pictures", "signals", "arrays", "volumes"),
        ),
    ] = False
    vary: Annotated[
        str,
        Flag(
            "Options and their values in a --sheet; without it strength=0.4,0.7,1.",
            LOOK,
            metavar="'OPTION=V,V,... ...'",
            modalities=("pictures", "signals", "arrays", "volumes"),
        ),
    ] = ""
    preview: Annotated[
        bool,
        Flag(
            "Stylise only the first frame, as a picture, and estimate the time for all of them.",
            INPUT,
            modalities=("videos",),
        ),
    ] = False

    def __post_init__(self) -> None:
        check_fields(self)
        given = {
            "--region": self.region,
            "--style-regions": self.style_regions,
            "--region-edge": self.region_edge,
        }
        unused = [name for name, value in given.items() if value]
        if unused and self.regions is None:
            raise UsageError(
                unused[0],
                expected="a map of the content's regions",
                got="none",
                remedy="give one with --regions FILE",
            )
        if self.rate is not None:
            rate = parse_fraction("--rate", self.rate)
            if not 0 < rate <= 10**9:
                raise UsageError(
                    "--rate",
                    expected="0 < rate <= 1000000000",
                    got=self.rate,
                    remedy="for example 25",
                )
        start = parse_fraction("--from", self.start)
        if self.end is not None and parse_fraction("--to", self.end) <= start:
            raise UsageError(
                "--to",
                expected=f"a time after --from, which is {self.start} s",
                got=f"{self.end} s",
                remedy="give a later one, or leave it out for the end of the video",
            )
