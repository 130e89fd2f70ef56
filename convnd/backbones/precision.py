"""Where and in which number format features are computed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

from convnd.backbones.module import ModuleBackbone
from convnd.backbones.multiplanar import MultiPlanar
from convnd.backbones.vgg import VGG
from convnd.errors import ResourceError, UsageError
from convnd.nn.layout import channels_last

__all__ = ["DEVICES", "PRECISIONS", "Precision", "choose_device", "choose_precision"]

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class Precision:
    """Number format and memory layout of features; statistics and iterate stay float32.

    Args:
        dtype: of weights and features.
        channels_last: keep channels innermost, which convolutions and Gram products read fastest.
        winograd: float32 convolutions on a CPU may be done with fewer multiplications, see
            `convnd.backbones.kernels.winograd_conv_nd`; rounding then differs in the sixth digit.
    """

    dtype: torch.dtype = torch.float32
    channels_last: bool = True
    winograd: bool = False

    def exact(self) -> Precision:
        """The same layout in float32 at least, without shortcuts.

        >>> Precision(torch.bfloat16).exact()
        Precision(dtype=torch.float32, channels_last=True, winograd=False)
        """
        dtype = torch.promote_types(self.dtype, torch.float32)
        return replace(self, dtype=dtype, winograd=False)

    def apply(self, module: nn.Module) -> nn.Module:
        """Cast the parameters of ``module`` in place.

        Buffers keep their format, but for modules of users, whose layers expect one for both.
        The first convolution of a `VGG` has float32 at least, see `convnd.backbones.VGG.dtype`.
        """
        if isinstance(module, MultiPlanar):
            self.apply(module.net)
            return module
        first = next(iter(module.convolutions.values())) if isinstance(module, VGG) else None
        exact = () if first is None else tuple(map(id, first.parameters()))
        for parameter in module.parameters():
            dtype = self.dtype
            if id(parameter) in exact:
                dtype = torch.promote_types(dtype, torch.float32)
            values = parameter.data.to(dtype)
            if self.winograd and values.ndim > 2:  # the layout that the fast convolution reads
                values = values.movedim((1, 0), (-2, -1)).contiguous().movedim((-1, -2), (0, 1))
                parameter.data = values
            else:
                parameter.data = self.layout(values)
        for buffer in module.buffers() if isinstance(module, ModuleBackbone) else ():
            if buffer.is_floating_point():
                buffer.data = buffer.data.to(self.dtype)
        if isinstance(module, VGG):
            module.winograd = self.winograd
        return module

    def layout(self, x: torch.Tensor) -> torch.Tensor:
        """``x`` ``(B, C, *S)`` in this memory layout; the number format is left alone."""
        return channels_last(x) if self.channels_last else x.contiguous()


def choose_device(name: str = "auto") -> torch.device:
    """The device to compute on; ``"auto"`` takes CUDA, then MPS, then the CPU.

    Raises:
        UsageError: the name is not one of `DEVICES` (an index as in ``cuda:1`` may follow).
        ResourceError: this machine has no such device.

    >>> choose_device("cpu")
    device(type='cpu')
    """
    kind, _, index = name.partition(":")
    if kind not in DEVICES or (index and (kind == "auto" or not index.isdecimal())):
        raise UsageError(
            "device",
            expected=f"one of {', '.join(DEVICES)}",
            got=repr(name),
            remedy="choose one of these",
        )
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": bool(torch.backends.mps.is_available()),
    }
    if kind == "auto":
        return torch.device(next((each for each, has in available.items() if has), "cpu"))
    if not available.get(kind, True):
        raise ResourceError(
            "device",
            expected=f"a machine with {kind}",
            got="one without",
            remedy="use --device cpu",
        )
    return torch.device(name)


def choose_precision(device: torch.device, name: str = "auto") -> Precision:
    """The format of features on ``device``; ``"auto"`` takes the fastest.

    That is bfloat16 on GPUs that have it, on CPUs with matrix units (AMX), and on AMD's with vector
    instructions for it (Zen 4 and later), where they were measured as twice as fast as float32.
    On an Intel CPU with those instructions and without AMX they were half as fast; there, and on
    all other CPUs, it is float32 with fast convolutions. ``"float32"`` is the exact path, without
    them. The choice is by the kind of processor and never by a timing: the same machine gives the
    same numbers.

    Raises:
        UsageError: the name is not one of `PRECISIONS`.

    >>> choose_precision(torch.device("cpu"), "float32")
    Precision(dtype=torch.float32, channels_last=True, winograd=False)
    """
    if name not in PRECISIONS:
        raise UsageError(
            "precision",
            expected=f"one of {', '.join(PRECISIONS)}",
            got=repr(name),
            remedy="choose one of these",
        )
    if name == "auto":
        name = "bfloat16" if _fast_bfloat16(device) else "float32"
        return Precision(getattr(torch, name), winograd=name == "float32" and device.type == "cpu")
    return Precision(getattr(torch, name))


def _fast_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        # Older releases of torch do not tell.
        found: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
        full_rate = "AMD" in str(found.get("cpu_name")) and found.get("avx512_bf16")
        return bool(found.get("amx_bf16") or full_rate)
    return False
