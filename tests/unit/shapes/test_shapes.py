"""Geometry against brute force: windows laid out one by one, sets of positions followed back."""

from __future__ import annotations

import itertools
import math
import random
from fractions import Fraction
from typing import Any

import pytest
from error_fields import raises

from convnd.errors import ShapeError, UnknownNameError, UsageError
from convnd.shapes import (
    KINDS,
    Layer,
    ReceptiveField,
    ntuple,
    output_size,
    pad_pairs,
    parse_layer,
    parse_shape,
    trace,
)


def seen_from(layer: Layer, position: int) -> set[int]:
    """Input positions that one output position of a 1-D layer is computed from."""
    (kernel,), (stride,), (dilation,) = layer.kernel, layer.stride, layer.dilation
    ((low, _),) = layer.padding
    if layer.kind == "convtranspose":
        places = ((position + low - dilation * tap) / stride for tap in range(kernel))
        return {int(place) for place in places if place == int(place)}
    return {position * stride - low + dilation * tap for tap in range(kernel)}


def windows_that_fit(samples: int, layer: Layer) -> int:
    (kernel,), (stride,), (dilation,), ((low, high),) = (
        layer.kernel,
        layer.stride,
        layer.dilation,
        layer.padding,
    )
    padded = range(-low, samples + high)
    starts = range(-low, samples + high, stride)
    return sum(all(start + dilation * tap in padded for tap in range(kernel)) for start in starts)


def random_layer(pick: random.Random, kinds: tuple[str, ...] = KINDS) -> Layer:
    kind, kernel = pick.choice(kinds), pick.randint(1, 5)
    pooling = kind.endswith("pool")
    most = kernel - 1 if pooling else 3
    return Layer.build(
        kind,
        1,
        kernel=kernel,
        stride=pick.randint(1, 3),
        dilation=pick.randint(1, 2),
        padding=[(pick.randint(0, most), pick.randint(0, most))],
        channels=None if pooling else 1,
    )


NOTES = {  # input, then the output of each layer, as printed in the lecture notes
    1: ("14x1", [(10, 16), (6, 32)]),
    2: ("14x14x3", [(10, 10, 16), (6, 6, 32)]),
    3: ("14x14x14x1", [(10, 10, 10, 16), (6, 6, 6, 32)]),
}


@pytest.mark.parametrize("ndim", NOTES)
def test_the_stacks_of_the_notes(ndim: int) -> None:
    shape, outputs = NOTES[ndim]
    size, channels = parse_shape(shape, ndim)
    rows = trace(size, channels, [parse_layer(f"conv:5:{n}", ndim) for n in (16, 32)])
    assert [(*row.size, row.channels) for row in rows[1:]] == outputs
    assert [row.field.size for row in rows[1:]] == [(5,) * ndim, (9,) * ndim]
    assert [row.parameters for row in rows[1:]] == [
        16 * (5**ndim * channels + 1),
        32 * (5**ndim * 16 + 1),
    ]
    assert rows[1].multiply_adds == 10**ndim * 16 * channels * 5**ndim


def test_output_size_counts_the_windows_that_fit() -> None:
    pick = random.Random(1)
    for _ in range(300):
        layer = random_layer(pick, ("conv", "maxpool", "avgpool"))
        samples = pick.randint(1, 20)
        count = windows_that_fit(samples, layer)
        if count:
            assert output_size((samples,), layer) == (count,), (layer, samples)
        else:
            with raises(ShapeError, expected="at least"):
                output_size((samples,), layer)


@pytest.mark.parametrize(
    ("stride", "dilation", "kernel"), [*itertools.product((1, 2, 3), repeat=3)]
)
def test_same_padding_gives_ceil_of_size_over_stride(
    stride: int, dilation: int, kernel: int
) -> None:
    layer = Layer.build(
        "conv", 1, kernel=kernel, stride=stride, dilation=dilation, padding="same", channels=1
    )
    for samples in range(1, 12):
        assert output_size((samples,), layer) == (math.ceil(samples / stride),)


def test_transposed_size_undoes_that_of_the_convolution() -> None:
    options: dict[str, Any] = {
        "kernel": (4, 3),
        "stride": (2, 3),
        "padding": ((1, 0), (2, 1)),
        "channels": 1,
    }
    down = Layer.build("conv", 2, **options)
    up = Layer.build("convtranspose", 2, **options, output_padding=(1, 2))
    small = output_size((10, 11), down)
    large = output_size(small, up)
    assert output_size(large, down) == small
    assert large == (10, 11)


def test_receptive_field_follows_positions_back_through_the_stack() -> None:
    pick = random.Random(2)
    for _ in range(200):
        stack = [random_layer(pick, ("conv", "maxpool", "avgpool")) for _ in range(3)]
        field = ReceptiveField.identity(1)
        for layer in stack:
            field = field.compose(layer)
        for position in (0, 1, 4):
            positions = {position}
            for layer in reversed(stack):
                positions = set().union(*(seen_from(layer, place) for place in positions))
            (window,) = field.window((position,))
            assert (window.start, window.stop - 1) == (min(positions), max(positions))
            assert field.size == field.span == (len(window),)


def test_receptive_field_covers_what_transposed_convolutions_see() -> None:
    pick = random.Random(3)
    for _ in range(200):
        stack = [random_layer(pick) for _ in range(3)]
        field = ReceptiveField.identity(1)
        for layer in stack:
            field = field.compose(layer)
        for position in range(5):
            positions = {position}
            for layer in reversed(stack):
                positions = set().union(*(seen_from(layer, place) for place in positions))
            (window,) = field.window((position,))
            assert positions <= set(window), (list(map(str, stack)), position)
            assert len(window) <= field.span[0]


def test_one_transposed_convolution_is_exact() -> None:
    layer = Layer.build("convtranspose", 1, kernel=4, stride=2, padding=1, channels=1)
    field = ReceptiveField.identity(1).compose(layer)
    assert (field.stride, field.size, field.span) == ((Fraction(1, 2),), (Fraction(5, 2),), (2,))
    for position in range(6):
        assert set(field.window((position,))[0]) == seen_from(layer, position)


def test_region_crops_and_joins_a_block_of_positions() -> None:
    layer = Layer.build("conv", 2, kernel=5, stride=2, padding=2, channels=1)
    field = ReceptiveField.identity(2).compose(layer)
    assert field.offset == (-2, -2)
    assert field.region((0, range(1, 3)), (6, 6)) == (slice(0, 3), slice(0, 6))
    assert field.window((0, range(1, 3))) == (range(-2, 3), range(0, 7))
    assert field.region((range(2, 2), 9), (6, 6)) == (slice(0, 0), slice(6, 6))


def test_a_length_one_axis_changes_nothing() -> None:
    stack = ["conv:3:4,stride=2,padding=1", "pool:2", "convtranspose:2:3,stride=2"]
    flat = ["conv:3x1:4,stride=2x1,padding=1x0", "pool:2x1", "convtranspose:2x1:3,stride=2x1"]
    low = trace((12,), 2, [parse_layer(text, 1) for text in stack])
    high = trace((12, 1), 2, [parse_layer(text, 2) for text in flat])
    for a, b in zip(low, high, strict=True):
        assert (*a.size, 1) == b.size
        assert (a.parameters, a.multiply_adds) == (b.parameters, b.multiply_adds)
        assert (*a.field.size, 1) == b.field.size


def test_parameters_and_multiply_adds_by_hand() -> None:
    grouped = parse_layer("conv:3x2:6,groups=2,bias=no", 2)
    assert grouped.parameters(4) == 6 * 2 * 6
    # Each of 4·5 input samples of 4 channels meets 3·2 taps of 6/2 filters.
    up = parse_layer("convtranspose:3x2:6,groups=2", 2)
    assert up.weight_shape(4) == (4, 3, 3, 2)
    assert trace((4, 5), 4, [up])[1].multiply_adds == 4 * 5 * 4 * 6 * 3
    pool = trace((4, 5), 4, [parse_layer("pool:2", 2)])[1]
    assert (pool.channels, pool.parameters, pool.multiply_adds) == (4, 0, 0)


@pytest.mark.parametrize(
    "text",
    [
        "conv:5:16",
        "conv:5x3x3:16,stride=2,dilation=1x2x1,padding=1/2x0x3,groups=2,bias=no",
        "maxpool:2",
        "avgpool:3,stride=2,padding=1",
        "convtranspose:4:8,stride=2,padding=1/2,output_padding=1x0x1",
    ],
)
def test_notation_survives_a_round_trip(text: str) -> None:
    layer = parse_layer(text, 3)
    assert str(layer) == text
    assert parse_layer(str(layer), 3) == layer


def test_notation_reads_what_it_says() -> None:
    layer = parse_layer("conv:5x4:16,stride=2,dilation=2,padding=same,groups=4,bias=no", 2)
    assert layer == Layer(
        kind="conv",
        kernel=(5, 4),
        stride=(2, 2),
        dilation=(2, 2),
        padding=((4, 4), (3, 3)),
        channels=16,
        groups=4,
        bias=False,
        output_padding=(0, 0),
    )
    assert parse_layer("pool:2", 1) == parse_layer("maxpool:2,stride=2,padding=valid", 1)
    assert parse_shape("14×14X3") == ((14, 14), 3)


BAD_LAYERS = {
    "cov:5:16": (
        UnknownNameError,
        {"operation": "layer 'cov:5:16'", "got": "'cov'", "remedy": "'conv'"},
    ),
    "conv:5": (
        UsageError,
        {"operation": "layer 'conv:5'", "expected": "conv:KERNEL:FILTERS", "got": "'conv:5'"},
    ),
    "pool:2:16": (
        UsageError,
        {"operation": "layer 'pool:2:16'", "expected": "maxpool:KERNEL", "got": "'pool:2:16'"},
    ),
    "conv:5:x": (UsageError, {"operation": "layer 'conv:5:x'", "got": "'x'"}),
    "conv:5:16,strid=2": (
        UnknownNameError,
        {"operation": "layer 'conv:5:16,strid=2': option", "got": "'strid'", "remedy": "'stride'"},
    ),
    "conv:5:16,stride": (
        UsageError,
        {"operation": "layer 'conv:5:16,stride'", "expected": "stride=VALUE", "got": "'stride'"},
    ),
    "conv:5:16,stride=2,stride=3": (
        UsageError,
        {"operation": "layer 'conv:5:16,stride=2,stride=3'", "got": "it again in 'stride=3'"},
    ),
    "conv:5:16,bias=maybe": (
        UsageError,
        {"operation": "layer 'conv:5:16,bias=maybe'", "got": "'maybe'"},
    ),
    "conv:5:16,padding=1/b": (
        UsageError,
        {"operation": "layer 'conv:5:16,padding=1/b'", "got": "'b'"},
    ),
    "conv:5x5x5:16": (
        ShapeError,
        {
            "operation": "layer 'conv:5x5x5:16': conv kernel",
            "expected": "1, or 2",
            "got": "(5, 5, 5)",
        },
    ),
    "conv:0:16": (
        ShapeError,
        {"operation": "layer 'conv:0:16': conv kernel", "expected": "1", "got": "0"},
    ),
    "conv:5:16,groups=3": (
        ShapeError,
        {"operation": "layer 'conv:5:16,groups=3': conv", "expected": "3 groups", "got": "16"},
    ),
    "conv:5:16,padding=1x1x1": (
        ShapeError,
        {"operation": "layer 'conv:5:16,padding=1x1x1': conv padding", "expected": "2 entries"},
    ),
    "pool:2,groups=2": (
        ShapeError,
        {"operation": "layer 'pool:2,groups=2': maxpool", "expected": "no channels or groups"},
    ),
    "pool:2,padding=2": (
        ShapeError,
        {"operation": "layer 'pool:2,padding=2': maxpool", "expected": "(1, 1"},
    ),
    "conv:5:16,output_padding=1": (
        ShapeError,
        {
            "operation": "layer 'conv:5:16,output_padding=1': conv",
            "expected": "no output_padding",
            "got": "1",
        },
    ),
    "convtranspose:5:16,output_padding=1": (
        ShapeError,
        {
            "operation": "layer 'convtranspose:5:16,output_padding=1': convtranspose",
            "expected": "output_padding below the stride",
            "got": "1",
        },
    ),
    "convtranspose:5:16,padding=same": (
        UnknownNameError,
        {"operation": "convtranspose padding", "got": "'same'"},
    ),
}


@pytest.mark.parametrize("text", BAD_LAYERS)
def test_bad_layers_are_refused_where_they_are_bad(text: str) -> None:
    error, words = BAD_LAYERS[text]
    with raises(UsageError, **words) as caught:
        parse_layer(text, 2)
    assert caught.type is error
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "dims", "error", "words"),
    [
        (
            "14xqx1",
            None,
            UsageError,
            {"operation": "shape '14xqx1'", "got": "'q'", "remedy": "write for example 14x14x3"},
        ),
        ("14x0x1", None, UsageError, {"operation": "shape '14x0x1'", "got": "'0'"}),
        ("", None, UsageError, {"operation": "shape ''", "got": "''"}),
        (
            "5",
            None,
            ShapeError,
            {"operation": "shape '5'", "expected": "1 axis and then", "got": "0 and the channels"},
        ),
        (
            "14x14x1",
            3,
            ShapeError,
            {
                "operation": "shape '14x14x1'",
                "expected": "3 axes and then",
                "got": "2 and the channels",
                "remedy": "write for example 14x14x14x1",
            },
        ),
    ],
)
def test_bad_shapes_are_refused(
    text: str, dims: int | None, error: type[Exception], words: dict[str, str]
) -> None:
    with raises(UsageError, **words) as caught:
        parse_shape(text, dims)
    assert caught.type is error


def test_sizes_are_checked_by_name() -> None:
    assert ntuple([2, 3], 2, "stride") == (2, 3)
    for bad in ((1, 2, 3), 0, -1, 1.5, "3", None, (1, 0)):
        with raises(ShapeError, operation="stride", expected="1"):
            ntuple(bad, 2, "stride")  # type: ignore[arg-type]


def test_padding_is_checked_by_name() -> None:
    assert pad_pairs(1, 2) == pad_pairs((1, (1, 1)), 2) == ((1, 1), (1, 1))
    assert pad_pairs("valid", 3) == ((0, 0),) * 3
    with raises(ShapeError, operation="padding", expected="2 entries", got="(1, 2, 3)"):
        pad_pairs((1, 2, 3), 2)
    with raises(ShapeError, operation="padding of axis 1", expected="one whole number"):
        pad_pairs((1, -2), 2)
    with raises(UnknownNameError, operation="padding", got="'same'"):
        pad_pairs("same", 2)
    with raises(ShapeError, operation="padding of axis 0", expected="one whole number"):
        pad_pairs(1.5, 2)  # type: ignore[arg-type]


def test_ranks_and_channels_must_agree() -> None:
    layer = Layer.build("conv", 2, kernel=3, channels=4, groups=2)
    with raises(ShapeError, operation="conv:3:4,groups=2", expected="2 axes"):
        output_size((8,), layer)
    with raises(ShapeError, operation="conv:3:4,groups=2", expected="2 axes", got="1"):
        ReceptiveField.identity(1).compose(layer)
    field = ReceptiveField.identity(2)
    with raises(ShapeError, operation="receptive field", expected="2 axes"):
        field.window((1,))
    with raises(ShapeError, operation="receptive field", expected="2 axes"):
        field.region((1, 1), (5,))
    with raises(ShapeError, operation="conv:3:4,groups=2", expected="2 groups", got="3"):
        layer.parameters(3)
    with raises(
        ShapeError, operation="convtranspose:3:1,padding=9", expected="an output left after"
    ):
        output_size((2,), Layer.build("convtranspose", 1, kernel=3, padding=9, channels=1))
    with raises(ShapeError, operation="input size", expected="1, or 2"):
        trace((0, 3), 1, [])
    with raises(UnknownNameError, operation="layer", got="'dense'"):
        Layer.build("dense", 1, kernel=1)
