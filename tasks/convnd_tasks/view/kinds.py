"""The kinds of data of a page: how files are told apart, and the built-in inputs of each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from convnd.errors import ConvndError
from convnd_tasks import samples
from convnd_tasks.modalities.style_network import is_network
from convnd_tasks.pipeline.kinds import infer_kind
from convnd_tasks.samples import head, phantom, video

__all__ = ["DIMS", "UNITS", "built_in_inputs", "kind_of_file"]

DIMS: Mapping[str, int] = {"pictures": 2, "signals": 1, "volumes": 3, "videos": 3}
"""Number of spatial axes of each kind of data that a page can start jobs of."""

UNITS = "units"
"""The kind of a job that searches inputs for what excites units; it has no style."""


def built_in_inputs() -> dict[str, dict[str, list[str]]]:
    """List the built-in contents and styles of each kind.

    >>> built_in_inputs()["signals"]["contents"][0]
    'ecg'
    """
    pictures = samples.styles(2)
    scans = [samples.MATCHING_STYLE, *phantom.STYLES, *head.STYLES]
    return {
        "pictures": {"contents": samples.contents(2), "styles": pictures},
        "signals": {"contents": samples.contents(1), "styles": samples.styles(1)},
        "volumes": {"contents": [*phantom.CONTENTS], "styles": [*scans, *pictures]},
        "videos": {"contents": [*video.CONTENTS], "styles": pictures},
        UNITS: {"contents": [], "styles": [*samples.contents(2), *pictures]},
    }


def kind_of_file(name: str) -> str:
    """Return the kind of data of a file, "" if it is none of a page's.

    Args:
        name: path of the file; a folder is a DICOM series.

    >>> kind_of_file("clip.mp4"), kind_of_file("ct.nii.gz"), kind_of_file("field.npy")
    ('videos', 'volumes', '')
    """
    if is_network(name):
        return ""
    if Path(name).is_dir():
        return "volumes"
    try:
        _, kind = infer_kind([name], None, None, None)
    except ConvndError:
        return ""
    return kind if kind in DIMS else ""
