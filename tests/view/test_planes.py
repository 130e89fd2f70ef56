"""Planes of scans for the page: the right voxels, and their places in the patient."""

from __future__ import annotations

import itertools
from pathlib import Path

import nibabel
import numpy as np
import pytest
from convnd_tasks.view.planes import describe_scan, plane_bytes, slab_bytes
from convnd_tasks.view.shown import Shown, ShownFiles, Source

from convnd.errors import UsageError

SHAPE = (5, 6, 7)
SPACING = (0.7, 0.9, 3.0)


def rotation(degrees: float, axis: int) -> np.ndarray:
    a, b = (n for n in range(3) if n != axis)
    matrix, angle = np.eye(3), np.radians(degrees)
    matrix[a, a] = matrix[b, b] = np.cos(angle)
    matrix[a, b], matrix[b, a] = -np.sin(angle), np.sin(angle)
    return matrix


def write(path: Path, directions: np.ndarray, frames: int = 1) -> nibabel.Nifti1Image:
    """Write a scan whose voxels all differ; ``directions`` are those of the axes of the file."""
    affine = np.eye(4)
    affine[:3, :3] = directions * SPACING
    affine[:3, 3] = (-20.0, 31.0, -7.5)
    shape = SHAPE if frames == 1 else (*SHAPE, frames)
    image = nibabel.Nifti1Image(np.arange(np.prod(shape), dtype=np.float32).reshape(shape), affine)
    image.header.set_xyzt_units("mm")
    image.to_filename(path)
    return image


def flips_and_orders() -> list[np.ndarray]:
    return [np.eye(3)[list(order)] * signs
            for order in itertools.permutations(range(3))
            for signs in ((1, 1, 1), (-1, 1, -1), (-1, -1, 1))]  # fmt: skip


@pytest.mark.parametrize("number", range(18))
def test_a_plane_shows_the_voxels_at_its_places_in_the_patient(tmp_path: Path, number: int) -> None:
    directions = rotation(11.0, 0) @ rotation(-7.0, 2) @ flips_and_orders()[number]
    image = write(tmp_path / "a.nii", directions, frames=3)
    shown = ShownFiles().open(Source(str(tmp_path / "a.nii"), 0, False))
    described = describe_scan(shown)
    (d, h, w), matrix = described["shape"], np.array(described["affine"])
    assert described["frames"] == 3
    assert np.allclose(np.linalg.norm(matrix[:, :3], axis=0), described["spacing"], rtol=1e-5)
    back = np.linalg.inv(image.affine)
    data = np.asarray(image.dataobj)
    for frame, point in itertools.product((0, 2), ((0, 0, 0), (d - 1, 2, 1), (1, h - 1, w - 1))):
        place = back @ [*(matrix @ [*point, 1]), 1]
        index = np.round(place[:3]).astype(int)
        assert np.allclose(place[:3], index, atol=1e-4)
        for axis in range(3):
            rows, columns = (described["shape"][n] for n in range(3) if n != axis)
            plane = np.frombuffer(plane_bytes(shown, axis, point[axis], frame), "<f4")
            row, column = (described["shape"][n] - 1 - point[n] for n in range(3) if n != axis)
            assert plane.reshape(rows, columns)[row, column] == data[(*index, frame)]
    # Head, front and right grow with the indices: the first row and column are S, A and R.
    assert (np.diagonal(matrix[::-1, :3]) > 0).all()
    angles = [np.degrees(np.arccos(abs(directions).max(0)[n])) for n in range(3)]
    assert described["tilt"] == pytest.approx(max(angles), abs=0.1)


def test_a_scan_that_does_not_say_where_it_lies_has_no_place(tmp_path: Path) -> None:
    image = write(tmp_path / "a.nii", np.eye(3))
    image.header.set_sform(None, 0)
    image.header.set_qform(None, 0)
    plain = nibabel.Nifti1Image(np.asarray(image.dataobj), None, image.header)
    plain.header["pixdim"][1:4] = SPACING
    plain.to_filename(tmp_path / "b.nii")
    described = describe_scan(ShownFiles().open(Source(str(tmp_path / "b.nii"), 0, False)))
    assert (described["affine"], described["tilt"]) == (None, None)
    assert np.allclose(described["spacing"], SPACING[::-1])


def test_values_of_a_step_keep_their_place(tmp_path: Path) -> None:
    write(tmp_path / "a.nii", rotation(5.0, 1), frames=2)
    shown = ShownFiles().open(Source(str(tmp_path / "a.nii"), 0, False))
    shown.save(tmp_path / "step.npz")
    again = Shown.load(tmp_path / "step.npz")
    assert describe_scan(again) == describe_scan(shown)
    assert plane_bytes(again, 1, 2, 1) == plane_bytes(shown, 1, 2, 1)
    for axis, index, frame in ((3, 0, 0), (0, SHAPE[2], 0), (0, 0, 2)):
        with pytest.raises(UsageError):
            plane_bytes(shown, axis, index, frame)


def test_slabs_are_the_voxels_from_feet_to_head(tmp_path: Path) -> None:
    """With right as the fastest axis, as in a file whose axes run to right, front and head."""
    image = write(tmp_path / "a.nii", flips_and_orders()[8], frames=2)
    shown = ShownFiles().open(Source(str(tmp_path / "a.nii"), 0, False))
    canonical = np.asarray(nibabel.as_closest_canonical(image).dataobj)[..., 1]
    for step, first, count in ((1, 0, shown.values.shape[1]), (1, 2, 2), (2, 1, 2)):
        expected = canonical[::step, ::step, ::step][:, :, first : first + count]
        slab = np.frombuffer(slab_bytes(shown, 1, step, first, count), "<f4")
        assert np.array_equal(slab.reshape(expected.shape, order="F"), expected)
    for wrong in ((2, 1, 0, 1), (0, 0, 0, 1), (0, 65, 0, 1), (0, 1, 6, 2), (0, 1, 0, 0)):
        with pytest.raises(UsageError):
            slab_bytes(shown, *wrong)
