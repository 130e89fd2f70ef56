"""A known answer for volumes: does a smooth scan get back the noise of its own neighbour?

The script splits the slices of a CT: every second slice is the content, and the slices between are
the style (same patient, scanner and kernel, other noise). It blurs the content in the plane, which
removes noise and edges like a soft kernel, and transfers the style. Then it prints, for each
tissue, how far the noise power spectrum comes closer to the style's, and also the width of the
edges and the change of the smoothed anatomy. Band-energy matching (Gallardo-Estrella et al., 2016)
is the baseline; the slices before the blur are the ideal.

    python -m benchmarks.performance.known_answer_volumes scan.nrrd --box 60:252,150:342,12:24

Without a scan, it uses the built-in chest (0.74 mm in the plane, 5.8 mm across, cropped). The style
is another patient with the same kernel. The content is the first patient, blurred in the plane or
with another kernel (``--content chest``, the standard one, or ``soft``).
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
import torch
from convnd_tasks import samples
from convnd_tasks.modalities.inputs import TransferInputs
from convnd_tasks.modalities.volumes.look_transfer import LookTransfer
from convnd_tasks.modalities.volumes.metrics import measure_all
from convnd_tasks.modalities.volumes.options import VolumeOptions

from benchmarks.common import peak_mib
from benchmarks.measurement import Table, add_json_option, machine, write_results
from benchmarks.performance.band_matching import match_bands
from convnd import io
from convnd.errors import NumericalError
from convnd.grid import Grid


def main() -> None:
    """Run the experiment and print JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scan", nargs="?")
    parser.add_argument("--box", default="", help="part of the scan, I:I,J:J,K:K")
    parser.add_argument("--blur", type=float, default=1.0, help="sigma in mm")
    parser.add_argument(
        "--size", type=int, default=512, help="voxels of the whole phantom in the plane"
    )
    parser.add_argument("--kernel", default="sharp", help="kernel of the phantom")
    parser.add_argument(
        "--content", default="blur", help="content of the phantom: blur, soft or chest"
    )
    add_json_option(parser)
    arguments = parser.parse_args()
    print(json.dumps(machine()))
    if arguments.scan:
        whole = io.read(arguments.scan)
        box = [
            slice(*(int(end) for end in part.split(":"))) if part else slice(None)
            for part in (arguments.box or ",,").split(",")
        ]
        values = whole.values[(slice(None), slice(None), *box)]
        spacing = (*whole.spacing[:2], whole.spacing[2] * 2)
        count = values.shape[-1] // 2 * 2
        original = _grid(values[..., 0:count:2], spacing)
        style = _grid(values[..., 1:count:2], spacing)
        content = _blurred(original, arguments.blur)
    else:
        original = _phantom(arguments.kernel, 0, arguments.size)
        style = _phantom(arguments.kernel, 1, arguments.size)
        if arguments.content == "blur":
            content = _blurred(original, arguments.blur)
        else:
            content = _phantom(arguments.content, 0, arguments.size)
    rows: dict[str, Any] = {
        "content": _array(content),
        "slices before the blur": _array(original),
        "band-energy matching": match_bands(_array(content), _array(style), content.spacing),
    }
    start = time.process_time()
    rows["convnd"], messages = _transfer(content, style)
    seconds = time.process_time() - start
    figures = [
        {"what": name, **_judge(values, content, style, original)} for name, values in rows.items()
    ]
    for row in figures:
        print(json.dumps(row))
    for line in messages:
        print(line)
    run = {"processor s": round(seconds, 1), "peak MiB": round(peak_mib())}
    print(json.dumps(run))
    tables = [Table(rows=figures), Table(rows=[{"message": line} for line in messages])]
    write_results(arguments.json, "Noise of a neighbouring slice", [*tables, Table(rows=[run])])


def _transfer(content: Grid, style: Grid) -> tuple[Any, list[str]]:
    """The result with default options, even if it breaks a limit of anatomy, and the message."""
    messages: list[str] = []
    inputs = TransferInputs(content=content, styles=[style], names=["content", "style"])
    transfer = LookTransfer(inputs, VolumeOptions())
    try:
        for progress in transfer.run(state=None, group=None, on_message=messages.append):
            last = progress
    except NumericalError as error:
        messages.append(f"refused: {error}")
    result = transfer.result(last)
    assert result is not None
    return _array(result), messages


def _judge(values: Any, content: Grid, style: Grid, original: Grid) -> dict[str, float | None]:
    result = content.with_values(torch.from_numpy(np.asarray(values, np.float32))[None, None])
    measures = {measure.name: measure for measure in measure_all(content, result, [style])}
    figures: dict[str, float | None] = {}
    for name, measure in measures.items():
        if name.startswith("noise_distance") and measure.before:
            tissue = name.removeprefix("noise_distance_")
            figures[f"{tissue}: distance"] = round(measure.value, 3)
            figures[f"{tissue}: fall, %"] = round(100 * (1 - measure.value / measure.before), 1)
    names = {"anatomy_error": "anatomy", "edge_width_front": "edges, mm"}
    figures |= {
        label: round(measures[name].value, 2) for name, label in names.items() if name in measures
    }
    difference = values - _array(original)
    figures["rmse to the original"] = round(float(np.sqrt((difference**2).mean())), 2)
    return figures


def _grid(values: torch.Tensor, spacing: tuple[float, ...]) -> Grid:
    return Grid(values=values.contiguous(), spacing=spacing, units=("mm",) * 3)


def _phantom(kernel: str, seed: int, size: int) -> Grid:
    make = samples.content if kernel in samples.contents(3) else samples.style
    whole = make(kernel, spatial_dims=3, size=(size, size, 48), seed=seed)
    # Heart, both lungs and vessels: three eighths of the plane, 16 slices of the chest's middle.
    x, y, side = size * 160 // 512, size * 180 // 512, size * 192 // 512
    return _grid(whole.values[:, :, x : x + side, y : y + side, 12:28], whole.spacing)


def _blurred(grid: Grid, sigma: float) -> Grid:
    from scipy import ndimage

    width = [sigma / grid.spacing[0], sigma / grid.spacing[1], 0.0]
    values = np.round(ndimage.gaussian_filter(_array(grid), width)).astype(np.float32)
    return grid.with_values(torch.from_numpy(values)[None, None])


def _array(grid: Grid) -> Any:
    return grid.values[0, 0].numpy()


if __name__ == "__main__":
    main()
