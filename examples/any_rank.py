"""The lecture's three stacks as real layers: one class, and the rank is an argument.

python examples/any_rank.py
"""

from __future__ import annotations

import torch

from convnd.nn import ConvNd


def main() -> None:
    """Prints the shapes of an ECG, a picture and a scan after each of two layers."""
    for name, spatial_dims, channels in (("ECG", 1, 1), ("picture", 2, 3), ("CT scan", 3, 1)):
        first = ConvNd(channels, 16, 5, spatial_dims=spatial_dims)
        second = ConvNd(16, 32, 5, spatial_dims=spatial_dims)
        x = torch.rand(1, channels, *[14] * spatial_dims)
        h = first(x)
        shapes = [tuple(values.shape[1:]) for values in (x, h, second(h))]
        print(f"{name:8}", " -> ".join(map(str, shapes)))


if __name__ == "__main__":
    main()
