"""Time and memory for scans: the transfer of a look, its figures, and the augmentation.

Each scan takes the look of another, or of a trained network, in a process of its own, so that peaks
of memory are separate. Memory is the peak of the process without its inputs; next to it stands the
estimate that the transfer checks before it starts.

    python -m benchmarks.performance.scan_times chest.nii.gz=other.nii.gz head.nii.gz=head2.nii.gz
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from typing import Any

import psutil
from convnd_tasks.modalities.inputs import TransferInputs
from convnd_tasks.modalities.style_network import is_network
from convnd_tasks.modalities.volumes.look_transfer import LookTransfer
from convnd_tasks.modalities.volumes.memory import estimate_memory
from convnd_tasks.modalities.volumes.metrics import measure_all
from convnd_tasks.modalities.volumes.network_look import NetworkLookTransfer
from convnd_tasks.modalities.volumes.options import VolumeOptions
from convnd_tasks.modalities.volumes.scan_look import ScanLook

from benchmarks.common import peak_mib
from benchmarks.measurement import add_json_option, machine, write_results
from convnd import io
from convnd.feedforward.network_file import read_network
from convnd.malloc import tune_malloc


def main() -> None:
    """Run the benchmark and print lines of JSON for every scan."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scans", nargs="+", metavar="SCAN=STYLE", help="files of volumes")
    parser.add_argument(
        "--transfer-only", action="store_true", help="measure no figures and no augmentation"
    )
    add_json_option(parser)
    arguments = parser.parse_args()
    print(json.dumps(machine()))
    rows: list[dict[str, Any]] = []
    for pair in arguments.scans:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            measured = pool.apply(_measure, (*pair.split("=", 1), arguments.transfer_only))
        for row in measured:
            print(json.dumps(row), flush=True)
        rows += measured
    write_results(
        arguments.json,
        "Time and memory of a scan",
        rows,
        section="Volumes",
        summary="The transfer of a look uses no network. Memory does not include the inputs.",
        target="512 x 512 x 60 within 4 minutes on two cores; a peak within the estimate",
    )


def _measure(content: str, style: str, transfer_only: bool) -> list[dict[str, Any]]:
    """The rows of one scan and one style."""
    tune_malloc()
    trained = read_network(style) if is_network(style) else None
    scan, other = io.read(content), io.read(style) if trained is None else trained.styles[0]
    size = " x ".join(map(str, scan.shape))
    before = psutil.Process().memory_info().rss / 2**20
    start, began = time.process_time(), time.perf_counter()
    inputs = TransferInputs(content=scan, styles=[other], names=["scan", "style"])
    options = VolumeOptions()
    transfer = (
        LookTransfer(inputs, options)
        if trained is None
        else NetworkLookTransfer(inputs, options, trained)
    )
    for progress in transfer.run(state=None, group=None, on_message=None):
        last = progress
    result = transfer.result(last)
    assert result is not None
    seconds, wall = time.process_time() - start, time.perf_counter() - began
    rows: list[dict[str, Any]] = [
        {
            "what": "transfer of the look" + ("" if trained is None else " by a network"),
            "volume": size,
            "processor s": round(seconds, 1),
            "wall s": round(wall, 1),
            "peak MiB": round(peak_mib() - before),
            "estimate MiB": round(estimate_memory(scan, [other]).total / 2**20),
        }
    ]
    if transfer_only or trained is not None:
        return rows
    start = time.process_time()
    measure_all(scan, result, [other])
    seconds = time.process_time() - start
    rows.append(
        {"what": "`evaluate` with a style", "volume": size, "processor s": round(seconds, 1)}
    )
    look = ScanLook(other, spacing=scan.spacing, strength=1.0)
    look(scan.values[0])
    start = time.process_time()
    look(scan.values[0])
    seconds = time.process_time() - start
    rows.append({"what": "`ScanLook`, one call", "volume": size, "processor s": round(seconds, 2)})
    return rows


if __name__ == "__main__":
    main()
