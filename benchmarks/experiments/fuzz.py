"""Fuzz a reader, guided by coverage: mutated files that reach new lines are mutated further.

pip install ".[fuzz,test]" -c constraints.txt
python -m benchmarks.experiments.fuzz a.nii --runs 20000   # one reader
python -m benchmarks.experiments.fuzz --runs 2000          # every reader, one process each

The seeds are the whole files and lying headers of `tests/support/malformed.py`. A file that does
not end in a grid or an `InputFileError`, or takes more than 20 s or 2 GiB, is saved in
``--findings`` and ends the run with exit code 1. Videos are decoded in this process instead of a
child, where coverage sees the lines; frames have at most a million pixels, since the child's memory
limit is missing.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "support"))

# One file for each reader; other files of `WHOLE` differ in their content.
READERS = (
    "a.png", "a.jpg", "a.webp", "a.bmp", "a.gif", "a.avif", "a.tif", "float.tif", "a.npy", "a.npz",
    "a.nii", "a.nii.gz", "a.nrrd", "a.mha", "a.csv", "a.hea", "a.edf", "a.bdf", "a.wav", "a.dcm",
    "a.mp4", "a.mkv", "a.avi",
)  # fmt: skip


def main() -> None:
    """Fuzz one reader, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("reader", nargs="?", choices=READERS, help="all if left out")
    parser.add_argument("--runs", type=int, default=2000, help="inputs to try for each reader")
    parser.add_argument("--seed", type=int, default=1, help="seed of the fuzzer")
    parser.add_argument("--findings", type=Path, default=Path("findings"))
    args = parser.parse_args()
    if args.reader is not None:
        fuzz(args.reader, args.runs, args.seed, args.findings)
    failed = []
    for reader in READERS:
        command = [sys.executable, "-m", "benchmarks.experiments.fuzz", reader]
        command += [f"--runs={args.runs}", f"--seed={args.seed}", f"--findings={args.findings}"]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        last = [line for line in result.stderr.splitlines() if "cov:" in line or "Done" in line]
        print(
            f"{reader:10} {'; '.join(last[-2:]) if result.returncode == 0 else 'FAILED'}",
            flush=True,
        )
        if result.returncode:
            failed.append(reader)
            print(result.stdout[-2000:], result.stderr[-2000:], flush=True)
    print(f"{len(READERS) - len(failed)} of {len(READERS)} readers held")
    sys.exit(1 if failed else 0)


def fuzz(reader: str, runs: int, seed: int, findings: Path) -> None:
    """Fuzz one reader; ends the process."""
    import atheris

    with atheris.instrument_imports(include=["convnd.io"], enable_loader_override=False):
        import convnd.io
        from convnd.errors import InputFileError
        from convnd.io.video.types import VIDEO_SUFFIXES
        from convnd.io.worker.video_decoder import VideoDecoder
    from malformed import LIES, PARTS, WHOLE

    def decode(path: Path) -> None:
        video = VideoDecoder(path, 2**20)
        video.describe()
        for _ in video.frames(Fraction(0), None):
            pass

    findings.mkdir(exist_ok=True)
    findings = findings.absolute()
    work = Path(tempfile.mkdtemp(prefix="convnd-fuzz-"))
    seeds = work / "seeds"
    seeds.mkdir()
    os.chdir(work)
    warnings.simplefilter("ignore")
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

    def one(data: bytes) -> None:
        (work / reader).write_bytes(data)
        try:
            read(work / reader)
        except InputFileError as error:
            if not str(error).isprintable() or "\n" in str(error):
                raise AssertionError(str(error)) from error

    options = [f"-runs={runs}", f"-seed={seed}", "-timeout=20", "-rss_limit_mb=2048"]
    options += ["-max_len=65536", f"-artifact_prefix={findings}/{reader}-"]
    called: list[Any] = [sys.argv[0], *options, str(seeds)]
    atheris.Setup(called, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
