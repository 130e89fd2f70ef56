"""Golden results: check that a change of the code does not change the result of any command.

python -m benchmarks.experiments.golden keep FOLDER       # before the change
python -m benchmarks.experiments.golden compare FOLDER    # after it, on the same machine

Every case runs the command line on small inputs with a fixed seed, in float32, on one thread.
`keep` writes the values of the results to FOLDER. `compare` runs the cases again, prints one line
for each and exits with 1 when one of them differs.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ["OMP_NUM_THREADS"] = "1"  # set before torch starts: sums depend on it

import av
import nibabel
import numpy as np
import torch
from PIL import Image

from convnd import cli


class Case(NamedTuple):
    """Commands that run one after another in the folder of the inputs, and their output files."""

    commands: tuple[str, ...]
    results: tuple[str, ...] = ()


PICTURE = "--backbone compact --precision float32 --size 48 --scales 2 --steps 4"
SIGNAL = "--backbone compact --precision float32 --scales 2 --steps 4"
VOLUME = "--precision float32 --steps 3 --no-figures"
VIDEO = "--backbone compact --precision float32 --steps 3 --scales 1 --rate 10 --crf 0 --no-figures"
BLOCK = "--mode block --block-frames 16 --block-overlap 4"

CASES = {
    "picture": Case(
        (f"stylize photo.png painting.png {PICTURE} -o result.png --json",), ("result.png",)
    ),
    "picture_vgg19": Case(
        (
            "stylize photo.png painting.png --precision float32 --size 32 --scales 1 --steps 2 "
            "-o result.png --json",
        ),
        ("result.png",),
    ),
    "picture_tiles": Case(
        (
            f"stylize photo.png painting.png {PICTURE} --size 160 --scales 1 --steps 2 --tile 96 "
            "-o result.png --json",
        ),
        ("result.png",),
    ),
    "picture_random": Case(
        (
            f"stylize photo.png painting.png {PICTURE} --init random --optimizer adam "
            "--tv-weight 0.1 --style-loss covariance --value-statistics distribution "
            "-o result.png --json",
        ),
        ("result.png",),
    ),
    "blend": Case(
        (
            f"stylize photo.png painting.png waves {PICTURE} --style-weights 2,1 "
            "-o result.png --json",
        ),
        ("result.png",),
    ),
    "luminance": Case(
        (f"stylize photo.png painting.png {PICTURE} --colors luminance -o result.png --json",),
        ("result.png",),
    ),
    "match": Case(
        (f"stylize photo.png painting.png {PICTURE} --colors match -o result.png --json",),
        ("result.png",),
    ),
    "texture": Case(
        (f"stylize --texture painting.png {PICTURE} -o result.png --json",), ("result.png",)
    ),
    "folder": Case(
        (f"stylize photos painting.png {PICTURE} -o results --json",),
        ("results/first_stylized.png", "results/second_stylized.png"),
    ),
    "signal": Case((f"stylize ecg.csv noisy.csv {SIGNAL} -o result.csv --json",), ("result.csv",)),
    "signal_no_beats": Case(
        (f"stylize ecg.csv noisy.csv {SIGNAL} --beat-weight 0 -o result.csv --json",),
        ("result.csv",),
    ),
    "array": Case(
        (f"stylize --dim 3 array.npy other.npy {SIGNAL} -o result.npy --json",), ("result.npy",)
    ),
    "scan_built_in": Case(
        (f"stylize-volume scan.nii {VOLUME} -o result.nii.gz --json",), ("result.nii.gz",)
    ),
    "scan": Case(
        (f"stylize-volume scan.nii --style other.nii {VOLUME} -o result.nii.gz --json",),
        ("result.nii.gz",),
    ),
    "scan_paint": Case(
        (
            f"stylize-volume scan.nii --style waves --mask mask.nii {VOLUME} --scales 1 "
            "--transfer paint --strength 0.5 -o result.nii.gz --json",
        ),
        ("result.nii.gz",),
    ),
    "video_flow": Case(
        (
            f"stylize-video frames painting.png --frame-steps 2 --to 0.4 {VIDEO} -o result.mkv "
            "--json",
        ),
        ("result.mkv",),
    ),
    "video_two_passes": Case(
        (
            "stylize-video frames painting.png --passes 2 --frame-steps 2 --to 0.2 "
            f"{VIDEO} -o result.mkv --json",
        ),
        ("result.mkv",),
    ),
    "video_block": Case(
        (f"stylize-video frames painting.png {BLOCK} {VIDEO} -o result.mkv --json",),
        ("result.mkv",),
    ),
    "patches": Case(
        (
            "patches photos --layer relu2_1 --units 0-3 --optimal --steps 3 --explain guided "
            "-o result --json",
        ),
        ("result/relu2_1.npz", "result/patches.csv"),
    ),
    "evaluate_signal": Case(("evaluate ecg.csv changed.csv --style noisy.csv --json",)),
    "evaluate_volume": Case(("evaluate scan.nii changed.nii --style other.nii --json",)),
    "evaluate_video": Case(
        (
            f"stylize-video frames painting.png --mode independent --to 0.3 {VIDEO} -o result.mkv",
            f"stylize-video frames waves --mode independent --to 0.3 {VIDEO} -o other.mkv",
            "evaluate result.mkv other.mkv --style painting.png --json",
        )
    ),
    "rerun": Case(
        (
            f"stylize photo.png painting.png {PICTURE} -o first.png",
            "rerun first.png -o result.png",
        ),
        ("first.png", "result.png"),
    ),
    "trace": Case(("trace --dim 3 14x14x14x1 conv:5:16 pool:2 conv:3:32,padding=same --json",)),
}
"""Everything that is run. The names of options stand here and nowhere else in this file."""

RENAMED: dict[str, str] = {"rejected_steps": "steps_taken_back"}
"""Keys of the JSON line that have another name now, and the name that they were kept under."""

VARYING = ("seconds", "settings", "path", "version", "memory", "peak", "mib", "threads")
"""A figure is left out when one of these is a word of its key: no command computes it."""

Values = dict[str, np.ndarray[Any, Any]]


def write_inputs(folder: Path) -> None:
    """Write the pictures, recordings, scans and frames that the cases read."""
    rng = np.random.default_rng(21)
    for seed, name in enumerate(("photo", "painting", "photos/first", "photos/second")):
        path = folder / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(_picture(np.random.default_rng(seed), 80, 100)).save(path)
    canvas = _picture(rng, 32, 84)
    (folder / "frames").mkdir()
    for index in range(18):
        window = canvas[:, 2 * index : 2 * index + 48]
        Image.fromarray(window).save(folder / "frames" / f"{index:03}.png")
    ecg, noisy = _ecg(0.83, 8.0), _ecg(0.7, 8.0)
    _save_csv(folder / "ecg.csv", ecg)
    _save_csv(folder / "noisy.csv", noisy + 0.05 * rng.normal(size=noisy.shape))
    _save_csv(folder / "changed.csv", 0.9 * ecg + 0.02 * rng.normal(size=ecg.shape))
    for name in ("array", "other"):
        np.save(folder / f"{name}.npy", rng.normal(size=(1, 20, 22, 24)).astype(np.float32))
    scan = _scan(rng, (32, 30, 28), 20.0)
    _save_scan(folder / "scan.nii", scan)
    _save_scan(folder / "other.nii", _scan(rng, (30, 32, 24), 60.0))
    _save_scan(folder / "changed.nii", scan + 15 * rng.normal(size=scan.shape))
    mask = np.zeros(scan.shape)
    mask[8:24, 8:24, 8:24] = 1
    _save_scan(folder / "mask.nii", mask)


def _picture(rng: np.random.Generator, height: int, width: int) -> np.ndarray[Any, Any]:
    coarse = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.int64)
    grain = rng.integers(-20, 21, (height, width, 3))
    return np.asarray(np.clip(smooth + grain, 0, 255), np.uint8)


def _ecg(period: float, seconds: float) -> np.ndarray[Any, Any]:
    """Three leads at 200 Hz in mV: P, Q, R, S and T waves as bell curves."""
    times = np.arange(0, seconds, 1 / 200)
    phase = times % period - 0.35
    lead = np.zeros_like(times)
    for centre, width, height in (
        (-0.16, 0.025, 0.12), (-0.03, 0.01, -0.12), (0, 0.012, 1.1), (0.03, 0.01, -0.2),
        (0.22, 0.045, 0.3),
    ):  # fmt: skip
        lead += height * np.exp(-0.5 * ((phase - centre) / width) ** 2)
    return np.stack([times, 0.7 * lead, lead, 0.4 * lead - 0.02 * np.sin(times)], axis=1)


def _save_csv(path: Path, table: np.ndarray[Any, Any]) -> None:
    table = np.concatenate([np.arange(len(table))[:, None] / 200, table[:, 1:]], axis=1)
    np.savetxt(
        path, table, "%.4f", ",", header="time (s),I (mV),II (mV),III (mV)", comments=""
    )  # fmt: skip


def _scan(
    rng: np.random.Generator, shape: tuple[int, int, int], noise: float
) -> np.ndarray[Any, Any]:
    """A ball of soft tissue inside lung inside air, in HU."""
    axes = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in axes))
    tissue = np.where(radius < 0.5, 40.0, np.where(radius < 1.2, -820.0, -1000.0))
    return np.asarray(tissue + noise * rng.normal(size=shape))


def _save_scan(path: Path, voxels: np.ndarray[Any, Any]) -> None:
    affine = np.array([[-0.8, 0, 0, 10], [0, 0.8, 0, -20], [0, 0, 1.5, 30], [0, 0, 0, 1]])
    nifti: Any = nibabel.nifti1  # without types
    image = nifti.Nifti1Image(np.round(voxels).astype(np.int16), affine)
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, path)


def read_values(path: Path) -> Values:
    """The arrays in a result, read by the libraries of its format instead of convnd."""
    name = path.name
    if name.endswith(".npz"):
        with np.load(path) as arrays:
            return {key: arrays[key] for key in arrays.files}
    if name.endswith(".npy"):
        return {"values": np.load(path)}
    if name.endswith(".csv"):
        table = np.genfromtxt(path, delimiter=",", skip_header=1)
        return {"values": table[:, ~np.isnan(table).all(0)]}
    if name.endswith((".nii", ".nii.gz")):
        image: Any = nibabel.load(path)
        return {"values": np.asarray(image.dataobj), "affine": image.affine}
    if name.endswith(".mkv"):
        with av.open(str(path)) as container:
            frames = list(container.decode(video=0))
        pixels = np.stack([frame.to_ndarray(format="rgb24") for frame in frames])
        return {"values": pixels, "times": np.array([float(frame.time) for frame in frames])}
    with Image.open(path) as picture:
        return {"values": np.asarray(picture)}


def read_figures(line: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """The numbers in a JSON line by key, without those that vary from run to run."""
    if isinstance(line, Mapping):
        for name, value in line.items():
            if not set(name.lower().replace("-", "_").split("_")) & set(VARYING):
                yield from read_figures(value, f"{key}/{RENAMED.get(name, name)}")
    elif isinstance(line, list):
        for index, value in enumerate(line):
            yield from read_figures(value, f"{key}/{index}")
    elif isinstance(line, int | float):
        yield key, float(line)


def type_command(command: str) -> str:
    """Run one command (the words after `convnd`) in this process; returns its standard output."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    out, err = io.StringIO(), io.StringIO()
    arguments, sys.argv = sys.argv, ["convnd", *command.split()]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.main()
    except SystemExit as done:
        if done.code:
            raise RuntimeError(
                f"convnd {command}\nended with {done.code}: {err.getvalue().strip()}"
            ) from done
    finally:
        sys.argv = arguments
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return out.getvalue()


def run_case(case: Case, results: Path | None = None) -> Values:
    """Everything that a case computes; also copies its files to the folder `results`, if given."""
    values: Values = {}
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        write_inputs(Path(name))
        for index, command in enumerate(case.commands):
            out = type_command(command)
            if "--json" in command.split():
                figures = read_figures(json.loads(out))
                values |= {f"json {index}{key}": np.array(value) for key, value in figures}
        for path in case.results:
            values |= {f"{path} {key}": value for key, value in read_values(Path(path)).items()}
            if results is not None:
                results.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, results / Path(path).name)
    return values


def compare_values(values: Values, reference: Values) -> tuple[float, str]:
    """Largest difference as a share of the array's range, and the name of that array.

    A difference of one level in an integer array does not count: rounding may cause it.
    """
    largest = 0.0, ""
    for name in reference:  # a command may print more keys than before
        if name not in values:
            return np.inf, f"{name} is missing"
        new, old = values[name], reference[name]
        if new.shape != old.shape or new.dtype != old.dtype:
            return np.inf, f"{name} was {old.dtype}{old.shape} and is {new.dtype}{new.shape}"
        if np.array_equal(new, old, equal_nan=new.dtype.kind == "f"):
            continue
        if new.dtype.kind not in "iufb" or (np.isnan(new) != np.isnan(old)).any():
            return np.inf, name
        difference = np.nanmax(np.abs(np.subtract(new, old, dtype=float)))
        if new.dtype.kind in "iu" and difference <= 1:
            difference = 0.0
        span = float(np.nanmax(old) - np.nanmin(old)) or float(np.nanmax(np.abs(old))) or 1.0
        largest = max(largest, (float(difference / span), name))
    return largest


def keep(names: Sequence[str], folder: Path) -> None:
    """Run the cases and write their values and files to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        start = time.monotonic()
        values = run_case(CASES[name], folder / name)
        np.savez_compressed(folder / f"{name}.npz", **values)  # type: ignore[arg-type]
        print(f"{name:20} {len(values):4} arrays  {time.monotonic() - start:5.1f} s", flush=True)
    (folder / "machine.json").write_text(json.dumps(machine()))


def machine() -> dict[str, object]:
    """The conditions besides the code on which the last bits of a result depend."""
    return {"torch": torch.__version__, "instructions": torch.backends.cpu.get_cpu_capability()}


def compare(names: Sequence[str], folder: Path, tolerance: float) -> bool:
    """Run the cases again and print their differences; returns whether all are within tolerance."""
    kept_on = json.loads((folder / "machine.json").read_text())
    if kept_on != machine():
        print(f"kept with {kept_on}, compared with {machine()}")
    all_near = True
    for name in names:
        start = time.monotonic()
        try:
            values = run_case(CASES[name])
        except RuntimeError as error:
            all_near = False
            print(f"{name:20} FAILS {error}", flush=True)
            continue
        with np.load(folder / f"{name}.npz") as arrays:
            reference = {key: arrays[key] for key in arrays.files}
        largest, where = compare_values(values, reference)
        equal = all(_same_bytes(values[key], reference[key]) for key in values if key in reference)
        words = "same bytes" if equal and not where else f"{largest:.1e}  {where}"
        is_near = largest <= tolerance
        all_near &= is_near
        seconds = time.monotonic() - start
        print(f"{name:20} {'' if is_near else 'DIFFERS '}{words}  ({seconds:.1f} s)", flush=True)
    return all_near


def _same_bytes(new: np.ndarray[Any, Any], old: np.ndarray[Any, Any]) -> bool:
    return new.tobytes() == old.tobytes()


def main() -> None:
    """Keep the values of the cases, or compare the cases with stored values."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("action", choices=("keep", "compare"))
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--tolerance", type=float, default=1e-5, help="allowed difference over the range"
    )
    parser.add_argument(
        "--only", action="append", choices=CASES, help="run this case; may be repeated"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = options.only or list(CASES)
    folder = options.folder.absolute()
    if options.action == "keep":
        keep(names, folder)
    elif not compare(names, folder, options.tolerance):
        sys.exit(1)


if __name__ == "__main__":
    main()
