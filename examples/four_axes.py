"""Style transfer over four axes: a functional MRI takes back the noise that smoothing removed.

    python examples/four_axes.py --steps 8

A functional MRI (fMRI) is a volume every two seconds: one array of four axes, time, z, y and x. The
network has 4-D kernels, which see how the noise runs on from volume to volume. The data are real
and come with nibabel: 20 volumes of 17x21x3 voxels. The content is the mean of three volumes each,
and the style is the series as it was measured. So what a transfer should give is known.
The script prints noise and its memory in time, and writes the three series as NIfTI.
"""

import argparse
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

import convnd

MEASURED = Path(nibabel.__file__).parent / "tests" / "data" / "functional.nii"
Series = NDArray[np.float32]  # (X, Y, Z, T)


def smooth_in_time(series: Series) -> Series:
    """Average each volume with the one before and the one after."""
    padded = np.pad(series, [(0, 0)] * 3 + [(1, 1)], mode="edge")
    return np.asarray((padded[..., :-2] + padded[..., 1:-1] + padded[..., 2:]) / 3, np.float32)


def measures(series: Series, content: Series) -> str:
    """Noise in time, its correlation from volume to volume, and the anatomy that is left."""
    noise = series - series.mean(-1, keepdims=True)
    lag = float((noise[..., 1:] * noise[..., :-1]).sum() / np.square(noise).sum())
    anatomy = np.corrcoef(series.mean(-1).ravel(), content.mean(-1).ravel())[0, 1]
    return (
        f"standard deviation {np.median(noise.std(-1)):4.1f}, correlation with the next volume "
        f"{lag:.2f}, with the content's anatomy {anatomy:.4f}"
    )


def main() -> None:
    """Stylise, and print what changed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=8)
    options = parser.parse_args()
    image: Any = nibabel.load(MEASURED)
    measured = image.get_fdata(dtype=np.float32)
    content = smooth_in_time(measured)
    for name, series in (("measured", measured), ("smoothed", content)):
        nibabel.save(nibabel.Nifti1Image(series, image.affine, image.header), f"{name}.nii.gz")
    convnd.stylize(
        "smoothed.nii.gz", "measured.nii.gz", out="result.nii.gz", dim=4, steps=options.steps
    )
    written: Any = nibabel.load("result.nii.gz")
    result = written.get_fdata(dtype=np.float32)
    for name, series in (("measured", measured), ("smoothed", content), ("result", result)):
        print(f"{name:9} {measures(series, content)}")


if __name__ == "__main__":
    main()
