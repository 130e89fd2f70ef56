"""Fuzz a reader or parser, guided by coverage: files that reach new lines are mutated further.

pip install ".[fuzz,test]" -c constraints.txt
python -m benchmarks.experiments.fuzz a.nii --runs 20000   # one reader
python -m benchmarks.experiments.fuzz record --seconds 600
python -m benchmarks.experiments.fuzz --runs 2000          # every one, one process each

The seeds are the valid files and forged headers of `tests/support/malformed.py`. Reading must end
in a grid or an `InputFileError`, within 20 s and 2 GiB. Otherwise the script saves the file in
``--findings`` and exits with 1. Decoders run in this process instead of a child, so that coverage
sees their lines. The child's limit on memory is then missing, so inputs have at most a million
pixels or samples.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.experiments.fuzz_parsers import PARSERS

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "support"))

# One file for each reader; other files of `WHOLE` differ in their content.
READERS = (
    "a.png", "a.jpg", "a.webp", "a.bmp", "a.gif", "a.avif", "a.tif", "float.tif", "a.npy", "a.npz",
    "a.nii", "a.nii.gz", "a.hdr", "analyze.hdr", "a.mgh", "a.mgz", "a.nrrd", "a.nhdr", "a.mha",
    "a.mhd", "frames.dcm", "a.csv", "a.hea", "a.edf", "a.bdf", "a.wav", "a.dcm",
    "a.flac", "a.mat", "a.h5", "a.parquet", "a.xlsx", "a.mp4", "a.mkv", "a.avi",
)  # fmt: skip

INSTRUMENTED = [
    "convnd.io", "convnd.optimize.checkpoint", "convnd.optimize.state", "convnd.optimize.base",
    "convnd.backbones.weights.conversion", "convnd_tasks.commands.rerun",
    "convnd_tasks.pipeline.recorded_command", "convnd_tasks.modalities.video.frame_cache",
]  # fmt: skip


def main() -> None:
    """Fuzz one reader, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("reader", nargs="?", choices=(*READERS, *PARSERS), help="default: all")
    parser.add_argument("--runs", type=int, default=2000, help="number of inputs for each reader")
    parser.add_argument("--seconds", type=int, default=0, help="time limit; 0: no limit but --runs")
    parser.add_argument("--seed", type=int, default=1, help="seed of the fuzzer")
    parser.add_argument("--findings", type=Path, default=Path("findings"))
    args = parser.parse_args()
    if args.reader is not None:
        work = Path(tempfile.mkdtemp(prefix="convnd-fuzz-"))
        runs = -1 if args.seconds else args.runs
        options = [f"-runs={runs}", f"-max_total_time={args.seconds}", f"-seed={args.seed}"]
        fuzz(args.reader, options, work, args.findings)
    failed = []
    names = (*READERS, *PARSERS)
    for reader in names:
        command = [sys.executable, "-m", "benchmarks.experiments.fuzz", reader]
        command += [f"--runs={args.runs}", f"--seed={args.seed}", f"--findings={args.findings}"]
        command += [f"--seconds={args.seconds}"]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        ended = re.search(r"Done (\d+) runs", result.stderr)
        if result.returncode == 0 and ended:
            coverage = re.findall(r"DONE +(cov: .*)", result.stderr)
            print(f"{reader:12} {ended[1]} inputs; {coverage[-1]}", flush=True)
        else:
            failed.append(reader)
            print(f"{reader:12} FAILED", flush=True)
            print(result.stdout[-2000:], result.stderr[-2000:], flush=True)
    print(f"{len(names) - len(failed)} of {len(names)} held")
    sys.exit(1 if failed else 0)


def fuzz(name: str, options: list[str], work: Path, findings: Path) -> None:
    """Fuzz one reader or parser; ends the process.

    Args:
        name: a key of `READERS` or `PARSERS`.
        options: arguments of libFuzzer.
        work: an empty folder.
        findings: folder for inputs that break a rule.
    """
    import atheris

    findings.mkdir(exist_ok=True)
    findings = findings.absolute()
    seeds = work / "seeds"
    seeds.mkdir()
    os.chdir(work)
    warnings.simplefilter("ignore")
    with atheris.instrument_imports(include=INSTRUMENTED, enable_loader_override=False):
        if name in PARSERS:
            samples, parse = PARSERS[name](work)
            for number, sample in enumerate(samples):
                (seeds / str(number)).write_bytes(sample)
        else:
            parse = _reader(name, work, seeds)
    from convnd.errors import ConvndError, InputFileError

    accepted = ConvndError if name in PARSERS else InputFileError

    def one(data: bytes) -> None:
        try:
            parse(data)
        except accepted as error:
            if not str(error).isprintable() or "\n" in str(error):
                raise AssertionError(str(error)) from error

    options = [*options, "-timeout=20", "-rss_limit_mb=2048", "-max_len=65536"]
    called: list[Any] = [sys.argv[0], *options, f"-artifact_prefix={findings}/{name}-", str(seeds)]
    atheris.Setup(called, one)
    atheris.Fuzz()


@contextlib.contextmanager
def _decode_here(
    path: Path, parameters: Mapping[str, Any], **_: object
) -> Iterator[Iterator[tuple[dict[str, Any], Any]]]:
    """Run a decoder in this process; replaces `convnd.io.worker.client.request`."""
    from convnd.io.reading import too_large_error

    decoder = importlib.import_module(f"convnd.io.{parameters['decoder']}")

    def messages() -> Iterator[tuple[dict[str, Any], Any]]:
        try:
            for kind, fields, array in decoder.serve(path, parameters, lambda _: None):
                # As a child sends them: pixels need not be an array of NumPy.
                yield {"kind": kind, **fields}, None if array is None else np.array(array)
        except MemoryError as error:
            raise too_large_error(path) from error

    yield messages()


def _replace_child() -> None:
    """Let every reader decode in this process."""
    from convnd.io.worker import client

    request = client.request
    for module in list(sys.modules.values()):
        if getattr(module, "request", None) is request:
            module.request = _decode_here  # type: ignore[attr-defined]


def _reader(reader: str, work: Path, seeds: Path) -> Callable[[bytes], object]:
    """Write seeds for a reader; returns a function that reads bytes with it."""
    from malformed import LIES, PARTS, WHOLE

    import convnd.io
    from convnd.io.video.decoding import VideoDecoder
    from convnd.io.video.types import VIDEO_SUFFIXES

    def decode(path: Path) -> None:
        video = VideoDecoder(path, 2**20)
        video.describe()
        for _ in video.frames(Fraction(0), None):
            pass

    os.environ["CONVND_MAX_PIXELS"] = str(2**20)
    suffix = "".join(Path(reader).suffixes)
    for name, make in WHOLE.items():
        if name.endswith(suffix) and not PARTS.get(name):
            make(seeds / name, np.random.default_rng(1))
    for name, make_lie in LIES.items():
        if name.endswith(suffix) and len(data := make_lie()) < 2**16:
            (seeds / f"lie-{name}").write_bytes(data)
    WHOLE[reader](work / reader, np.random.default_rng(1))
    if PARTS.get(reader):
        (seeds / reader).write_bytes((work / reader).read_bytes())
    # A GIF is read as a picture.
    is_video = suffix in VIDEO_SUFFIXES and suffix != ".gif"
    read: Callable[[Path], object] = decode if is_video else convnd.io.read
    read(work / reader)
    _replace_child()  # after the first reading, which imports all modules that ask for it
    read(work / reader)

    def parse(data: bytes) -> object:
        (work / reader).write_bytes(data)
        return read(work / reader)

    return parse


if __name__ == "__main__":
    main()
