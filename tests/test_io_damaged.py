"""Bytes that chance has changed: whole files are read, others refused in one line, in silence."""

from __future__ import annotations

import cv2
import nibabel as nib
import numpy as np
import pytest
import tifffile
from PIL import Image

import convnd.io
from convnd.errors import InputFileError

KINDS = [
    "a.png",
    "palette.png",
    "deep.png",
    "a.jpg",
    "a.webp",
    "a.bmp",
    "a.gif",
    "a.tif",
    "lzw.tif",
    "deep.tif",
    "float.tif",
    "a.npy",
    "a.npz",
    "a.nii",
    "a.nii.gz",
]
WAYS = ["cut", "flip", "overwrite", "insert"]


def make(path, rng) -> None:
    codes = rng.integers(0, 256, (16, 12, 3), dtype=np.uint8)
    image = Image.fromarray(codes)
    if path.name == "deep.png":
        cv2.imwrite(str(path), codes.astype(np.uint16) * 257)
    elif path.name == "deep.tif":
        tifffile.imwrite(path, codes.astype(np.uint16) * 257, photometric="rgb")
    elif path.name == "float.tif":
        tifffile.imwrite(path, (codes / 255).astype(np.float32), photometric="rgb")
    elif path.name == "lzw.tif":
        image.save(path, compression="tiff_lzw")
    elif path.name == "palette.png":
        image.quantize(16).save(path, transparency=3)
    elif path.suffix == ".npy":
        np.save(path, codes)
    elif path.suffix == ".npz":
        np.savez(path, values=codes, spacing=[1.0, 2.0])
    elif ".nii" in path.suffixes:
        nib.save(nib.Nifti1Image(codes, np.eye(4)), path)
    else:
        exif = Image.Exif()
        exif[274] = 6
        image.save(path, **({"exif": exif} if path.suffix in {".jpg", ".webp"} else {}))


def change(data: bytearray, way: str, rng) -> bytearray:
    # The first bytes, where headers are, get half of the damage.
    place = int(rng.integers(min(len(data), 300) if rng.random() < 0.5 else len(data)))
    if way == "cut":
        del data[max(place, 1) :]
    elif way == "flip":
        data[place] ^= 1 << int(rng.integers(8))
    elif way == "overwrite":
        data[place : place + 4] = bytes(4) if rng.random() < 0.5 else b"\xff" * 4
    else:
        data[place:place] = rng.bytes(int(rng.integers(1, 20)))
    return data


@pytest.mark.parametrize("name", KINDS)
def test_only_input_errors_come_out(tmp_path, capfd, rng, name):
    path = tmp_path / name
    make(path, rng)
    whole = path.read_bytes()
    assert convnd.io.read(path).values.numel() > 0
    refused = []
    for way in WAYS * 3:
        path.write_bytes(change(bytearray(whole), way, rng))
        try:
            convnd.io.read(path)
        except InputFileError as error:
            refused.append(str(error))
    assert refused
    for message in refused:
        assert message.startswith("read ")
        assert "\n" not in message
        assert len(message) < 600
    assert capfd.readouterr() == ("", "")
