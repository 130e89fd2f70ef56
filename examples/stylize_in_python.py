"""Style transfer as a library: every step is yours to watch, save or stop.

python examples/stylize_in_python.py photo.jpg painting.jpg result.png
"""

from __future__ import annotations

import sys

from convnd_tasks.modalities.base import TransferInputs
from convnd_tasks.modalities.images.codec import prepare

from convnd import io
from convnd.transfer.options import TransferOptions
from convnd.transfer.style_transfer import StyleTransfer


def main(content: str, style: str, output: str) -> None:
    """Stylise one picture, and stop early when steps stop paying."""
    options = TransferOptions(backbone="compact", size=192, steps=40)
    inputs = TransferInputs(
        content=io.read(content), styles=[io.read(style)], names=[content, style]
    )
    prepared = prepare(inputs, options)
    transfer = StyleTransfer(options, spatial_dims=2, in_channels=3)
    losses: list[float] = []
    for progress in transfer.run(prepared.content, prepared.styles, size=prepared.size):
        losses.append(progress.loss)
        if progress.scale == progress.scales and len(losses) > 10:
            gain = 1 - losses[-1] / losses[-11]
            if 0 < gain < 0.01:
                break
    io.write(output, prepared.decode(progress.values), overwrite=True)
    print(f"{output}: {len(losses)} evaluations, loss {losses[0]:.3g} to {losses[-1]:.3g}")


if __name__ == "__main__":
    main(*sys.argv[1:4])
