"""Networks for the look of scans: they learn from transfers, keep limits, and refuse others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from command_line import Run
from convnd_tasks.modalities.volumes.look_teacher import LookExample, LookLoss, middle_box
from convnd_tasks.modalities.volumes.network_look import apply_look_network
from convnd_tasks.modalities.volumes.trained_look import RECORD, TrainedLook
from error_fields import raises
from numpy.typing import NDArray
from scipy import ndimage

import convnd
from convnd.errors import InputFileError
from convnd.feedforward.look_net import LookNet, LookShape
from convnd.feedforward.network_file import StyleNetwork, read_network, write_network
from convnd.grid import Grid
from convnd.transfer.training import TrainingPlan, minimize_crop_losses

SHAPE = (20, 56, 56)
SMALL = ("--steps", "12", "--width", "2", "--crop", "32", "--preview-every", "0", "--batch", "1")


def chest(noise: float, seed: int, spacing: float = 1.0) -> Grid:
    """Two balls of soft tissue in lung, a slab of padding, and white noise."""
    z, y, x = np.meshgrid(*map(np.arange, SHAPE), indexing="ij")
    data = np.full(SHAPE, -820.0)
    for centre, radius in ((18, 13), (40, 11)):
        distance = np.sqrt((y - centre) ** 2 + (x - centre) ** 2 + 0.3 * (z - 10) ** 2)
        data += 860 * np.clip(radius - distance + 0.5, 0, 1)
    data = ndimage.gaussian_filter(data, 0.6)
    data += noise * np.random.default_rng(seed).normal(size=SHAPE)
    data[:, :5] = -1100
    tensor = torch.from_numpy(
        np.ascontiguousarray(data.clip(-1100, 400).transpose(2, 1, 0))
    ).float()
    header = {"affine": np.diag([spacing] * 3 + [1.0]), "value_unit": "HU"}
    return Grid(values=tensor[None, None], spacing=(spacing,) * 3, units=("mm",) * 3, header=header)


def save(path: Path, grid: Grid) -> str:
    convnd.io.write(path, grid)
    return str(path)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "scans").mkdir()
    save(tmp_path / "scans" / "a.nii.gz", chest(5, 1))
    save(tmp_path / "style.nii.gz", chest(30, 2))
    save(tmp_path / "other.nii.gz", chest(8, 3))
    return tmp_path


def network(gain: float = 0.0, removed: float = 0.0, noise: float = 30.0) -> StyleNetwork:
    """A network that adds white noise, and takes a share of fine structures away."""
    net = LookNet(LookShape(spatial_dims=3, width=2, noises=1, taps=3))
    weights = {name: torch.zeros_like(weight) for name, weight in net.state_dict().items()}
    weights["noises.weight"][..., 1, 1, 1] = 1.0
    for channel, sign in enumerate((1.0, -1.0)):  # two signs, since ReLU takes one away
        weights["first.weight"][channel, 0] = sign / 27
        weights["first.weight"][channel, 0, 1, 1, 1] -= sign
        weights["last.weight"][0, channel] = removed * sign
    weights["last.bias"][1] = gain
    net.load_state_dict(weights)
    look = TrainedLook(
        unit="HU", scale=400.0, spacing=((1.0, 1.0),) * 3, noise={3: noise}, sharpness=False
    )
    net.eval().requires_grad_(requires_grad=False)
    return StyleNetwork(
        network=net, kind="volumes", styles=[chest(30, 2)], record={RECORD: look.text()}
    )


def write(path: Path, trained: StyleNetwork) -> str:
    write_network(path, trained, overwrite=True)
    return str(path)


def values(path: str | Path) -> NDArray[np.float64]:
    return np.asarray(nib.load(path).dataobj, float)


def test_a_small_network_learns_a_known_noise_and_a_known_filter() -> None:
    generator = torch.Generator().manual_seed(0)
    scan, noise = (torch.randn(8, 30, 30, generator=generator) for _ in range(2))
    valid = torch.ones_like(scan)
    valid[:, :4] = 0
    blurred = torch.from_numpy(ndimage.uniform_filter(scan.numpy(), (0, 3, 3))).float()
    parts = {
        "sharpness": (blurred - scan) * valid,
        "added": 0.1 * noise,
        "removed": torch.zeros_like(scan),
    }
    example = LookExample(scan, valid, noise, parts, True, (1.0,) * 3, {})
    net = LookNet(LookShape(spatial_dims=3, width=2, noises=1, taps=3))
    loss = LookLoss(net, [example], 30)
    assert set(loss.energies) == {"sharpness", "added"}
    plan = TrainingPlan(steps=80, crop=30, learning_rate=0.05)
    steps = list(minimize_crop_losses(net, loss.backward, plan))
    first, last = steps[0].parts, steps[-1].parts
    assert {"sharpness", "added"} == set(first)
    assert all(last[name] < 0.2 * first[name] for name in first), (first, last)
    kernel = net.filter.weight[0, 0].detach()
    # A mean over 3 x 3 voxels of the slice; the taps of the other slices are 0.
    torch.testing.assert_close(kernel[1, 0], torch.full((3,), 1 / 9), atol=0.04, rtol=0)
    assert float(kernel[0].abs().max()) < 0.04


def test_tiles_give_the_values_of_the_whole_scan() -> None:
    net = LookNet(LookShape(spatial_dims=3, width=3, noises=2, taps=5, thick=1))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in net.parameters():
            weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
    fields = torch.randn(1, 3, 20, 70, 66, generator=generator)
    whole = apply_look_network(net, fields, crop_voxels=10**9)
    tiled = apply_look_network(net, fields, crop_voxels=30_000)
    torch.testing.assert_close(tiled, whole, atol=1e-4, rtol=1e-4)


def test_train_then_stylize(run: Run, files: Path) -> None:
    words = ("train", "style.nii.gz", "--data", "scans", *SMALL, "-o", "look.safetensors")
    code, out, err = run(*words)
    assert code == 0, err
    assert "look: noise" in err
    assert out.startswith("look.safetensors  0.0")
    record = read_network("look.safetensors").record
    look = TrainedLook.of(record)
    assert (look.unit, look.spacing, look.sharpness) == ("HU", ((1.0, 1.0),) * 3, False)
    assert look.noise[3] == pytest.approx(30, rel=0.1)
    assert json.loads(record["convnd:styles"])[0]["name"] == "style.nii.gz"
    command = ("stylize-volume", "other.nii.gz", "look.safetensors", "--no-figures")
    code, out, err = run(*command, "-o", "a.nii.gz", "--json")
    assert code == 0, err
    (result,) = json.loads(out)["results"]
    assert any(line.startswith("anatomy: ") for line in result["messages"])
    scan, first = values("other.nii.gz"), values("a.nii.gz")
    padding = scan == -1100
    assert (first[padding] == -1100).all()
    assert (first != scan)[~padding].mean() > 0.9
    assert (first.min(), first.max() <= scan.max()) == (-1100, True)
    for name, more in {"same": (), "drawn": ("--seed", "4"), "none": ("--strength", "0")}.items():
        assert run(*command, "-o", f"{name}.nii.gz", "-q", *more)[0] == 0
    assert (values("same.nii.gz") == first).all()
    assert (values("drawn.nii.gz") == first).mean() < 0.5
    assert (values("none.nii.gz") == scan).all()


def test_noise_is_limited_to_what_the_style_has_more(files: Path) -> None:
    scan = chest(8, 3)
    path = write(files / "loud.safetensors", network(gain=1.0, noise=15))  # of 400 HU
    result = convnd.stylize(scan, path, dim=3)
    change = (result.values - scan.values)[0, 0, 14:22, 14:22, 6:14]
    # 15² = 8² + 12.7²; half a thousand voxels, and the scan's noise is measured.
    assert float(change.std()) == pytest.approx(12.7, rel=0.15)
    assert float((result.values - scan.values).abs().max()) <= 6 * 15


def test_a_harmful_network_ends_with_exit_code_5(run: Run, files: Path) -> None:
    write(files / "harm.safetensors", network(gain=0.02, removed=4.0))
    words = ("other.nii.gz", "harm.safetensors", "--no-figures", "-o", "out.nii.gz")
    code, _, err = run("stylize-volume", *words)
    assert code == 5, err
    assert "unchanged anatomy" in err
    assert "strength of 0.25" in err
    assert not Path("out.nii.gz").exists()
    assert [*Path().glob("out*.nii.gz")]  # kept under another name


@pytest.mark.parametrize(
    ("spacing", "code"), [(1.05, 0), (1.5, 0), (2.2, 3)], ids=["equal", "told", "refused"]
)
def test_other_voxels_are_told_or_refused(run: Run, files: Path, spacing: float, code: int) -> None:
    write(files / "n.safetensors", network(gain=0.02))
    save(files / "coarse.nii.gz", chest(8, 3, spacing))
    words = ("coarse.nii.gz", "n.safetensors", "--no-figures", "-o", "out.nii.gz")
    actual, _, err = run("stylize-volume", *words)
    assert actual == code, err
    assert ("trained on voxels of 1 mm" in err) == (spacing == 1.5)
    assert ("network was trained on" in err) == (spacing == 2.2)
    assert Path("out.nii.gz").exists() == (code == 0)


def test_another_modality_is_refused(run: Run, files: Path) -> None:
    write(files / "n.safetensors", network(gain=0.02))
    scan = chest(8, 3)
    header = {key: value for key, value in scan.header.items() if key != "value_unit"}
    magnetic = Grid(
        values=scan.values + 1100, spacing=scan.spacing, units=scan.units, header=header
    )
    save(files / "mr.nii.gz", magnetic)
    code, _, err = run("stylize-volume", "mr.nii.gz", "n.safetensors", "-o", "out.nii.gz")
    assert (code, err.count("\n")) == (3, 1)
    assert "without a unit" in err
    assert not Path("out.nii.gz").exists()


def test_faults_of_the_caller(run: Run, files: Path) -> None:
    write(files / "n.safetensors", network(gain=0.02))
    for words, expected in {
        ("stylize-volume", "other.nii.gz", "n.safetensors", "--transfer", "paint"): 2,
        ("stylize-volume", "other.nii.gz", "n.safetensors", "--steps", "3"): 2,
        ("train", "style.nii.gz", "--data", "scans", "--levels", "1"): 2,
        ("train", "style.nii.gz", "other.nii.gz", "--data", "scans"): 2,
        ("train", "scans/a.nii.gz", "--data", "scans", *SMALL): 3,  # nothing to learn
        ("export", "n.safetensors"): 3,
    }.items():
        code, _, err = run(*words)
        assert code == expected, (words, err)
        assert err.strip().splitlines()[-1].startswith("convnd: ")
    bare = network()
    trained = StyleNetwork(network=bare.network, kind="volumes", styles=bare.styles, record={})
    with raises(InputFileError, remedy="train it again"):
        convnd.stylize(chest(8, 3), write(files / "bare.safetensors", trained), dim=3)


def test_units_that_windows_relate_are_those_of_the_training() -> None:
    look = TrainedLook.of(network().record)
    look.check_unit("HU")
    with raises(InputFileError, got="without a unit"):
        look.check_unit("")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"unit": "K"}', "[" * 9000])
def test_a_hostile_record_is_refused(text: str) -> None:
    with raises(InputFileError, remedy="train it again"):
        TrainedLook.of({RECORD: text})


def test_the_middle_of_a_large_scan_is_learnt_from(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = chest(5, 1)
    assert middle_box(grid) is grid
    name = "convnd_tasks.modalities.volumes.look_teacher._MOST_VOXELS"
    monkeypatch.setattr(name, 20 * 40 * 40)
    box: Any = middle_box(grid)
    assert box.shape == (40, 40, 20)
    assert torch.equal(box.values, grid.values[:, :, 8:48, 8:48])
