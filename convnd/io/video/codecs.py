"""Codecs and containers for videos, and the choice of an encoding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from convnd.errors import UsageError

__all__ = ["ANIMATIONS", "CODECS", "CONTAINERS", "DEPTHS", "Codec", "Encoding"]

_X264 = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower"),
    "veryslow",
)
DEPTHS = (8, 10)
"""Bits of each colour that are written."""


@dataclass(frozen=True, kw_only=True)
class Codec:
    """How FFmpeg encodes a codec.

    Args:
        encoder: FFmpeg's name of the encoder.
        formats: FFmpeg's name of the pixel format, for each number of bits of a colour.
        crf: default constant rate factor, where a smaller one loses less; None if there is none.
        largest_crf: largest constant rate factor.
        presets: the encoder's names for the time that it takes; empty if it offers no choice.
        preset_option: FFmpeg's option for a preset.
        options: further options of the encoder.
        tag: four letters that name the codec in MP4 and QuickTime; "" for FFmpeg's own.
        even: whether width and height have to be even.
        aspect: whether Matroska gets the shape of pixels, which FFmpeg takes from the codec.
    """

    encoder: str
    formats: Mapping[int, str]
    crf: int | None = None
    largest_crf: int = 51
    presets: tuple[str, ...] = ()
    preset_option: str = "preset"
    options: Mapping[str, str] = field(default_factory=dict)
    tag: str = ""
    even: bool = False
    aspect: bool = True


CODECS: Mapping[str, Codec] = {
    "h264": Codec(
        encoder="libx264", formats={8: "yuv420p", 10: "yuv420p10le"}, crf=18, presets=_X264,
        even=True,
    ),
    "hevc": Codec(
        encoder="libx265", formats={8: "yuv420p", 10: "yuv420p10le"}, crf=20, presets=_X264,
        options={"x265-params": "log-level=none"}, even=True,
        tag="hvc1",  # without it, QuickTime and Safari do not play HEVC
    ),
    "vp9": Codec(
        encoder="libvpx-vp9", formats={8: "yuv420p"}, crf=24, largest_crf=63,
        presets=tuple(map(str, range(9))), preset_option="cpu-used",
        options={"b": "0", "row-mt": "1", "cpu-used": "4"}, aspect=False,
    ),
    "av1": Codec(
        encoder="libsvtav1", formats={8: "yuv420p", 10: "yuv420p10le"}, crf=28, largest_crf=63,
        presets=tuple(map(str, range(14))), options={"preset": "8"}, even=True,
        aspect=False,
    ),
    "prores": Codec(
        encoder="prores_ks", formats={10: "yuv422p10le"}, options={"profile": "hq"}, even=True
    ),
    "gif": Codec(encoder="gif", formats={8: "bgra"}),
    "apng": Codec(encoder="apng", formats={8: "rgb24"}),
    "webp": Codec(encoder="libwebp_anim", formats={8: "bgra"}, options={"quality": "90"}),
}  # fmt: skip
"""Codecs by the name that users type."""


class _Container(NamedTuple):
    format: str  # FFmpeg's name
    codecs: tuple[str, ...]  # the first is the default


CONTAINERS: Mapping[str, _Container] = {
    ".mp4": _Container("mp4", ("h264", "hevc", "av1")),
    ".m4v": _Container("mp4", ("h264", "hevc", "av1")),
    ".mov": _Container("mov", ("h264", "hevc", "prores")),
    ".mkv": _Container("matroska", ("h264", "hevc", "vp9", "av1", "prores")),
    ".webm": _Container("webm", ("vp9", "av1")),
    ".gif": _Container("gif", ("gif",)),
    ".apng": _Container("apng", ("apng",)),
    ".webp": _Container("webp", ("webp",)),
}
"""Containers by suffix, each with the codecs that players find in it."""

ANIMATIONS = ("gif", "apng", "webp")
"""Containers without sound, chapters, colour tags and a place for provenance."""

_WITH_ASPECT = ("mp4", "mov", "matroska")  # containers of pixels that are not square


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How a video is encoded.

    Args:
        codec: one of `CODECS`; "auto" is the default of the container.
        crf: constant rate factor: a smaller one loses less; None is the codec's default.
        preset: one of the encoder's names for the time that it takes; "auto" is its default.
        bits: bits of each colour, one of `DEPTHS`; None is 8, or 10 if the codec has no 8.

    >>> Encoding(bits=10).pixel_format(Path("clip.mp4"))
    'yuv420p10le'
    """

    codec: str = "auto"
    crf: int | None = None
    preset: str = "auto"
    bits: int | None = None

    def container(self, path: Path) -> str:
        """FFmpeg's name of the container of a file.

        Raises:
            UsageError: no video is written under this suffix.
        """
        return _container(path).format

    def codec_of(self, path: Path) -> Codec:
        """Check all choices, and return the codec of a file.

        Raises:
            UsageError: the container does not hold the codec, or the codec has no such choice.
        """
        held = _container(path).codecs
        name = held[0] if self.codec == "auto" else self.codec
        if name not in held:
            others = [suffix for suffix, (_, codecs) in CONTAINERS.items() if name in codecs]
            raise UsageError(
                f"--codec: {path}",
                expected=f"one of {', '.join(held)} for {path.suffix.lower()}",
                got=name,
                remedy=f"choose one of these, or a name that ends in {' or '.join(others)}"
                if others
                else "choose one of these",
            )
        codec = CODECS[name]
        if self.crf is not None and (codec.crf is None or self.crf > codec.largest_crf):
            raise UsageError(
                f"--crf: {path}",
                expected=f"0 to {codec.largest_crf} for {name}" if codec.crf else "none",
                got=f"{self.crf}"
                if codec.crf
                else f"{self.crf} for {name}, which has no such rate",
                remedy="leave it out",
            )
        if self.preset != "auto" and self.preset not in codec.presets:
            raise UsageError(
                f"--preset: {path}",
                expected=f"one of {', '.join(codec.presets)} for {name}"
                if codec.presets
                else "none",
                got=f"{self.preset}" if codec.presets else f"{self.preset} for {name}",
                remedy="choose one of these" if codec.presets else "leave it out",
            )
        if self.bits is not None and self.bits not in codec.formats:
            raise UsageError(
                f"--bits: {path}",
                expected=f"{' or '.join(map(str, codec.formats))} for {name}",
                got=self.bits,
                remedy="leave it out, or choose another --codec",
            )
        return codec

    def check_folder(self, path: Path) -> None:
        """Check that nothing was chosen for a folder of pictures, which no codec writes.

        Raises:
            UsageError: something was.
        """
        for name in ("codec", "crf", "preset", "bits"):
            chosen = getattr(self, name)
            if chosen != getattr(Encoding, name):
                raise UsageError(
                    f"--{name}: {path}",
                    expected="none for a folder of pictures",
                    got=chosen,
                    remedy="leave it out, or name a video",
                )

    def has_aspect(self, path: Path) -> bool:
        """Whether the file can declare pixels that are not square."""
        container = self.container(path)
        aspect = self.codec_of(path).aspect or container != "matroska"
        return container in _WITH_ASPECT and aspect

    def pixel_format(self, path: Path) -> str:
        """FFmpeg's name of the pixel format of a file."""
        formats = self.codec_of(path).formats
        return formats[self.bits or min(formats)]

    def options(self, path: Path) -> dict[str, str]:
        """Options of the encoder of a file."""
        codec = self.codec_of(path)
        options = dict(codec.options)
        if codec.encoder == "libx264" and _has_avx2():
            # x264's code for AVX-512 reads memory that nothing has written, in pictures of some
            # widths, so that the same frames become other bytes from run to run.
            options["x264-params"] = "asm=AVX2"
        if codec.crf is not None:
            options["crf"] = str(codec.crf if self.crf is None else self.crf)
        if self.preset != "auto":
            options[codec.preset_option] = self.preset
        return options


def _has_avx2() -> bool:
    import torch

    return torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")


def _container(path: Path) -> _Container:
    suffix = path.suffix.lower()
    if suffix not in CONTAINERS:
        raise UsageError(
            f"write {path}",
            expected=f"a name ending in {', '.join(CONTAINERS)}",
            got=repr(path.name),
            remedy="choose one of these",
        )
    return CONTAINERS[suffix]
