"""The kind of data and the number of axes, inferred from the names on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from convnd import io
from convnd.errors import InputFileError, UsageError
from convnd.io.registry import find_format, may_hold
from convnd.io.video.types import ANIMATED_SUFFIXES, is_animated
from convnd_tasks import samples
from convnd_tasks.modalities.opening import check_sample
from convnd_tasks.modalities.style_network import is_network
from convnd_tasks.pipeline.folders import ARRAY_SUFFIXES, typical_file
from convnd_tasks.samples import phantom

__all__ = ["file_paths", "infer_dim", "infer_kind", "is_video", "kind_of"]


def infer_kind(
    names: Sequence[str],
    dim: int | None,
    init: str | None,
    modality: str | None,
    *,
    texture: bool = False,
) -> tuple[int, str]:
    """Infer the number of spatial axes and the kind of data of the named files.

    Args:
        names: content and styles; none is the demo.
        dim: number of spatial axes as typed, or None.
        init: path of the file that the optimisation starts from, or None.
        modality: the kind of data that the command is for, or None for any.
        texture: whether every name is a style.

    Raises:
        UsageError: the files disagree, nothing tells, or a name is neither a file nor a sample.
        InputFileError: the content is a folder whose files do not tell, or no video where the
            command takes videos.
    """
    if dim is None and modality is None:
        dim = _rank_of_samples(names, texture=texture)
    example = names[0] if names else None
    other_names = [*names[1:], init]
    if dim is None and modality is None and example is not None and not Path(example).suffix:
        # The styles of a built-in content may be a folder.
        other_names = [
            typical_file(Path(name), dim) if name is not None and Path(name).is_dir() else name
            for name in other_names
        ]
    if example is not None and Path(example).is_dir():
        folder, example = example, typical_file(Path(example), dim) or example
        if example == folder and not (dim or modality or file_paths(other_names)):
            raise InputFileError(
                folder,
                expected="files whose names tell what they hold, such as .png, .csv or .nii.gz",
                got="none",
                remedy="give another folder, or --dim 3 for slices without a suffix",
            )
    videos = modality == "videos" or (example is not None and is_video(example, dim))
    if modality == "videos" and names:
        _check_video(names[0])
    if videos or modality == "volumes":
        return 3, modality or "videos"
    dim = infer_dim(file_paths([example, *other_names]), dim)
    return dim, modality or kind_of(dim, example, videos=False)


def _check_video(name: str) -> None:
    """Refuse a file whose name says that it holds something else than a video."""
    is_known_file = Path(name).is_file() and find_format(name) is not None
    rank = io.spatial_dims(name) if is_known_file else None
    if rank is not None and not is_video(name, 3):
        raise InputFileError(
            name,
            expected="a video",
            got=f"a file of {rank} spatial axes",
            remedy="use convnd stylize",
        )


def _rank_of_samples(names: Sequence[str], *, texture: bool) -> int | None:
    """Return the one rank at which all named samples exist; None for several, and for files.

    Raises:
        UnknownNameError: a name is neither a file nor a sample.
    """
    for number, name in enumerate(names):
        if Path(name).suffix or Path(name).exists():
            return None
        check_sample(name, "style" if number or texture else "content")
    return samples.common_rank(names)


def infer_dim(files: Sequence[Path], dim: int | None) -> int:
    """Return the number of spatial axes that all files and ``--dim`` agree on.

    Args:
        files: paths; of most files the suffix alone is read.
        dim: number of spatial axes as typed, or None.

    Raises:
        UsageError: two of them disagree, or nothing tells.
        InputFileError: a file of safetensors holds no trained network.

    >>> infer_dim([Path("photo.jpg")], None)
    2
    """
    first: Path | None = None  # the file that told the number
    for path in files:
        rank = _rank(path)
        if rank is not None and dim is not None and rank != dim and not _is_series(path, dim):
            if first is None:
                raise UsageError(
                    "--dim",
                    expected=f"{rank}, the number of axes of {path}",
                    got=dim,
                    remedy="leave it out",
                )
            raise UsageError(
                "inputs",
                expected="files with the same number of axes",
                got=f"{dim} of {first} and {rank} of {path}",
                remedy="give files of one kind",
            )
        if dim is None and rank is not None:
            dim, first = rank, path
    if dim is None:
        raise UsageError(
            "--dim",
            expected="1 for signals, 2 for pictures, 3 for volumes, or the axes of an array",
            got="none, and no name that tells",
            remedy="add --dim",
        )
    return dim


def _rank(path: Path) -> int | None:
    """Return the number of spatial axes of a file; None where its name does not tell."""
    if is_network(path.name):
        from convnd.feedforward.network_file import network_rank

        return network_rank(path)
    return io.spatial_dims(path)


def _is_series(path: Path, dim: int) -> bool:
    """Whether ``dim`` counts the frames of a series of volumes as an axis."""
    return not is_network(path.name) and may_hold(path, dim)


def is_video(name: str, dim: int | None) -> bool:
    """Return whether an input is a video.

    Args:
        name: path, or name of a sample.
        dim: number of spatial axes as typed, or None. With 3, animated pictures are videos; files
            of formats that mostly hold one picture are then opened to count their frames.

    >>> is_video("a.mp4", None), is_video("a.gif", None), is_video("a.gif", 3), is_video("a.nii", 3)
    (True, False, True, False)
    """
    suffix = Path(name).suffix.lower()
    if suffix in ANIMATED_SUFFIXES:
        by_name = suffix == ".apng" or (suffix == ".gif" and dim == 3)
        return (dim in (None, 3) and by_name) or (dim == 3 and is_animated(name))
    return suffix in io.VIDEO_SUFFIXES and dim in (None, 3)


def file_paths(names: Sequence[str | None]) -> list[Path]:
    """Return the names that are files, since names of samples have no suffix."""
    return [Path(name) for name in names if name is not None and Path(name).suffix]


def kind_of(dim: int, content: str | None, *, videos: bool) -> str:
    """Return the kind of data of a number of axes and a content (or first style of a texture).

    Args:
        dim: number of spatial axes.
        content: path or sample name; None is the demo.
        videos: whether the content is a video.

    >>> kind_of(3, None, videos=False), kind_of(3, "bodies", videos=False)
    ('volumes', 'arrays')
    """
    array = content is None or content.lower().endswith(ARRAY_SUFFIXES)
    if videos:
        return "videos"
    if dim == 1:
        return "signals"
    if dim == 2:
        return "arrays" if content is not None and array else "pictures"
    if dim != 3:
        return "arrays"
    if content is None or content in phantom.CONTENTS:
        return "volumes"
    is_file = bool(Path(content).suffix or Path(content).is_dir())
    return "volumes" if is_file and not array else "arrays"
