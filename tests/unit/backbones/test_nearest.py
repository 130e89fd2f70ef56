"""The nearest of many vectors, with and without the compiled module."""

from __future__ import annotations

import pytest
import torch

from convnd.backbones.kernels import native, nearest, nearest_rows

SIZES = [(0, 2, 3), (1, 1, 1), (5, 3, 2), (96, 16, 8), (97, 17, 9), (200, 500, 96), (40, 33, 300)]


@pytest.fixture(params=["compiled", "torch"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "compiled" and not native.is_available():
        pytest.skip("installed without the compiled module, or no AVX2")
    if request.param == "torch":
        monkeypatch.setattr(nearest, "is_available", lambda: False)
    return str(request.param)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(("queries", "keys", "channels"), SIZES)
@pytest.mark.parametrize("threads", [1, 2])
def test_no_key_is_nearer(
    queries: int, keys: int, channels: int, threads: int, generator: torch.Generator
) -> None:
    """The squared distance is the smallest one, but for the rounding of its sum."""
    x = torch.randn(queries, channels, generator=generator)
    y = torch.randn(keys, channels, generator=generator)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        rows = nearest_rows(x, y)
    finally:
        torch.set_num_threads(before)
    assert rows.shape == (queries,)
    distances = torch.cdist(x.double(), y.double()).square()
    found = distances.gather(1, rows[:, None])[:, 0]
    # Each of the terms |y|^2 and 2 x y is a sum whose terms' magnitudes add up to at most this.
    eps = torch.finfo(torch.float32).eps
    sizes = x.double().norm(dim=1) * 2 + y.double().norm(dim=1).max()
    rounding = (channels + 2) * eps * sizes * y.double().norm(dim=1).max()
    assert bool((found - distances.amin(1) <= 2 * rounding).all())


@pytest.mark.usefixtures("way")
def test_the_first_of_equal_keys_is_found() -> None:
    keys = torch.tensor([[4.0], [1.0], [2.0]]).repeat(30, 1)
    assert nearest_rows(torch.tensor([[0.9], [5.0], [2.0]]), keys).tolist() == [1, 0, 2]


def test_the_division_among_threads_changes_nothing(generator: torch.Generator) -> None:
    if not native.is_available():
        pytest.skip("installed without the compiled module, or no AVX2")
    x, y = (torch.randn(1000, 40, generator=generator).half().float() for _ in range(2))
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(nearest_rows(x, y))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(rows, found[0]) for rows in found)
