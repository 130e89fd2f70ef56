"""Where and in which number format features are computed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from convnd.errors import ResourceError, UsageError

__all__ = ["DEVICES", "PRECISIONS", "Precision", "choose_device", "choose_precision"]

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "float32", "bfloat16")

_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


@dataclass(frozen=True)
class Precision:
    """Number format and memory layout of features; statistics and iterate stay float32.

    Args:
        dtype: of weights and features.
        channels_last: keep channels innermost, which convolutions and Gram products read fastest.
    """

    dtype: torch.dtype = torch.float32
    channels_last: bool = True

    def apply(self, module: nn.Module) -> nn.Module:
        """Cast the parameters of ``module`` (not its buffers), in place."""
        for parameter in module.parameters():
            parameter.data = self.layout(parameter.data.to(self.dtype))
        return module

    def layout(self, x: torch.Tensor) -> torch.Tensor:
        """``x`` ``(B, C, *S)`` in this memory layout; the number format is left alone."""
        if self.channels_last and x.ndim in _CHANNELS_LAST:
            return x.contiguous(memory_format=_CHANNELS_LAST[x.ndim])
        return x.contiguous()


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
            f"device: expected one of {', '.join(DEVICES)}, got {name!r}; choose one of these"
        )
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": bool(torch.backends.mps.is_available()),
    }
    if kind == "auto":
        return torch.device(next((each for each, has in available.items() if has), "cpu"))
    if not available.get(kind, True):
        raise ResourceError(
            f"device: expected a machine with {kind}, got one without; use --device cpu"
        )
    return torch.device(name)


def choose_precision(device: torch.device, name: str = "auto") -> Precision:
    """The format of features on ``device``; ``"auto"`` takes bfloat16 where it is native.

    Raises:
        UsageError: the name is not one of `PRECISIONS`.

    >>> choose_precision(torch.device("cpu"), "float32").dtype
    torch.float32
    """
    if name not in PRECISIONS:
        raise UsageError(
            f"precision: expected one of {', '.join(PRECISIONS)}, got {name!r}; choose one of these"
        )
    if name == "auto":
        name = "bfloat16" if _native_bfloat16(device) else "float32"
    return Precision(getattr(torch, name))


def _native_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        # Without these instructions it works too, but several times slower than float32.
        # Older releases of torch do not tell.
        found: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
        return any(found.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return False
