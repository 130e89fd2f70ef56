"""A scan whose work is stopped and resumed gives the same bytes as without the stop."""

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
from convnd_tasks.modalities.volumes.view_loss import ViewLoss
from convnd_tasks.runtime.checkpoints import Checkpointer

from convnd import cli
from convnd.transfer.progress import Progress

Run = Callable[..., tuple[int, str, str]]
# Two frames, two sizes, two steps and one.
COMMAND = ("stylize-volume", "a.nii", "--style", "b.nii", "--steps", "3", "--scales", "2",
           "--style-layers", "relu1_1", "--value-statistics", "none", "-q",
           "--no-figures")  # fmt: skip
KEEP = ("--checkpoint-every", "1", "--resume", "-o", "out.nii")


def make_scans(rng: np.random.Generator) -> None:
    """Lung, and soft tissue with a slope where only the content has vessels."""
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
    """The command, killed after the checkpoint of a step at a size, in a forked process."""
    after = Checkpointer.after_step

    def die(self: Checkpointer, progress: Progress) -> None:
        after(self, progress)
        if (progress.step, progress.scale) == at:
            os.kill(os.getpid(), signal.SIGKILL)

    Checkpointer.after_step = die  # type: ignore[method-assign]
    sys.argv = ["convnd", *COMMAND, *KEEP]
    cli.main()


@pytest.mark.slow
def test_killed_or_stopped_it_resumes_to_the_same_bytes(
    run: Run, rng: np.random.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_scans(rng)
    dropped, drop_terms = [], ViewLoss.drop_structure_terms

    def note(self: ViewLoss, sums: object) -> None:
        before = len(self.style_losses)
        drop_terms(self, sums)  # type: ignore[arg-type]
        dropped.append(before - len(self.style_losses))

    monkeypatch.setattr(ViewLoss, "drop_structure_terms", note)
    code, _, err = run(*COMMAND, "-o", "whole.nii")
    assert code == 0, err
    assert sum(dropped) > 0  # and a resumed run must drop the same
    whole, checkpoint = (tmp_path / "whole.nii").read_bytes(), tmp_path / "out.nii.checkpoint"
    fork = multiprocessing.get_context("fork")
    for at in ((0, 1), (2, 2)):  # the first frame, coarse and fine
        child = fork.Process(target=killed, args=(at,))
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        names = {path.name for path in tmp_path.iterdir()}
        assert names == {"a.nii", "b.nii", "mask.nii", "whole.nii", checkpoint.name}
    after, steps = Checkpointer.after_step, []

    def stop(self: Checkpointer, progress: Progress) -> None:
        steps.append((progress.step, progress.scale))
        if progress.step == 4:
            signal.raise_signal(signal.SIGTERM)
        after(self, progress)

    monkeypatch.setattr(Checkpointer, "after_step", stop)
    code, out, _ = run(*COMMAND, *KEEP)
    assert (code, out.startswith("stopped early, kept: out.nii")) == (143, True)
    assert steps == [(2, 2), (3, 2), (3, 1), (4, 1)]
    monkeypatch.setattr(Checkpointer, "after_step", after)
    before = checkpoint.read_bytes()
    for other in (("--seed", "1"), ("--style", "a.nii"), ("--mask", "mask.nii")):
        code, _, err = run(*COMMAND, *KEEP, *other)
        assert code == 2
        assert "resume: expected the checkpoint of these inputs and options" in err
        assert "Traceback" not in err
    assert checkpoint.read_bytes() == before
    assert run(*COMMAND, "-o", "out.nii")[0] == 2  # because it exists
    code, out, err = run(*COMMAND, *KEEP)
    assert (code, "6 steps" in out) == (0, True), err
    assert (tmp_path / "out.nii").read_bytes() == whole
    assert not checkpoint.exists()
