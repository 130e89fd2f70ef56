"""The patches that excite a few units most, with the library: positions, values and samples.

python examples/patches_in_python.py photo.jpg another.jpg
"""

from __future__ import annotations

import sys
from functools import partial

from convnd_tasks.inspect import Input, cut_patches, find_patches, load_network

from convnd import io


def main(*paths: str) -> None:
    """Prints where the strongest patches of two units are, and how large."""
    network = load_network("compact", ["relu3_1"], spatial_dims=2, in_channels=3)
    inputs = [Input(path, partial(io.read, path)) for path in paths]
    result = find_patches(network, inputs, {"relu3_1": [3, 8]}, top=3)
    for patch in cut_patches(result, inputs):
        hit = patch.hit
        print(
            f"{hit.layer} unit {hit.unit}, no. {hit.rank}: {hit.value:.3g} in {hit.input} at "
            f"{[part.start for part in hit.region]}, samples {tuple(patch.grid.values.shape)}"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
