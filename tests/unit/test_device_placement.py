"""No tensor is left on the CPU where the work is on a GPU; a pretended one tells, everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils import backend_registration

ROOT = Path(__file__).parents[2]
QUICK = ["ConvNd, 4 axes", "MaxPoolNd, 3 axes", "gradient", "instant", "photograph (affine term)"]
SLOW = [
    *("picture", "three sizes, adam", "signal", "scan, paint", "texture", "regions", "seamless"),
    *("batches", "train", "evaluate", "video", "style loss: spectrum", "style loss: distribution"),
]


@pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this release of torch has no devices in Python",
)
@pytest.mark.parametrize("names", [QUICK, pytest.param(SLOW, marks=pytest.mark.slow)])
def test_a_gpu_computes_what_the_cpu_computes(names: list[str]) -> None:
    """Differences are roundings of kernels in C, which a GPU does not have; see `TOLERANCES`."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "support" / "pretended_gpu.py"), *names],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tasks'}", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    differences = {
        name: float(line.rpartition(" ")[2])
        for name, line in zip(names, done.stdout.splitlines(), strict=True)
    }
    assert all(difference < 2e-2 for difference in differences.values()), differences
