"""Style transfer with the library, step by step: the caller watches, saves and stops.

python examples/stylize_in_python.py photo.jpg painting.jpg result.png
"""

from __future__ import annotations

import sys

import convnd
from convnd.transfer.options import TransferOptions
from convnd.transfer.problem import TransferProblem
from convnd.transfer.scales import fit_size
from convnd.transfer.style_transfer import StyleTransfer


def main(content: str, style: str, output: str) -> None:
    """Stylises one picture, and stops when steps no longer pay."""
    photo, painting = convnd.read(content), convnd.read(style)
    options = TransferOptions(backbone="compact", steps=40)
    transfer = StyleTransfer(options, spatial_dims=2, in_channels=3)
    losses: list[float] = []
    size = fit_size(photo.shape, 192)
    problem = TransferProblem(photo.values, [painting.values], size=size)
    for progress in transfer.run(problem):
        losses.append(progress.loss)
        if progress.phase == progress.phases and len(losses) > 10:
            gain = 1 - losses[-1] / losses[-11]
            if 0 < gain < 0.01:
                break
    convnd.write(output, photo.with_values(progress.values.clamp(0, 1)), overwrite=True)
    print(f"{output}: {len(losses)} evaluations, loss {losses[0]:.3g} to {losses[-1]:.3g}")


if __name__ == "__main__":
    main(*sys.argv[1:4])
