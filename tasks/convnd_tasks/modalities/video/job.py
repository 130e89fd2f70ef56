"""One clip from its file to the result: what is checked, done, kept and written, in that order."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd import __version__, io
from convnd.errors import ResourceError, UsageError
from convnd_tasks.modalities.video.blocks import BlockTransfer
from convnd_tasks.modalities.video.figures import Gallery
from convnd_tasks.modalities.video.frames import VideoTransfer
from convnd_tasks.modalities.video.input import Part, even_fit
from convnd_tasks.modalities.video.keeping import FrameStore
from convnd_tasks.modalities.video.options import NOT_OF_CLIPS, VideoOptions
from convnd_tasks.pipeline.checkpoints import FREE
from convnd_tasks.pipeline.provenance import parameters

if TYPE_CHECKING:
    from convnd.grid import Grid
    from convnd.io import Video, VideoFrame, VideoInfo
    from convnd.transfer.style_transfer import Progress

__all__ = ["VideoInputs", "VideoJob", "VideoOutcome", "mean_of"]


@dataclass(frozen=True, kw_only=True)
class VideoInputs:
    """A clip, styles, and what they are called."""

    clip: Video
    styles: Sequence[Grid]
    names: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class VideoOutcome:
    """What a job left behind.

    Args:
        path: the result.
        size: height and width of its frames.
        records: of every frame, see `convnd_tasks.modalities.video.frames.Finished`.
        seconds: from the first frame to the written clip.
        encoding: seconds of them that the codec took.
        fresh: frames that were not kept from an earlier run.
        damage: what was wrong with the input, or "".
        gallery: makes the pictures.
    """

    path: Path
    size: tuple[int, int]
    records: Sequence[Mapping[str, Any]]
    seconds: float
    encoding: float
    fresh: int
    damage: str
    gallery: Gallery = field(repr=False)

    @property
    def scenes(self) -> int:
        """How many scenes there are."""
        return sum(bool(record["cut"]) for record in self.records)


class VideoJob:
    """How a clip is stylised and written.

    Args:
        options: see `VideoOptions`.
        part: which frames.
        crf: see `convnd.io.write_video`.
        audio: copy the sound.
        record: keep options and input names inside the result.
    """

    def __init__(
        self,
        options: VideoOptions,
        *,
        part: Part | None = None,
        crf: int | None = None,
        audio: bool = True,
        record: bool = True,
    ) -> None:
        self.options = options
        self.part = Part() if part is None else part
        self.crf = crf
        self.audio = audio
        self.keep_record = record

    def check(self, info: VideoInfo, output: Path, *, overwrite: bool, resume: bool) -> None:
        """Prove, before any work, that the result can be written.

        Raises:
            ConvndError: see `convnd.io.check_video_output`.
        """
        if output.suffix:
            io.check_video_output(
                output, info, overwrite=overwrite, audio=self.audio, provenance=self.keep_record
            )
        else:
            io.check_image_sequence_output(output, overwrite=overwrite)
        FrameStore(output).check(resume=resume, overwrite=overwrite)

    def run(
        self,
        inputs: VideoInputs,
        output: Path,
        *,
        overwrite: bool = False,
        resume: bool = False,
        watch: Callable[[Progress], None] | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> VideoOutcome:
        """Stylise and write.

        Args:
            inputs: what to work on.
            output: the result; a name without suffix is a folder of pictures.
            overwrite: replace existing files.
            resume: go on from the frames that an interrupted run has kept.
            watch: is told of every step.
            tell: is told in a line what else there is to know.

        Raises:
            ConvndError: see `check` and `VideoTransfer`. Finished
                frames are kept; `resume` goes on from them.
        """
        from convnd.errors import is_out_of_memory

        clip, info = inputs.clip, inputs.clip.info
        self.check(info, output, overwrite=overwrite, resume=resume)
        for remark in info.remarks if tell is not None else ():
            tell(remark)  # type: ignore[misc]
        store = FrameStore(output)
        store.open(self._mark(inputs), resume=resume)
        kept = len([turn for turn, _ in store.records if turn == self.options.passes])
        if kept and tell is not None:
            tell(f"{kept} frames are there from the run before")
        made_from = self.parameters(inputs) if self.keep_record else {}
        began = time.monotonic()
        gallery, count = Gallery(), 0
        try:
            made = BlockTransfer if self.options.mode == "block" else VideoTransfer
            transfer = made(self.options, [style.values for style in inputs.styles])
            for done in transfer.run(clip, store, self.part, watch=watch, say=tell):
                gallery.add_content(done.number, done.content)
                count += 1
            damage = clip.damage
            if isinstance(transfer, VideoTransfer) and self.options.passes > 1:
                for _ in transfer.run_back(store, count, watch=watch):
                    pass
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise ResourceError(
                "stylize-video: expected enough memory for a frame, got none left; use a smaller "
                "--size, and --overwrite to begin anew"
            ) from error
        if not count:
            raise UsageError(
                f"--from, --to: expected some frames of {info.path}, got none from "
                f"{float(self.part.start):g} s on; choose times inside the clip"
            )
        records: list[Mapping[str, Any]] = [
            store.records[self.options.passes, number] for number in range(count)
        ]
        if self.options.passes > 1:
            records = _again(records)
        written = time.monotonic()
        self._write(output, info, store, records, made_from, gallery, overwrite=overwrite)
        ended = time.monotonic()
        store.close()
        return VideoOutcome(
            path=output,
            size=even_fit(info.size, self.options.size),
            records=records,
            seconds=ended - began,
            encoding=ended - written,
            fresh=count - kept,
            damage=damage,
            gallery=gallery,
        )

    def parameters(self, inputs: VideoInputs) -> dict[str, str]:
        """What makes a result, see `convnd_tasks.pipeline.provenance.parameters`."""
        path = inputs.clip.info.path
        names = [str(path) if path.exists() else path.name, *inputs.names[1:]]
        part = {"from": self.part.start, "to": self.part.end, "every": self.part.every}
        part |= {"rate": inputs.clip.info.rate if path.is_dir() else None, "crf": self.crf}
        extra = [f"--{name}={value}" for name, value in part.items() if value is not None]
        extra += ["--audio" if self.audio else "--no-audio"]
        return {
            **parameters("stylize-video", names, self.options, extra=extra, without=NOT_OF_CLIPS),
            **{
                f"convnd:{name}": str(value)
                for name, value in dataclasses.asdict(self.part).items()
                if value is not None
            },
        }

    def _write(
        self,
        output: Path,
        info: VideoInfo,
        store: FrameStore,
        records: Sequence[Mapping[str, Any]],
        made_from: Mapping[str, str],
        gallery: Gallery,
        *,
        overwrite: bool,
    ) -> None:
        def frames() -> Iterator[VideoFrame]:
            for number, record in enumerate(records):
                values = store.load(self.options.passes, number)
                gallery.add_result(number, values)
                yield io.VideoFrame(record["pts"], values, record["name"])

        note = None
        if made_from:
            note = {**made_from, "convnd:e_warp": f"{mean_of(records, 'e_warp'):.6g}"}
            rejected_steps = sum(record["rejected_steps"] for record in records)
            note |= {"convnd:rejected_steps": str(rejected_steps)} if rejected_steps else {}
        if not output.suffix:
            io.write_image_sequence(output, frames(), overwrite=overwrite, provenance=note)
            return
        rate = None if info.rate is None else info.rate / self.part.every
        io.write_video(
            output,
            dataclasses.replace(info, rate=rate),
            frames(),
            overwrite=overwrite,
            crf=self.crf,
            audio=self.audio,
            end=self.part.end,
            provenance=note,
        )

    def _mark(self, inputs: VideoInputs) -> str:
        from convnd.optimize import fingerprint

        options = {name: value for name, value in self.options.record().items() if name not in FREE}
        part = dataclasses.astuple(self.part)
        styles = [style.values for style in inputs.styles]
        return fingerprint([__version__, options, part, _content_mark(inputs.clip.info), *styles])


def mean_of(records: Sequence[Mapping[str, Any]], key: str) -> float:
    """The mean of what is known over frames; NaN if nothing is.

    >>> mean_of([{"a": None}, {"a": 1.0}, {"a": 2.0}], "a")
    1.5
    """
    known = [record[key] for record in records if record.get(key) is not None]
    known = [value for value in known if value == value]  # NaN: nothing in it could be followed
    return sum(known) / len(known) if known else float("nan")


def _again(records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Records of a second pass with the warping errors of what it made of the frames."""
    behind = [None, *(record.get("later_e_warp") for record in records[:-1])]
    return [
        {**record, "e_warp": None if record["cut"] else error}
        for record, error in zip(records, behind, strict=True)
    ]


def _content_mark(info: VideoInfo) -> object:
    """What changes when the input does."""
    if info.path.is_dir():
        return [
            (path.name, path.stat().st_size, path.stat().st_mtime_ns)
            for path in sorted(info.path.iterdir())
        ]
    if not info.path.is_file():
        return str(info)
    with info.path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
