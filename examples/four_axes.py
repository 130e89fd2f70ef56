"""Style transfer over four axes: a breathing phantom takes the noise of another one.

    python examples/four_axes.py --steps 4

A 4D-CT is a volume for each phase of the breath, an fMRI a volume every two seconds. Here
one array of four axes (phase, z, y, x) is content, another is style, and the network's kernels are
4-D: they see motion as well as shape. The breath is a cycle, so its eight phases are
repeated.
The script prints how noise and motion change, and writes the three arrays as .npy files.
"""

import argparse

import numpy as np
from numpy.typing import NDArray

import convnd

PHASES = 8


def breathing_chest(depth: float, noise: float, seed: int) -> NDArray[np.float32]:
    """Air, tissue and lungs that move by `depth` of their size, in HU, with noise."""
    rng = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, 16)] * 3, indexing="ij")
    frames = []
    for phase in range(PHASES):
        size = 0.25 * (1 + depth * np.sin(2 * np.pi * phase / PHASES))
        values = np.where(np.hypot(x, y) < 0.95, 40.0, -1000.0)
        for side in (-0.5, 0.5):
            lung = ((x - side) / size) ** 2 + (y / 0.5) ** 2 + (z / 0.9) ** 2 < 1
            values = np.where(lung, -850.0, values)
        frames.append(values + rng.normal(0, noise, values.shape))
    return np.array(frames, np.float32)


def measures(chest: NDArray[np.float32]) -> str:
    """Noise in soft tissue, and how much the volume of the lungs changes with the breath."""
    soft = chest[:PHASES, :, 7:9, 7:9]
    lungs = ((chest[:PHASES] < -400) & (chest[:PHASES] > -950)).sum((1, 2, 3))
    return f"noise {soft.std():4.0f} HU, lungs {lungs.min()} to {lungs.max()} voxels"


def main() -> None:
    """Stylise, and print what changed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=4)
    options = parser.parse_args()
    content = np.concatenate([breathing_chest(0.25, noise=8, seed=0)] * 2)
    style = np.concatenate([breathing_chest(0.1, noise=60, seed=1)] * 2)
    result = convnd.stylize(content, style, dim=4, steps=options.steps)
    stylized = result.values[0, 0].numpy()
    for name, chest in (("content", content), ("style", style), ("result", stylized)):
        print(f"{name:8} {chest.shape}  {measures(chest)}")
        np.save(f"chest-{name}.npy", chest)


if __name__ == "__main__":
    main()
