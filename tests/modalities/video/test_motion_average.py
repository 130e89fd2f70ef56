"""Frames of a block change together along motion that is known exactly."""

from __future__ import annotations

import pytest
import torch
from convnd_tasks import samples
from convnd_tasks.modalities.video.flow import FlowPair
from convnd_tasks.modalities.video.motion_average import BlockStyleTransfer, MotionCompensatedMean
from convnd_tasks.modalities.video.options import VideoOptions

from convnd.losses import Objective, TemporalLoss, Term
from convnd.optimize import evaluate_whole
from convnd.transfer.problem import TransferProblem
from convnd.transfer.style_transfer import StyleTransfer


def _pan(frames: int, height: int, width: int, speed: int) -> list[FlowPair]:
    """Everything moves to the right, ``speed`` pixels a frame."""
    forward = torch.zeros(2, height, width)
    forward[1] = speed
    return [FlowPair(forward, -forward) for _ in range(frames - 1)]


@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
def test_values_that_move_with_the_flow_are_unchanged(
    decay: float, generator: torch.Generator
) -> None:
    wide = torch.rand(1, 3, 16, 40, generator=generator)
    frames = torch.stack([wide[..., 2 * (5 - t) : 2 * (5 - t) + 24] for t in range(5)], 2)
    mean = MotionCompensatedMean.from_flows(_pan(5, 16, 24, 2), decay)(frames)
    torch.testing.assert_close(mean, frames)


def test_the_mean_by_hand() -> None:
    # Only the pixel that frame 1 has at column 8 is lit: it was at 6 before, and is at 10 after.
    values = torch.zeros(1, 1, 3, 16, 24)
    values[:, :, 1, 5, 8] = 1.0
    mean = MotionCompensatedMean.from_flows(_pan(3, 16, 24, 2), 0.5)(values)
    lit = {
        (t, x): value
        for t, y, x in mean[0, 0].nonzero().tolist()
        if y == 5
        for value in [round(mean[0, 0, t, y, x].item(), 6)]
    }
    first, middle = 0.5 / (1 + 0.5 + 0.25), 1 / (1 + 0.5 + 0.5)
    assert lit == {(0, 6): round(first, 6), (1, 8): middle, (2, 10): round(first, 6)}
    # Where no flow is consistent, each frame is by itself.
    away = torch.full((2, 16, 24), 99.0)
    alone = MotionCompensatedMean.from_flows([FlowPair(away, away)] * 2, 0.5)(values)
    torch.testing.assert_close(alone, values)


def test_known_frames_are_extrapolated(generator: torch.Generator) -> None:
    wide = torch.rand(1, 3, 16, 40, generator=generator)
    frames = torch.stack([wide[..., 2 * (5 - t) : 2 * (5 - t) + 24] for t in range(5)], 2)
    values, default = frames.clone(), torch.full_like(frames, 9.0)
    values[:, :, 2:] = 7.0
    mean = MotionCompensatedMean.from_flows(_pan(5, 16, 24, 2), 0.5)
    filled = mean.extrapolate(values, [True, True, False, False, False], default)
    torch.testing.assert_close(filled[:, :, :2], frames[:, :, :2])
    for t in (2, 3, 4):  # columns that came in at the left since are not known
        new = 2 * (t - 1)
        torch.testing.assert_close(filled[:, :, t, :, new:], frames[:, :, t, :, new:])
        assert (filled[:, :, t, :, :new] == 9.0).all()


def test_a_smaller_size_has_the_same_trajectories() -> None:
    small = MotionCompensatedMean.from_flows(_pan(3, 32, 48, 4), 0.5).resized(
        (16, 24), torch.device("cpu")
    )
    values = torch.zeros(1, 1, 3, 16, 24)
    values[:, :, 1, 5, 8] = 1.0
    assert [(t, x) for t, _, x in small(values)[0, 0].nonzero().tolist()] == [
        (0, 6),
        (1, 8),
        (2, 10),
    ]


def test_blocks_do_not_flicker(generator: torch.Generator) -> None:
    style = samples.style("cells", spatial_dims=2, size=32).values[:, :, None]
    wide = torch.rand(1, 3, 24, 48, generator=generator)
    content = torch.stack([wide[..., 2 * (5 - t) : 2 * (5 - t) + 32] for t in range(6)], 2)
    options = VideoOptions(
        mode="block",
        steps=10,
        scales=1,
        style_layers=("relu1_1", "relu2_1"),
        content_layers=("relu2_1",),
    )
    transfer = BlockStyleTransfer(options, spatial_dims=3, in_channels=3, fixed_axes=1)
    errors, remaining = {}, {}
    for name, decay in (("free", 0.0), ("along", 0.9)):
        transfer.trajectories = [(1.0, MotionCompensatedMean.from_flows(_pan(6, 24, 32, 2), decay))]
        first, *_, last = transfer.run(TransferProblem(content, [style], same_grid=True))
        x = last.values
        errors[name] = float((x[:, :, 1:, :, 2:] - x[:, :, :-1, :, :-2]).square().mean())
        remaining[name] = last.parts["style"] / first.parts["style"]
    # The preconditioner of L-BFGS lets free changes flicker less, too.
    assert errors["along"] < 0.5 * errors["free"]
    assert remaining["along"] < 0.5


def test_part_of_the_change_moves_as_a_style_does(generator: torch.Generator) -> None:
    # The target is a picture that rests plus one that moves two pixels to the right.
    still = _pan(6, 24, 32, 0)
    carried = [pair.compose(_pan(2, 24, 32, 2)[0]) for pair in still]
    start = torch.rand(1, 3, 1, 24, 32, generator=generator).expand(-1, -1, 6, -1, -1)
    wide = torch.rand(1, 3, 24, 48, generator=generator)
    moving = torch.stack([wide[..., 2 * (5 - t) : 2 * (5 - t) + 32] for t in range(6)], 2)
    resting = torch.rand(1, 3, 1, 24, 32, generator=generator)
    loss = TemporalLoss(start + moving + resting, torch.ones(1, 1, 6, 24, 32))
    options = VideoOptions(mode="block", style_layers=("relu1_1",), content_layers=("relu1_1",))
    transfer = BlockStyleTransfer(options, spatial_dims=3, in_channels=3, fixed_axes=1)
    objective = Objective(transfer.backbone, [Term("target", 1.0, loss)])
    remaining = []
    for trajectories in ((still,), (carried,), (still, carried)):
        transfer.trajectories = [
            (0.5, MotionCompensatedMean.from_flows(flows, 1.0)) for flows in trajectories
        ]
        first, *_, last = transfer.optimize(objective, start, evaluate=evaluate_whole, steps=30)
        remaining.append(last.loss / first.loss)
    assert remaining[2] < 0.1 * min(remaining[:2]), remaining


def test_flows_compose() -> None:
    # Two to the right, and from there one down where the second flow says so.
    first, second = _pan(2, 16, 24, 2)[0], FlowPair(torch.zeros(2, 16, 24), torch.zeros(2, 16, 24))
    second.forward[0, :, 8], second.backward[0, :, 8] = 1.0, -1.0
    both = first.compose(second)
    assert both.forward[:, 5, 6].tolist() == [1, 2]
    assert both.forward[:, 5, 8].tolist() == [0, 2]
    assert both.backward[:, 6, 8].tolist() == [-1, -2]
    assert both.resized((32, 24), 3.0).forward[:, 12, 6].tolist() == [3, 6]


def test_features_see_time_with_multiplanar_only() -> None:
    picture, video = torch.rand(1, 3, 1, 16, 16), torch.rand(1, 3, 16, 16, 16)
    layers = {}
    for inflation in ("auto", "multiplanar"):
        options = VideoOptions(
            mode="block",
            inflation=inflation,
            style_layers=("relu1_1",),
            content_layers=("relu1_1",),
        )
        transfer = StyleTransfer(options, spatial_dims=3, in_channels=3, fixed_axes=1)
        for name, style in (("picture", picture), ("video", video)):
            objective = transfer.objective(video, [style], [1.0] * 3)
            layers[inflation, name] = [
                (term.name, term.loss.layer[-2:]) for term in objective.terms
            ]
        assert sum(term.weight for term in transfer.style_terms([picture])) == options.style_weight
    frames = [("content", "12"), ("style", "12")]
    assert layers.pop(("multiplanar", "video")) == [
        ("content", "12"),
        *(("style", axes) for axes in ("01", "02", "12")),
    ]
    assert all(names == frames for names in layers.values())
    assert transfer.resizer.style_size(video.shape[2:], (20, 32, 32), (20, 64, 64)) == [16, 8, 8]
    assert transfer.resizer.style_size(picture.shape[2:], (20, 32, 32), (20, 64, 64)) == [1, 32, 32]
