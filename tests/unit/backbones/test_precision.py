"""Features in bfloat16 and channels-last give the objective that float32 gives, nearly."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from convnd.backbones import Precision, choose_precision
from convnd.optimize import evaluate_whole
from convnd.transfer.options import TransferOptions
from convnd.transfer.style_transfer import StyleTransfer

OPTIONS = TransferOptions(
    backbone="compact", steps=2, scales=1, precision="float32", inflation="mean"
)


@pytest.mark.parametrize("ndim", [1, 2, pytest.param(3, marks=pytest.mark.slow)])
def test_bfloat16_is_near_float32(ndim: int) -> None:
    generator = torch.Generator().manual_seed(0)
    extent = {1: 512, 2: 48, 3: 16}[ndim]
    content, style, x = torch.rand(3, 1, 1, *[extent] * ndim, generator=generator)
    evaluations = []
    for precision in ("float32", "bfloat16"):
        options = dataclasses.replace(OPTIONS, precision=precision)
        transfer = StyleTransfer(options, spatial_dims=ndim, in_channels=1)
        assert transfer.backbone.dtype == getattr(torch, precision)
        assert transfer.backbone.mean.dtype == torch.float32
        evaluations.append(evaluate_whole(transfer.objective(content, [style], [1.0] * ndim), x))
    exact, rough = evaluations
    assert rough.gradient.dtype == torch.float32
    assert rough.loss == pytest.approx(exact.loss, rel=0.03)
    similarity = torch.cosine_similarity(rough.gradient.flatten(), exact.gradient.flatten(), 0)
    assert similarity > 0.98


@pytest.mark.parametrize("ndim", [2, 3])
def test_layout_changes_no_number(ndim: int) -> None:
    generator = torch.Generator().manual_seed(0)
    content, style, x = torch.rand(3, 1, 1, *[16] * ndim, generator=generator)
    evaluations = []
    for channels_last in (False, True):
        transfer = StyleTransfer(OPTIONS, spatial_dims=ndim, in_channels=1)
        transfer.precision = Precision(torch.float32, channels_last)
        transfer.precision.apply(transfer.backbone)
        features = transfer.backbone(transfer.precision.layout(x), ["relu2_1"])["relu2_1"]
        if ndim == 2:  # for three axes torch picks the layout on its own
            assert features.is_contiguous() is not channels_last
        objective = transfer.objective(content, [style], [1.0] * ndim)
        evaluations.append(evaluate_whole(objective, x))
        assert evaluations[-1].gradient.is_contiguous()
    assert evaluations[0].loss == pytest.approx(evaluations[1].loss, rel=1e-5)
    torch.testing.assert_close(
        evaluations[0].gradient, evaluations[1].gradient, rtol=1e-3, atol=1e-6
    )


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_faint_textures_on_bright_ground_survive_bfloat16(ndim: int) -> None:
    generator = torch.Generator().manual_seed(0)
    extent = {1: 1024, 2: 64, 3: 24}[ndim]
    x = 0.9 + 0.002 * torch.rand(1, 1, *[extent] * ndim, generator=generator)
    both = []
    for precision in ("float32", "bfloat16"):
        options = dataclasses.replace(OPTIONS, precision=precision)
        transfer = StyleTransfer(options, spatial_dims=ndim, in_channels=1)
        features = transfer.backbone(transfer.precision.layout(x), ["relu2_1"])["relu2_1"].float()
        both.append(features)
    exact, rough = both
    varying = exact - exact.mean(tuple(range(2, exact.ndim)), keepdim=True)
    # Rounded once, the first layer leaves 0.21, 0.026 and 0.0086 of it wrong.
    bound = {1: 0.1, 2: 0.02, 3: 0.008}[ndim]
    assert (rough - exact).norm() < bound * varying.norm()


@pytest.mark.parametrize(
    ("capabilities", "dtype"),
    [
        ({"amx_bf16": True, "avx512_bf16": True, "cpu_name": "Intel(R) Xeon(R)"}, torch.bfloat16),
        ({"amx_bf16": False, "avx512_bf16": True, "cpu_name": "Intel(R) Xeon(R)"}, torch.float32),
        ({"amx_bf16": False, "avx512_bf16": True, "cpu_name": "AMD EPYC"}, torch.bfloat16),
        ({"amx_bf16": False, "avx512_bf16": False, "cpu_name": "AMD EPYC"}, torch.float32),
        ({}, torch.float32),
    ],
)
def test_the_format_follows_the_kind_of_processor(
    capabilities: dict[str, object], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    chosen = choose_precision(torch.device("cpu"))
    assert chosen == Precision(dtype, winograd=dtype == torch.float32)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert choose_precision(torch.device("cpu")) == Precision(torch.float32, winograd=True)
