"""The settings of a job: how it writes its results and resumes, besides how it reads inputs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from convnd.errors import UsageError
from convnd.io.video.codecs import CODECS, DEPTHS
from convnd.options import OUTPUT, RESOURCES, WORK, Flag, Range
from convnd.registry import check_name
from convnd_tasks.runtime.input_settings import INPUT, InputSettings

__all__ = ["JobSettings"]


@dataclass(frozen=True, kw_only=True)
class JobSettings(InputSettings):
    """Settings of a job; how a result looks is in `convnd.transfer.options.TransferOptions`.

    The other settings are those of `InputSettings`.

    Args:
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
        live: show the work on a local page, see `convnd_tasks.view.attached`.
        quiet: show no progress.
        checkpoint_every: steps from one checkpoint to the next; one is also kept when the job is
            stopped. 0 keeps none.
        resume: continue from the checkpoint if there is one.
        change: ``"STEP:OPTION=VALUE"`` gives an option another value from a step on, see
            `convnd_tasks.runtime.changes`.
        shard: ``"I/N"`` takes only every N-th file of a folder, from the I-th.

    Raises:
        UsageError: a value is outside its range.
    """

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
    live: Annotated[
        bool,
        Flag(
            "Print the address of a local page that shows the steps and takes changes; the work "
            "goes on without it.",
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
    change: Annotated[
        tuple[str, ...],
        Flag(
            "Give an option another value after a step (of videos, a number of frames), as the "
            "dials of `convnd view` do; weights of several styles have colons between. May be "
            "repeated.",
            WORK,
            metavar="STEP:OPTION=VALUE",
            repeated=True,
        ),
    ] = ()
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
        super().__post_init__()
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
