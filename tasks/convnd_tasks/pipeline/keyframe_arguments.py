"""The option ``--keyframe``: frames of a video whose result is known."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from convnd import io
from convnd.errors import UsageError
from convnd.shapes import is_count_text
from convnd_tasks.modalities.opening import check_input
from convnd_tasks.modalities.style_network import is_network

__all__ = ["check_keyframes", "keyframe_words", "parse_keyframes"]


def parse_keyframes(words: Sequence[str]) -> dict[int, str]:
    """Parse ``FRAME=FILE`` words.

    Args:
        words: the words.

    Returns:
        The file of each frame, by its number in rising order.

    Raises:
        UsageError: a word has another form, or a frame has two files.

    >>> parse_keyframes(["48=b.png", "0=a.png"])
    {0: 'a.png', 48: 'b.png'}
    """
    files: dict[int, str] = {}
    for word in words:
        number, equals, name = (part.strip() for part in word.partition("="))
        is_valid = is_count_text(number) and len(number) < 10 and equals and name
        if not is_valid or int(number) in files:
            raise UsageError(
                "--keyframe",
                expected="FRAME=FILE, with one file for each frame",
                got=repr(word),
                remedy="for example --keyframe 0=first.png --keyframe 48=later.png",
            )
        files[int(number)] = name
    return dict(sorted(files.items()))


def check_keyframes(
    names: Sequence[str], keyframes: Mapping[int, str], *, texture: bool, demo: bool
) -> None:
    """Check that keyframes are the only styles, and that they exist.

    Args:
        names: the content and the styles that are given besides.
        keyframes: file of each keyframe.
        texture: whether there is no content.
        demo: whether no file was typed.

    Raises:
        UsageError: there is no content or another style, or a keyframe is no picture.
        InputFileError: a keyframe does not exist.
    """
    if texture or demo or len(names) > 1:
        got = f"the style {names[1]} too" if len(names) > 1 else "no file"
        raise UsageError(
            "--keyframe",
            expected="a video, whose styles are the keyframes alone",
            got="--texture" if texture else got,
            remedy="give the video first" if demo else "leave one of them out",
        )
    for name in keyframes.values():
        check_input(name, "style")
        if is_network(name) or io.is_video(name):
            raise UsageError(
                "--keyframe", expected="pictures", got=name, remedy="give one frame as a picture"
            )


def keyframe_words(settings: dict[str, Any]) -> Sequence[str]:
    """Return the keyframes as words of the command line, and put these into the settings.

    Args:
        settings: settings, whose keyframes may be a mapping of frames to files.
    """
    keyframes = settings.get("keyframe", ())
    if isinstance(keyframes, Mapping):
        keyframes = tuple(f"{frame}={os.fspath(name)}" for frame, name in keyframes.items())
        settings["keyframe"] = keyframes
    return tuple(keyframes)
