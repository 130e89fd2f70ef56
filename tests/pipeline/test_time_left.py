"""The time that is left: recorded times of steps are replayed through the estimator."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from convnd_tasks.runtime.time_left import TimeLeft

from convnd.backbones import load
from convnd.backbones.kernels import native
from convnd.transfer.scales import SETUP_STEPS
from convnd.transfer.step_cost import (
    count_transformed_weights,
    fixed_share,
    multiplications_per_sample,
)

RECORDS = json.loads((Path(__file__).parent / "data" / "step_times.json").read_text())
"""Processor time of 100 steps from coarse to fine, by jobs of one thread (float32: with AVX2)."""

Row = tuple[float, float, int, int, int, float]


def _with_setups(fractions: list[list[float]], counts: list[int]) -> list[list[float]]:
    """Fractions of the work at the first and last step of each scale, setups included."""
    steps = [(last - first) / count for (first, last), count in zip(fractions, counts, strict=True)]
    ends = [0.0]
    for step, count in zip(steps, counts, strict=True):
        ends.append(ends[-1] + step * (SETUP_STEPS + count))
    return [
        [(before + step * SETUP_STEPS) / ends[-1], after / ends[-1]]
        for before, after, step in zip(ends, ends[1:], steps, strict=False)
    ]


def _rows(name: str) -> list[Row]:
    """Seconds, fraction done, steps left, scale, scales left and fixed share of every step."""
    scales, rows = RECORDS[name], []
    counts = [len(scale["seconds"]) - 1 for scale in scales]
    fractions = _with_setups([scale["fractions"] for scale in scales], counts)
    dtype = getattr(torch, name.rpartition("_")[2])
    for scale, ends in zip(scales, fractions, strict=True):
        share = fixed_share(scale["multiplications"], dtype, scale.get("transformed_weights", 0))
        count = len(scale["seconds"])
        for index, seconds in enumerate(scale["seconds"]):
            part = index / (count - 1)
            fraction, left = (
                first + part * (last - first) for first, last in (ends, scale["steps_left"])
            )
            number = scale["scale"]
            rows.append((seconds, fraction, round(left), number, len(scales) - number, share))
    return rows


def _errors(rows: list[Row], pace: float = 1.0) -> list[float]:
    """Error of the time left from the tenth step on, relative to the time of the whole job."""
    left, errors = TimeLeft(), []
    end = rows[-1][0]
    for number, (seconds, fraction, steps, scale, scales, share) in enumerate(rows):
        left.add(
            fraction,
            pace * seconds,
            steps_left=steps,
            scale=scale,
            scales_left=scales,
            fixed_share=share,
        )
        if number >= 10:
            estimate = left.seconds(pace * seconds)
            assert estimate is not None
            errors.append(abs(estimate - pace * (end - seconds)) / (pace * end))
    return errors


@pytest.mark.parametrize("pace", [1.0, 7.0])
@pytest.mark.parametrize("name", RECORDS)
def test_time_left_is_right_within_a_fifth_from_the_tenth_step_on(name: str, pace: float) -> None:
    assert max(_errors(_rows(name), pace)) < 0.2


def test_without_the_fixed_part_coarse_steps_mislead() -> None:
    rows = [(*row[:-1], 0.0) for row in _rows("compact_320_bfloat16")]
    assert max(_errors(rows)) > 0.3


def test_networks_in_turn_count_by_their_cost() -> None:
    """Ninety steps of one second, then ten of three."""
    work = [1.0] * 90 + [3.0] * 10
    rows: list[Row] = [(0.0, 0.0, 100, 1, 0, 0.0)]
    for number in range(1, 101):
        done = sum(work[:number])
        rows.append((done, done / sum(work), 100 - number, 1, 0, 0.0))
    assert max(_errors(rows)) < 1e-9


def test_a_machine_that_slows_down_is_followed() -> None:
    left = TimeLeft()
    for number in range(101):
        left.add(number / 200, float(min(number, 50) + 3 * max(0, number - 50)), steps_left=1)
    seconds = left.seconds(200.0)
    assert seconds is not None
    assert abs(seconds - 300) < 1


def test_steps_of_a_frame_tell_nothing_of_other_frames() -> None:
    left = TimeLeft()
    for frame in range(5):
        for step in range(10):
            left.add(frame / 10, 10.0 * frame + step, steps_left=10 - frame)
    assert left.seconds(49.0) == pytest.approx(51.0)


def test_time_left_is_not_known_before_two_steps() -> None:
    left = TimeLeft()
    assert left.seconds(0.0) is None
    left.add(0.0, 5.0)
    assert left.seconds(5.0) is None


FRAMES = (3.22, 0.48, 0.40, 0.43, 0.48, 0.44, 0.44, 0.50, 0.49, 0.56, 0.47, 0.57, 0.48, 0.52, 0.65)
"""Seconds of the frames of a video: the first takes all steps, the others settle early."""

UPDATES = (0.5, 1.1, 1.0, 1.0, 0.5, 0.9, 0.5, 0.5, 0.4, 0.4, 0.4, 1.2, 0.4, 0.4, 0.4, 0.5, 0.5, 0.6)
"""Seconds of updates of a network in training: a content that is drawn first is encoded, too."""


@pytest.mark.parametrize(("times", "first_shown"), [(FRAMES, 4), (UPDATES, 4)])
def test_steps_that_take_longer_once_do_not_count(
    times: tuple[float, ...], first_shown: int
) -> None:
    left, total = TimeLeft(), sum(times)
    left.add(0.0, 0.0)
    shown = []
    for number in range(1, len(times) + 1):
        now = sum(times[:number])
        left.add(number / len(times), now)
        if left.is_reliable:
            shown.append(number)
        if number >= 10:
            seconds = left.seconds(now)
            assert seconds is not None
            assert abs(seconds - (total - now)) < 0.2 * total
    assert shown[0] == first_shown


def test_multiplications_are_those_of_the_layers() -> None:
    """Counted by hand: weights of each layer, divided by the pixels of one of its positions."""
    layers = ["relu2_1"]
    network = load("vgg19", spatial_dims=2, in_channels=3, layers=layers)
    by_hand = 9 * (3 * 64 + 64 * 64) + 9 * 64 * 128 / 4
    assert multiplications_per_sample(network) == by_hand
    # Compiled convolutions keep their transformed kernels.
    transformed = 0 if native.is_available() else 9 * 64 * 128
    assert count_transformed_weights(network) == transformed
    assert fixed_share(0.0) == 0.0
    assert fixed_share(1e12) < 0.01 < 0.99 < fixed_share(1e5)


def test_a_slow_first_step_of_a_scale_does_not_change_the_estimate() -> None:
    left = TimeLeft()
    for number in range(11):
        left.add(0.01 * number, float(number), scale=1)
    assert left.seconds(10.0) == pytest.approx(90.0)
    left.add(0.12, 12.0, scale=2)
    left.add(0.13, 16.0, scale=2)
    assert left.seconds(16.0) == pytest.approx(87.0)  # 87 % of the work, as fast as before


def test_a_last_scale_of_few_steps_is_followed() -> None:
    """A picture that is finished at 640 pixels: 18 steps of compact, and 3 of VGG-19.

    Seconds were recorded with one thread of an AMD EPYC.
    """
    left = TimeLeft()
    for step in range(18):
        left.add(
            0.058 + 0.0262 * step,
            2.6 + 0.66 * step,
            steps_left=20 - step,
            scales_left=1,
            fixed_share=0.034,
        )
    for step, (fraction, seconds) in enumerate(
        ((0.714, 18.1), (0.809, 20.4), (0.905, 22.7), (1.0, 25.1))
    ):
        left.add(fraction, seconds, steps_left=3 - step, scale=2, fixed_share=0.006)
        estimate = left.seconds(seconds)
        assert estimate == pytest.approx(25.1 - seconds, abs=0.6)


def test_a_last_scale_that_is_faster_than_expected_is_followed() -> None:
    left = TimeLeft()
    for step in range(11):
        left.add(0.02 * step, float(step), steps_left=14 - step, scales_left=1)
    assert left.seconds(10.0) == pytest.approx(40.0)
    for step in range(5):  # a second for a fifth of the rest, which took eight before
        left.add(0.2 + 0.2 * step, 11.0 + step, steps_left=4 - step, scale=2)
    assert left.seconds(15.0) == 0.0
    left = TimeLeft()
    for step in range(11):
        left.add(0.02 * step, float(step), steps_left=14 - step, scales_left=1)
    for step in range(3):
        left.add(0.2 + 0.2 * step, 11.0 + step, steps_left=4 - step, scale=2)
    assert left.seconds(13.0) == pytest.approx(2.0)
