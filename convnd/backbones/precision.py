"""The device, number format and memory layout that features are computed in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import nn

from convnd.backbones.base import Backbone
from convnd.backbones.module import ModuleBackbone, copy_module
from convnd.backbones.multiplanar import MultiPlanar
from convnd.backbones.vgg import VGG
from convnd.errors import ResourceError
from convnd.nn.layout import channels_last
from convnd.options import check_device_name
from convnd.registry import check_name

__all__ = ["PRECISIONS", "Precision", "choose_device", "choose_precision"]

PRECISIONS = ("auto", "float32", "bfloat16")
"""Names that `choose_precision` accepts."""


@dataclass(frozen=True)
class Precision:
    """Number format and memory layout of features; statistics and the image stay float32.

    Args:
        dtype: number format of weights and features.
        channels_last: whether channels are innermost in memory, which convolutions and Gram
            products read fastest.
        winograd: whether float32 convolutions on a CPU use Winograd's algorithm where it is
            faster; its rounding differs in the sixth digit.
    """

    dtype: torch.dtype = torch.float32
    channels_last: bool = True
    winograd: bool = False

    def exact(self) -> Precision:
        """Return the same layout in float32 at least, without Winograd's algorithm.

        >>> Precision(torch.bfloat16).exact()
        Precision(dtype=torch.float32, channels_last=True, winograd=False)
        """
        dtype = torch.promote_types(self.dtype, torch.float32)
        return replace(self, dtype=dtype, winograd=False)

    @classmethod
    def of(cls, backbone: Backbone) -> Precision:
        """Return the precision that a backbone has, with channels innermost."""
        net = backbone.net if isinstance(backbone, MultiPlanar) else backbone
        if isinstance(net, VGG):
            return cls(net.dtype, winograd=net.winograd)
        dtypes = [values.dtype for values in net.parameters() if values.is_floating_point()]
        return cls(dtypes[0] if dtypes else torch.float32)

    def convert(self, backbone: Backbone) -> Backbone:
        """Convert a backbone to this precision; return it unchanged if it has it already.

        A converted backbone is a copy that shares the weights that need no conversion.

        Raises:
            UsageError: the module cannot be copied.
        """
        if self._fits(backbone):
            return backbone
        twin = copy_module(backbone, "Objective")
        self.apply(twin)
        return twin

    def apply(self, module: nn.Module) -> nn.Module:
        """Convert the parameters of a module in place, and return the module.

        The first convolution of a `VGG` stays float32 at least. Buffers keep their number format,
        except in modules of users, whose layers expect one format for both.
        """
        if isinstance(module, MultiPlanar):
            self.apply(module.net)
            return module
        for parameter, dtype in self._dtypes(module):
            parameter.data = self._arrange(parameter.data.to(dtype))
        for buffer in _user_buffers(module):
            buffer.data = buffer.data.to(self.dtype)
        if isinstance(module, VGG):
            module.winograd = self.winograd
        return module

    def _fits(self, module: nn.Module) -> bool:
        """Whether `apply` would change nothing."""
        if isinstance(module, MultiPlanar):
            return self._fits(module.net)
        if isinstance(module, VGG) and module.winograd != self.winograd:
            return False
        return all(buffer.dtype == self.dtype for buffer in _user_buffers(module)) and all(
            values.dtype == dtype and self._arrange(values.data).data_ptr() == values.data_ptr()
            for values, dtype in self._dtypes(module)
        )

    def _dtypes(self, module: nn.Module) -> Iterator[tuple[nn.Parameter, torch.dtype]]:
        """Yield the parameters of a module, each with its number format in this precision."""
        first = next(iter(module.convolutions.values())) if isinstance(module, VGG) else None
        exact = () if first is None else tuple(map(id, first.parameters()))
        for parameter in module.parameters():
            is_exact = id(parameter) in exact
            yield (
                parameter,
                torch.promote_types(self.dtype, torch.float32) if is_exact else self.dtype,
            )

    def _arrange(self, values: torch.Tensor) -> torch.Tensor:
        """Bring weights into the memory layout that the convolutions read fastest."""
        if self.winograd and values.ndim > 2:  # the layout that `winograd_conv_nd` reads
            return values.movedim((1, 0), (-2, -1)).contiguous().movedim((-1, -2), (0, 1))
        return self.layout(values)

    def layout(self, x: torch.Tensor) -> torch.Tensor:
        """Bring ``(B, C, *S)`` into this memory layout; the number format does not change."""
        return channels_last(x) if self.channels_last else x.contiguous()


def _user_buffers(module: nn.Module) -> list[torch.Tensor]:
    """The buffers of a user's module whose number format follows that of its parameters."""
    buffers = module.buffers() if isinstance(module, ModuleBackbone) else ()
    return [buffer for buffer in buffers if buffer.is_floating_point()]


def choose_device(name: str = "auto") -> torch.device:
    """Choose the device to compute on.

    Args:
        name: one of `convnd.options.DEVICES`, also with an index, as in ``cuda:1``. ``"auto"`` is
            CUDA if there is one, else MPS, else the CPU.

    For CUDA, the function turns TF32 off for the rest of the process: by default torch rounds the
    factors of float32 convolutions to 10 bits there, and float32 is the exact format here.

    Raises:
        UsageError: the name is not one of these.
        ResourceError: this machine has no such device.

    >>> choose_device("cpu")
    device(type='cpu')
    """
    kind = check_device_name(name)
    available = {"cuda": torch.cuda.is_available(), "mps": bool(torch.backends.mps.is_available())}
    if kind == "auto":
        name = next((device for device, is_there in available.items() if is_there), "cpu")
    elif not available.get(kind, True):
        raise ResourceError(
            "device",
            expected=f"a machine with {kind}",
            got="one without",
            remedy="use --device cpu",
        )
    device = torch.device(name)
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
    return device


def choose_precision(device: torch.device, name: str = "auto") -> Precision:
    """Choose number format and memory layout of features for a device.

    ``"auto"`` is the fastest: bfloat16 on GPUs that support it, on CPUs with matrix units (AMX),
    and on AMD CPUs with bfloat16 vector instructions (Zen 4 and later), where it was measured to be
    twice as fast as float32. On an Intel CPU with these instructions but without AMX it was half as
    fast. There and on all other CPUs ``"auto"`` is float32 with Winograd's algorithm. The choice
    depends on the kind of processor and never on a timing, so that the same machine computes the
    same numbers.

    Args:
        device: the device.
        name: one of `PRECISIONS`; ``"float32"`` is exact, without Winograd's algorithm.

    Raises:
        UsageError: the name is not one of `PRECISIONS`.

    >>> choose_precision(torch.device("cpu"), "float32")
    Precision(dtype=torch.float32, channels_last=True, winograd=False)
    """
    check_name("precision", name, PRECISIONS)
    if name == "auto":
        name = "bfloat16" if _fast_bfloat16(device) else "float32"
        return Precision(getattr(torch, name), winograd=name == "float32" and device.type == "cpu")
    return Precision(getattr(torch, name))


def _fast_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        # torch and oneDNN emulate bfloat16 where they are held to older instructions.
        if torch.backends.cpu.get_cpu_capability() != "AVX512":
            return False
        # Older releases of torch lack this function.
        capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
        full_rate = "AMD" in str(capabilities.get("cpu_name")) and capabilities.get("avx512_bf16")
        return bool(capabilities.get("amx_bf16") or full_rate)
    return False
