"""A scan whose work is stopped and gone on with: the same bytes as without the stop."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from convnd_tasks.modalities.volumes.sight import Sight
from convnd_tasks.runtime.checkpoints import Keeping

from convnd import cli
from convnd.transfer.style_transfer import Progress

Run = Callable[..., tuple[int, str, str]]
# Two frames, two sizes, two steps and one.
COMMAND = ("stylize-volume", "a.nii", "--style", "b.nii", "--steps", "3", "--scales", "2",
           "--style-layers", "relu1_1", "--value-statistics", "none", "-q",
           "--no-montage")  # fmt: skip
KEEP = ("--checkpoint-every", "1", "--resume", "-o", "out.nii")


def make_scans(rng: np.random.Generator) -> None:
    """Lung, and soft tissue with a slope where the content has vessels, thus no style."""
    slope = np.repeat([-850.0, 40.0], [20, 60])
    slope = np.concatenate([slope, np.linspace(-100, 150, 48)])[:, None, None, None]
    vessels = np.zeros((128, 32, 32, 1))
    vessels[80:, ::8] = 150
    for name, noise, values in (("a", 5, slope + vessels), ("b", 20, slope)):
        values = values + noise * rng.normal(size=(128, 32, 32, 2 if name == "a" else 1))
        image = nib.Nifti1Image(values.squeeze().astype(np.float32), np.eye(4))
        image.header.set_xyzt_units("mm", "sec")
        nib.save(image, f"{name}.nii")
    nib.save(nib.Nifti1Image(np.ones((128, 32, 32), np.uint8), np.eye(4)), "mask.nii")


def killed(at: tuple[int, int]) -> None:
    """The command, killed behind the checkpoint of a step at a size; to be forked."""
    after = Keeping.after

    def die(self: Keeping, progress: Progress) -> None:
        after(self, progress)
        if (progress.step, progress.scale) == at:
            os.kill(os.getpid(), signal.SIGKILL)

    Keeping.after = die  # type: ignore[method-assign]
    sys.argv = ["convnd", *COMMAND, *KEEP]
    cli.main()


@pytest.mark.slow
def test_killed_or_stopped_it_goes_on_to_the_same_bytes(
    run: Run, rng: np.random.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_scans(rng)
    left, leave_out = [], Sight.leave_out_structure

    def note(self: Sight, sums: object) -> None:
        before = len(self.styles)
        leave_out(self, sums)  # type: ignore[arg-type]
        left.append(before - len(self.styles))

    monkeypatch.setattr(Sight, "leave_out_structure", note)
    code, _, err = run(*COMMAND, "-o", "whole.nii")
    assert code == 0, err
    assert sum(left) > 0  # which has to be so after a stop as well
    whole, kept = (tmp_path / "whole.nii").read_bytes(), tmp_path / "out.nii.checkpoint"
    fork = multiprocessing.get_context("fork")
    for at in ((0, 1), (2, 2)):  # the first frame, coarse and fine
        child = fork.Process(target=killed, args=(at,))
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        found = {each.name for each in tmp_path.iterdir()}
        assert found == {"a.nii", "b.nii", "mask.nii", "whole.nii", kept.name}
    after, seen = Keeping.after, []

    def stop(self: Keeping, progress: Progress) -> None:
        seen.append((progress.step, progress.scale))
        if progress.step == 4:
            signal.raise_signal(signal.SIGTERM)
        after(self, progress)

    monkeypatch.setattr(Keeping, "after", stop)
    code, out, _ = run(*COMMAND, *KEEP)
    assert (code, out.startswith("stopped early, kept: out.nii")) == (143, True)
    assert seen == [(2, 2), (3, 2), (3, 1), (4, 1)]
    monkeypatch.setattr(Keeping, "after", after)
    before = kept.read_bytes()
    for other in (("--seed", "1"), ("--style", "a.nii"), ("--mask", "mask.nii")):
        code, _, err = run(*COMMAND, *KEEP, *other)
        assert code == 2
        assert "resume: expected the checkpoint of these inputs and options" in err
        assert "Traceback" not in err
    assert kept.read_bytes() == before
    assert run(*COMMAND, "-o", "out.nii")[0] == 2  # for it is there
    code, out, err = run(*COMMAND, *KEEP)
    assert (code, "6 steps" in out) == (0, True), err
    assert (tmp_path / "out.nii").read_bytes() == whole
    assert not kept.exists()
