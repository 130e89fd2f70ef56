"""MONAI's own tests of its perceptual loss, run on `convnd.losses.PerceptualLoss`.

    pip install monai torchvision parameterized
    git clone --depth 1 https://github.com/Project-MONAI/MONAI
    python -m benchmarks.experiments.peers_monai MONAI --json peers_monai.json

The tests are those of the checkout; they import ``monai.losses.PerceptualLoss``, which is replaced
before. MONAI's names of networks mean the shipped one here, and its slices of volumes are
``inflation="multiplanar"``. The script exits with 1 if a test fails that states no limit of MONAI's
own.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
import unittest
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.measurement import add_json_option, write_results
from convnd.losses import PerceptualLoss

LIMITS = {
    "test_1d": "one axis has to be refused; convnd has it",
    "test_medicalnet_on_2d_data": "a network of volumes has to be refused for pictures by name",
}
"""Tests that MONAI's loss refuses what it does not have."""


class Substitute(PerceptualLoss):
    """The loss of convnd under MONAI's arguments."""

    def __init__(
        self,
        spatial_dims: int,
        network_type: str = "alex",
        is_fake_3d: bool = True,
        channel_wise: bool = False,
        **others: Any,
    ) -> None:
        planar = spatial_dims == 3 and is_fake_3d
        inflation = "multiplanar" if planar else "mean"
        super().__init__(spatial_dims=spatial_dims, inflation=inflation)
        self.channel_wise = channel_wise
        self.arguments = {"network_type": network_type, **others}

    def forward(self, input: Tensor, target: Tensor, style: Tensor | None = None) -> Tensor:
        """The loss, or with ``channel_wise`` that of each channel."""
        if not self.channel_wise:
            return super().forward(input, target, style)
        pairs = zip(input.split(1, 1), target.split(1, 1), strict=True)
        return torch.stack([super(Substitute, self).forward(*pair) for pair in pairs])


class Results(unittest.TextTestResult):
    """The outcome and the seconds of every test."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.rows: list[dict[str, Any]] = []

    def startTest(self, test: unittest.TestCase) -> None:  # noqa: N802 - unittest's name
        """Start the clock."""
        super().startTest(test)
        self._start = time.perf_counter()

    def stopTest(self, test: unittest.TestCase) -> None:  # noqa: N802
        """Add a row."""
        super().stopTest(test)
        bad = [pair[0] for pair in (*self.failures, *self.errors)]
        skipped = [pair[0] for pair in self.skipped]
        outcome = "fails" if test in bad else "skipped" if test in skipped else "passes"
        name = str(test.id()).rpartition(".")[2]
        limit = next((why for start, why in LIMITS.items() if name.startswith(start)), "")
        seconds = round(time.perf_counter() - self._start, 1)
        self.rows.append({"test": name, "outcome": outcome, "limit": limit, "seconds": seconds})


def main() -> int:
    """Run the tests, and print a row for each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("checkout", type=Path, help="folder with MONAI's source")
    add_json_option(parser)
    options = parser.parse_args()
    sys.path.insert(0, str(options.checkout.resolve()))
    for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
        del sys.modules[name]
    losses: Any = importlib.import_module("monai.losses")
    losses.PerceptualLoss = Substitute
    module = importlib.import_module("tests.losses.test_perceptual_loss")
    suite = unittest.defaultTestLoader.loadTestsFromModule(module)
    runner = unittest.TextTestRunner(verbosity=0, resultclass=Results)
    result = runner.run(suite)
    assert isinstance(result, Results)
    for row in result.rows:
        print(f"{row['test']:48} {row['outcome']:8} {row['seconds']:6} s {row['limit']}")
    failures = [row for row in result.rows if row["outcome"] == "fails" and not row["limit"]]
    counted = [row["outcome"] for row in result.rows]
    monai: Any = importlib.import_module("monai")
    summary = (
        f"MONAI {monai.__version__}: {counted.count('passes')} of {len(counted)} tests pass. The "
        "others ask for limits that the loss of convnd does not have."
    )
    print(summary)
    write_results(
        options.json,
        "MONAI's tests of its perceptual loss, on the one of convnd",
        result.rows,
        section="Other projects' tests",
        summary=summary,
    )
    return int(bool(failures or not counted))


if __name__ == "__main__":
    sys.exit(main())
