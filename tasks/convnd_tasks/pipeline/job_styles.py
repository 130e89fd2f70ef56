"""The styles of a job: typed, from folders, of regions, or built in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from convnd.errors import UsageError
from convnd_tasks import samples
from convnd_tasks.modalities.opening import check_input
from convnd_tasks.modalities.regions import KEEP
from convnd_tasks.modalities.style_network import is_network
from convnd_tasks.pipeline.style_folders import expand_folders, has_folder

__all__ = [
    "JobStyles",
    "check_job_styles",
    "check_networks",
    "check_regions",
    "named_styles",
    "resolve_styles",
]


@dataclass(frozen=True, kw_only=True)
class JobStyles:
    """The styles of a job.

    Args:
        names: path or sample name of each style.
        shared: number of styles, from the first on, that all labels without a style take.
        regions: index of the style of each label of a map of regions; None keeps the content.
        keyframes: index of the style that each keyframe of a video is, by frame.
        from_folders: whether a folder of styles was typed, of which each makes one result.
        message: a line for users, or "".
    """

    names: tuple[str, ...]
    shared: int
    regions: Mapping[str, int | None]
    keyframes: Mapping[int, int]
    from_folders: bool
    message: str = ""


def named_styles(regions: Mapping[str, str] | None) -> list[str]:
    """List the styles of regions.

    Args:
        regions: style of each label, or `KEEP`; None is no regions.
    """
    return [style for style in (regions or {}).values() if style != KEEP]


def resolve_styles(
    typed: Sequence[str],
    regions: Mapping[str, str] | None,
    keyframes: Mapping[int, str],
    kind: str,
    dim: int,
    *,
    demo: bool,
    sheet: bool,
) -> JobStyles:
    """Find the styles of a job.

    Args:
        typed: styles as they were typed: paths, folders or names of samples.
        regions: style of each label of a map of regions, or `KEEP`; None is no regions.
        keyframes: path of each keyframe, by frame.
        kind: the kind of data.
        dim: number of spatial axes.
        demo: whether nothing was typed.
        sheet: whether the results become one picture.

    Raises:
        UsageError: there are regions, and one result for each style of a folder.
        InputFileError: a folder has no style.
    """
    further_names = dict.fromkeys([*named_styles(regions), *keyframes.values()])
    further = [name for name in further_names if name not in typed]
    names, message = (*typed, *further), ""
    if not names:
        name, message = built_in_style(kind, dim, demo=demo)
        names = (name,)
    from_folders = has_folder(names, kind)
    if (from_folders or sheet) and regions is not None:
        raise UsageError(
            "--regions",
            expected="one result, whose regions have styles",
            got="--sheet" if sheet else "a folder of styles",
            remedy="leave one of the two out",
        )
    if from_folders:
        names = expand_folders(names, kind, dim)
    numbers = {
        label: None if style == KEEP else names.index(style)
        for label, style in (regions or {}).items()
    }
    return JobStyles(
        names=names,
        shared=len(typed),
        regions=numbers,
        keyframes={frame: names.index(name) for frame, name in keyframes.items()},
        from_folders=from_folders,
        message=message,
    )


def check_regions(
    names: Sequence[str], styles: Mapping[str, str], dim: int | None, *, texture: bool
) -> None:
    """Check that the content can have regions, and that their styles exist.

    Args:
        names: content and styles as they were typed.
        styles: style of each label of the map, or `KEEP`.
        dim: number of spatial axes as typed, or None.
        texture: whether there is no content.

    Raises:
        UsageError: there is no content, no style, or a style is a trained network.
        InputFileError: a style does not exist.
    """
    demo = not names
    if texture or demo:
        raise UsageError(
            "--regions",
            expected="a content to divide",
            got="--texture" if texture else "no file",
            remedy="give the content first" if demo else "leave it out",
        )
    for style in styles.values():
        if style != KEEP:
            check_input(style, "style", dim)
            if is_network(style):
                raise UsageError(
                    "--region",
                    expected="files or names of styles",
                    got=f"the trained network {style}",
                    remedy="give its style, or --mask and the network alone",
                )
    if not styles and len(names) < 2:
        raise UsageError(
            "--regions",
            expected="a style for some region",
            got="none",
            remedy="for example --region red=painting.jpg,blue=keep",
        )


def check_job_styles(styles: JobStyles, *, texture: bool, batch: bool, sheet: bool) -> None:
    """Check that the styles fit the contents.

    Args:
        styles: the styles.
        texture: whether there is no content.
        batch: whether there are several contents.
        sheet: whether the results become one picture.

    Raises:
        UsageError: there are several videos with keyframes, or a trained network is not alone.
    """
    if batch and styles.keyframes:
        raise UsageError(
            "--keyframe", expected="one video", got="a folder of them", remedy="give one"
        )
    if not (styles.from_folders or sheet):
        check_networks(styles.names, texture=texture)


def check_networks(styles: Sequence[str], *, texture: bool) -> None:
    """Check that a trained network is the only style, and has a content.

    Args:
        styles: names of the styles.
        texture: whether there is no content.

    Raises:
        UsageError: there are other styles, or there is no content.
    """
    if any(map(is_network, styles)) and (len(styles) > 1 or texture):
        raise UsageError(
            "style",
            expected="a trained network alone, with a content",
            got="--texture" if texture else f"{len(styles)} styles",
            remedy="train one network with all styles, or give the styles themselves",
        )


def built_in_style(kind: str, dim: int, *, demo: bool = False) -> tuple[str, str]:
    """Return the name of the style of a job without one, and a line for users.

    Args:
        kind: the kind of data.
        dim: number of spatial axes.
        demo: whether there is no content either.
    """
    if kind == "volumes" and not demo:  # a scan of the user changes moderately
        name = samples.MATCHING_STYLE
    else:
        name = samples.styles(2 if kind == "videos" else dim)[0]
    return name, "" if demo else f"no style given, using the built-in one: {name}"
