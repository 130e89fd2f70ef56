"""Weights: where they come from, and the cache folder where they are kept.

`state_of` gives those of a name of `WEIGHTS`, and fetches them when they are not there. ``convert``
reads what others publish, ``download`` and ``origins`` get hold of it, ``store`` keeps it,
``catalogue`` is the table, ``manage`` works on it, ``adding`` takes in files that the user brings.
"""

from __future__ import annotations

from convnd.backbones.weights.adding import add_file, add_url
from convnd.backbones.weights.catalogue import (
    WEIGHTS,
    Entry,
    names,
    state_of,
)
from convnd.backbones.weights.convert import block_widths, dequantize, from_torchvision
from convnd.backbones.weights.download import download
from convnd.backbones.weights.manage import Status, fetch, find, locate, remove, status_of, verify
from convnd.backbones.weights.store import (
    Progress,
    added,
    added_path,
    cache_folder,
    cached,
    is_offline,
)

__all__ = [
    "WEIGHTS",
    "Entry",
    "Progress",
    "Status",
    "add_file",
    "add_url",
    "added",
    "added_path",
    "block_widths",
    "cache_folder",
    "cached",
    "dequantize",
    "download",
    "fetch",
    "find",
    "from_torchvision",
    "is_offline",
    "locate",
    "names",
    "remove",
    "state_of",
    "status_of",
    "verify",
]
