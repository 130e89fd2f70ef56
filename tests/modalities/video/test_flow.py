"""Flow with known answers: videos whose flow is exact, fields worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from convnd_tasks.modalities.video import flow as flows
from convnd_tasks.samples.video import render_video
from error_fields import raises

from convnd.errors import ShapeError


def wide(seed: int = 0, height: int = 64, width: int = 120) -> torch.Tensor:
    """A smooth random picture, wider than the window that will be cut out of it."""
    rng = np.random.default_rng(seed)
    noise = rng.random((3, height, width))
    for _ in range(3):
        noise = (noise + np.roll(noise, 1, 1) + np.roll(noise, 1, 2) + np.roll(noise, -1, 2)) / 4
    low, high = noise.min(), noise.max()
    return torch.from_numpy((noise - low) / (high - low)).float()[None]


def test_warp_is_exact_on_whole_pixels() -> None:
    frames, exact = render_video((4, 48, 80), 0)
    for t in range(3):
        before, after = (torch.from_numpy(frames[None, :, index]) for index in (t, t + 1))
        moved = flows.warp(after, torch.from_numpy(exact[t]).float())
        y, x = np.mgrid[:48, :80]
        where = y + exact[t, 0], x + exact[t, 1]
        inside = (where[0] >= 0) & (where[0] < 48) & (where[1] >= 0) & (where[1] < 80)
        oracle = after.numpy()[0][:, np.clip(where[0], 0, 47), np.clip(where[1], 0, 79)]
        assert np.array_equal(moved[0].numpy()[:, inside], oracle[:, inside])
        # Where nothing is occluded, it equals the frame before: nearly everywhere in this video.
        same = (moved - before).abs().amax(1)[0].numpy() < 1e-4
        assert same[inside].mean() > 0.9


def test_warp_between_pixels() -> None:
    rng = np.random.default_rng(3)
    values, field = rng.random((2, 9, 11)), rng.normal(size=(2, 9, 11)) * 3
    warped = flows.warp(torch.from_numpy(values)[None], torch.from_numpy(field))[0].numpy()
    for y in range(9):
        for x in range(11):
            a = min(max(y + field[0, y, x], 0), 8)
            b = min(max(x + field[1, y, x], 0), 10)
            total = 0.0
            for i in range(9):
                for j in range(11):
                    total = total + values[:, i, j] * max(0, 1 - abs(a - i)) * max(
                        0, 1 - abs(b - j)
                    )
            np.testing.assert_allclose(warped[:, y, x], total, atol=1e-12)


@pytest.mark.parametrize("shift", [(0, 3), (2, 0), (-1, -4)])
def test_flow_of_a_translation(shift: tuple[int, int]) -> None:
    picture = wide()
    down, right = shift
    first = picture[..., 8:56, 20:100]
    second = picture[..., 8 - down : 56 - down, 20 - right : 100 - right]
    flow = flows.optical_flow(first, second)[:, 8:-8, 8:-8]
    expected = torch.tensor([down, right]).view(2, 1, 1)
    assert (flow - expected).abs().median() < 0.15


def test_consistency_by_hand() -> None:
    # A row of 8 pixels: all go 2 to the right, and 2 back, except for one that is occluded.
    flow = torch.zeros(2, 3, 8)
    flow[1] = 2.0
    back = -flow.clone()
    back[1, 1, 5] = 1.0  # what pixel 3 finds: |2 + 1|² = 9 ≥ 0.01 · (4 + 1) + 0.5
    mask = flows.FlowPair(flow, back).valid_forward[0, 0]
    expected = torch.ones(3, 8)
    expected[:, 6:] = 0  # they leave the frame
    expected[1, 3] = 0
    assert torch.equal(mask, expected)
    # Just within: |w + ŵ|² = 0.5 < 0.01 · (4 + 1.671…) + 0.5
    back[1, 1, 5] = -2.0 + math.sqrt(0.5)
    assert flows.FlowPair(flow, back).valid_forward[0, 0, 1, 3] == 1
    back[1, 1, 5] = -2.0 + math.sqrt(0.57)  # and just beyond: 0.5 + 0.01 · (4 + 1.55…) = 0.556
    assert flows.FlowPair(flow, back).valid_forward[0, 0, 1, 3] == 0
    # A motion boundary: half of the field moves differently.
    flow[1, :, :4], back[1, :, :4] = 0.0, 0.0
    back[1, :, 4:6] = 0.0
    pair = flows.FlowPair(flow, back)
    mask = pair.valid_forward[0, 0]
    assert mask[:, :3].all()
    assert not mask[:, 3:5].any()  # |∇u|² = 1 at both sides
    assert not mask[:, 6:].any()
    visible = pair.visible_forward[0, 0]
    assert visible[:, :6].all()  # with the boundary
    assert not visible[:, 6:].any()
    assert torch.equal(flows.FlowPair(back, flow).visible_backward[0, 0], visible)


def test_error_of_a_translation_and_of_noise() -> None:
    picture = wide(1)
    frames = [picture[..., 8:56, 20 - 2 * t : 100 - 2 * t] for t in range(3)]
    known = torch.zeros(2, 48, 80)
    known[1] = 2.0
    exact = flows.FlowPair(known, -known)
    assert flows.warping_error(frames[0], frames[1], exact) < 1e-10
    assert (
        flows.warping_error(frames[0], frames[1], flows.estimate_flow(frames[0], frames[1])) < 1e-3
    )
    a, b = (torch.rand(1, 3, 48, 80, generator=torch.Generator().manual_seed(n)) for n in (1, 2))
    # E (a - b)² of two uniform variables is 1/6, and there are three channels.
    assert flows.warping_error(a, b, exact) == pytest.approx(0.5, rel=0.03)
    shifted = frames[1] + 0.1
    assert flows.warping_error(frames[0], shifted, exact) == pytest.approx(0.03, rel=1e-4)
    both = flows.warping_errors([frames[0], a], [shifted, b], exact)
    assert both == [
        flows.warping_error(frames[0], shifted, exact),
        flows.warping_error(a, b, exact),
    ]
    away = torch.full((2, 48, 80), 500.0)
    assert math.isnan(flows.warping_error(a, b, flows.FlowPair(away, -away)))


def test_cuts() -> None:
    one, _ = render_video((3, 64, 96), 0)
    frames = [torch.from_numpy(one[None, :, t]) for t in range(3)]
    other = 1 - wide(5, 64, 96) * torch.tensor([0.9, 0.3, 0.2]).view(1, 3, 1, 1)

    def cut(first: torch.Tensor, second: torch.Tensor) -> bool:
        return flows.is_cut(first, second, flows.estimate_flow(first, second).valid_backward)

    assert not cut(frames[0], frames[1])
    assert not cut(frames[0], frames[2])
    assert not cut(frames[0], (frames[1] * 1.1).clamp(0, 1))  # a lamp is turned up
    assert cut(frames[1], other)
    assert cut(other, frames[1])


@pytest.mark.parametrize("shapes", [((32, 32), (32, 33)), ((8, 32), (8, 32))])
def test_frames_must_have_one_size_of_16_pixels(shapes: tuple[tuple[int, int], ...]) -> None:
    with raises(ShapeError, operation="optical flow", expected="two frames"):
        flows.optical_flow(*(torch.zeros(1, 3, *shape) for shape in shapes))
