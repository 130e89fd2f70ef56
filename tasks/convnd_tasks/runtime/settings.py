"""The settings of a job: how it reads its inputs, writes its results and resumes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from convnd.errors import UsageError
from convnd.io.video.codecs import CODECS, DEPTHS
from convnd.options import LOOK, OUTPUT, RESOURCES, Flag, Range, check_ranges
from convnd.registry import check_name
from convnd_tasks.runtime.fraction import parse_fraction

__all__ = ["INPUT", "JobSettings"]

INPUT = "Input"
"""Heading of the help."""


_WITH_REGIONS = ("pictures", "signals", "arrays", "volumes", "videos")


@dataclass(frozen=True, kw_only=True)
class JobSettings:
    """Settings of a job; how a result looks is in `convnd.transfer.options.TransferOptions`.

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
        recursive: search folders in a folder of contents, too.
        output: path of the result, or of the folder that it goes into; a folder is made where the
            content is one, or where the path ends in a slash. None makes a name.
        overwrite: replace existing results.
        skip_existing: leave results alone that were made with the same parameters.
        figures: write figures beside the result; None lets the kind of data decide.
        report: path of a report, one HTML file, or None.
        metadata: keep the parameters with the result.
        strip: do not copy camera, place, time, author and comments of the content's file.
        quality: quality of JPEG, WebP and AVIF files, 1 to 100.
        dtype: type of a scan's voxels: "float32", or "input" for the scan's own integers.
        codec: codec of a video, one of `convnd.io.video.codecs.CODECS`; "auto" is the container's.
        crf: constant rate factor of a video's encoder; None is the codec's default.
        preset: speed of a video's encoder, by its own names; "auto" is its default.
        bits: bits of each colour of a video, 8 or 10; None is 8, or 10 if the codec has no 8.
        audio: copy the sound of a video.
        save_every: steps from one numbered result to the next; 0 writes none.
        dry_run: take only the first steps, write nothing, and say how long the job takes, how much
            memory, and what it would write.
        quiet: show no progress.
        checkpoint_every: steps from one checkpoint to the next; one is also kept when the job is
            stopped. 0 keeps none.
        resume: continue from the checkpoint if there is one.
        shard: ``"I/N"`` takes only every N-th file of a folder, from the I-th.

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
    output: Annotated[
        str | None,
        Flag(
            "File or folder of the result; a new folder ends in /. Default: "
            "<content>_stylized in this folder.",
            OUTPUT,
            metavar="PATH",
            names=("-o", "--output"),
            recorded=False,
        ),
    ] = None
    overwrite: Annotated[bool, Flag("Replace existing results.", OUTPUT, recorded=False)] = False
    skip_existing: Annotated[
        bool,
        Flag(
            "Skip results that were made with the same parameters from the same inputs.",
            OUTPUT,
            recorded=False,
        ),
    ] = False
    figures: Annotated[
        bool | None,
        Flag(
            "Write figures beside the result. Default: for volumes, videos and the demos.",
            OUTPUT,
            recorded=False,
        ),
    ] = None
    report: Annotated[
        Path | None, Flag("Write a report, one HTML file.", OUTPUT, recorded=False)
    ] = None
    metadata: Annotated[
        bool,
        Flag("Store all parameters with the result, for `convnd rerun`.", OUTPUT, recorded=False),
    ] = True
    strip: Annotated[
        bool,
        Flag(
            "Do not copy camera, place, time, author and comments of the content's file. "
            "With --no-metadata, nothing but the picture is written.",
            OUTPUT,
            modalities=("pictures", "videos"),
        ),
    ] = False
    quality: Annotated[
        int,
        Flag("Quality of JPEG, WebP and AVIF results.", OUTPUT, modalities=("pictures",)),
        Range(1, 100),
    ] = 95
    dtype: Annotated[
        str,
        Flag(
            "Type of the voxels: float32, or input (the scan's own integers; the rounding error is "
            "reported).",
            OUTPUT,
            choices=("float32", "input"),
            modalities=("volumes",),
        ),
    ] = "float32"
    codec: Annotated[
        str,
        Flag(
            "Codec: h264, hevc, vp9, av1 or prores; auto: h264, or vp9 in .webm.",
            OUTPUT,
            choices=("auto", "h264", "hevc", "vp9", "av1", "prores"),
            modalities=("videos",),
        ),
    ] = "auto"
    crf: Annotated[
        int | None,
        Flag(
            "Constant rate factor of the encoder: smaller keeps more. Default: 18 for h264, 20 for "
            "hevc, 24 for vp9, 28 for av1.",
            OUTPUT,
            modalities=("videos",),
        ),
        Range(0, 63),
    ] = None
    preset: Annotated[
        str,
        Flag(
            "Speed of the encoder: ultrafast to veryslow of h264 and hevc, 8 to 0 of vp9, 13 to 0 "
            "of av1.",
            OUTPUT,
            modalities=("videos",),
        ),
    ] = "auto"
    bits: Annotated[
        int | None,
        Flag(
            "Bits of each colour: 8, or 10 (h264, hevc, av1, prores).",
            OUTPUT,
            modalities=("videos",),
        ),
        Range(8, 10),
    ] = None
    audio: Annotated[bool, Flag("Copy the sound.", OUTPUT, modalities=("videos",))] = True
    save_every: Annotated[
        int,
        Flag(
            "Also write a numbered result every so many steps.",
            OUTPUT,
            modalities=("pictures", "signals", "arrays", "volumes"),
            recorded=False,
        ),
        Range(0, 10_000_000),
    ] = 0
    dry_run: Annotated[
        bool,
        Flag(
            "Take only the first steps, write nothing, and say how long the job takes, how much "
            "memory, and what it would write.",
            OUTPUT,
            recorded=False,
        ),
    ] = False
    quiet: Annotated[
        bool, Flag("Show no progress.", OUTPUT, names=("-q", "--quiet"), recorded=False)
    ] = False
    checkpoint_every: Annotated[
        int,
        Flag(
            "Keep a checkpoint beside the result every so many steps, and when stopped.",
            RESOURCES,
            modalities=("pictures", "signals", "arrays", "volumes"),
            recorded=False,
        ),
        Range(0, 10_000_000),
    ] = 0
    resume: Annotated[
        bool,
        Flag(
            "Continue from the checkpoint; without one, start from the beginning.",
            RESOURCES,
            recorded=False,
        ),
    ] = False
    recursive: Annotated[
        bool, Flag("Search folders in a folder of contents, too.", INPUT, recorded=False)
    ] = False
    shard: Annotated[
        str,
        Flag(
            "Stylise every Nth file of a folder, from the Ith on: the share of one of N "
            "machines. Processes that torchrun starts share a folder without this option.",
            RESOURCES,
            metavar="I/N",
            recorded=False,
        ),
    ] = ""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.dtype not in ("float32", "input"):
            raise UsageError(
                "--dtype", expected="float32 or input", got=repr(self.dtype), remedy="choose one"
            )
        if self.codec != "auto":
            check_name("codec", self.codec, CODECS)
        if self.bits not in (None, *DEPTHS):
            raise UsageError("--bits", expected="8 or 10", got=self.bits, remedy="choose one")
        if self.vary and not self.sheet:
            raise UsageError(
                "--vary", expected="--sheet besides it", got="none", remedy="add --sheet"
            )
        if self.skip_existing and not self.metadata:
            raise UsageError(
                "--skip-existing",
                expected="results with a record of how they were made",
                got="--no-metadata",
                remedy="leave one of the two out",
            )
        if (self.region or self.style_regions) and self.regions is None:
            raise UsageError(
                "--region" if self.region else "--style-regions",
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
