"""Time of the random styles in training loops of MONAI and TorchIO, on real data.

    python -m benchmarks.performance.augmentation --scan t1.nii.gz --mask gm.nii.gz --json out.json

Pictures are crops of 128x128 of photographs that come with scikit-image; a small network learns
which photograph a crop is from, while `RandStyle` changes its style. Scans are crops of 96x96x96 of
a file, and their style is the T1 that comes with nibabel; a small network learns the mask, while
`ScanLook` changes the noise. Each loop runs as its library documents it: transforms in a `Dataset`,
batches from a loader. The script prints the time of the style alone and of a step of training.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import nibabel
import torch
from torch import Tensor, nn

import convnd
from benchmarks.measurement import add_json_option, write_results

PHOTOGRAPHS = ("astronaut", "coffee", "chelsea")
ANATOMY = Path(nibabel.__file__).parent / "tests" / "data" / "anatomical.nii"
EXTENT, DEPTH = 128, 96  # samples along the sides of a picture and of a scan


class Timed:
    """A transform that records the processor time and the time of each call."""

    def __init__(self, transform: Callable[[Any], Any]) -> None:
        self.transform = transform
        self.seconds: list[float] = []
        self.processor_seconds: list[float] = []

    def __call__(self, data: Any) -> Any:
        """Transform, and record the time."""
        start, processor_start = time.perf_counter(), time.process_time()
        result = self.transform(data)
        self.seconds.append(time.perf_counter() - start)
        self.processor_seconds.append(time.process_time() - processor_start)
        return result


def train(
    batches: Iterator[tuple[Tensor, Tensor]], network: nn.Module, loss: nn.Module, steps: int
) -> dict[str, float]:
    """Train for some steps; the first and last loss, and the median time of a step."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    losses, times = [], []
    for _ in range(steps):
        start = time.perf_counter()
        x, y = next(batches)
        optimizer.zero_grad()
        value = loss(network(x), y)
        value.backward()
        optimizer.step()
        losses.append(value.item())
        times.append(time.perf_counter() - start)
    middle = max(1, steps // 4)
    return {
        "first losses": statistics.mean(losses[:middle]),
        "last losses": statistics.mean(losses[-middle:]),
        "step, s": statistics.median(times[1:] or times),
    }


def convolutions(spatial_dims: int, channels: int, classes: int, *, pooled: bool) -> nn.Module:
    """A small network: classes of the input, or of each position."""
    conv = convnd.nn.ConvNd
    layers: list[nn.Module] = [
        conv(channels, 8, 3, 2 if pooled else 1, padding=1, spatial_dims=spatial_dims),
        nn.ReLU(),
        conv(8, 16, 3, 2 if pooled else 1, padding=1, spatial_dims=spatial_dims),
        nn.ReLU(),
    ]
    if pooled:
        layers += [convnd.nn.AdaptiveAvgPoolNd(1, spatial_dims=spatial_dims), nn.Flatten()]
        return nn.Sequential(*layers, nn.Linear(16, classes))
    return nn.Sequential(*layers, conv(16, classes, 1, spatial_dims=spatial_dims))


def endless(loader: Any) -> Iterator[Any]:
    """The batches of a loader, again and again."""
    while True:
        yield from loader


def monai_modules() -> tuple[Any, Any]:
    """The modules of MONAI with data sets and with transforms, which have no type hints."""
    import monai.data
    import monai.transforms

    return monai.data, monai.transforms


def picture_batches(library: str, style: Timed) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of four crops and the numbers of their photographs."""
    from skimage import data

    photographs = [
        torch.from_numpy(getattr(data, name)()).movedim(-1, 0) / 255 for name in PHOTOGRAPHS
    ]
    if library == "MONAI":
        data_of_monai, transforms = monai_modules()

        items: list[Any] = [{"image": image, "label": n} for n, image in enumerate(photographs)]
        crop = transforms.RandSpatialCropd(["image"], (EXTENT, EXTENT), random_size=False)
        steps: Any = transforms.Compose(
            [crop, transforms.RandFlipd(["image"], 0.5, spatial_axis=1), style]
        )
        loader = data_of_monai.DataLoader(
            data_of_monai.Dataset(items * 4, steps), batch_size=4, shuffle=True
        )
        for batch in endless(loader):
            yield batch["image"].as_tensor(), batch["label"]
    import torchio as tio

    subjects = [
        tio.Subject(image=tio.ScalarImage(tensor=image[..., None]), label=n)
        for n, image in enumerate(photographs)
    ] * 4
    transform = tio.Compose(
        [
            tio.RandomFlip(axes=(0,)),
            tio.Lambda(
                lambda image: style(image[:, 100 : 100 + EXTENT, 100 : 100 + EXTENT]),
                types_to_apply=[tio.INTENSITY],
            ),
        ]
    )
    dataset = tio.SubjectsDataset(subjects, transform=transform)
    for batch in endless(tio.SubjectsLoader(dataset, batch_size=4, shuffle=True)):
        yield batch["image"][tio.DATA][..., 0], torch.as_tensor(batch["label"])


def scan_batches(
    library: str, style: Timed, scan: Tensor, mask: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of one crop of a scan and of its mask."""
    mean, deviation = scan.mean(), scan.std()
    if library == "MONAI":
        data_of_monai, transforms = monai_modules()

        crop = transforms.RandSpatialCropd(["image", "label"], (DEPTH,) * 3, random_size=False)
        items: list[Any] = [{"image": scan, "label": mask}] * 4
        loader = data_of_monai.DataLoader(
            data_of_monai.Dataset(items, transforms.Compose([crop, style])), batch_size=1
        )
        for batch in endless(loader):
            yield (batch["image"].as_tensor() - mean) / deviation, batch["label"].as_tensor()
    import torchio as tio

    subject = tio.Subject(image=tio.ScalarImage(tensor=scan), label=tio.LabelMap(tensor=mask))
    transform = tio.Compose(
        [tio.CropOrPad(DEPTH), tio.Lambda(style, types_to_apply=[tio.INTENSITY])]
    )
    dataset = tio.SubjectsDataset([subject] * 4, transform=transform)
    for batch in endless(tio.SubjectsLoader(dataset, batch_size=1)):
        yield (batch["image"][tio.DATA] - mean) / deviation, batch["label"][tio.DATA]


def read_scan(path: Path) -> Tensor:
    """A scan as ``(1, I, J, K)``."""
    return convnd.io.read(path).values[0].float()


def rows_of_pictures(steps: int) -> Iterator[dict[str, object]]:
    """Measure the loops of pictures."""
    for library in ("MONAI", "TorchIO"):
        keys = ["image"] if library == "MONAI" else []
        style = Timed(convnd.RandStyle(["ink", "marble"], keys=keys, strength=(0.2, 0.8)))
        network = convolutions(2, 3, len(PHOTOGRAPHS), pooled=True)
        figures = train(picture_batches(library, style), network, nn.CrossEntropyLoss(), steps)
        yield row(library, f"{EXTENT}x{EXTENT}, batches of 4", style, figures)


def rows_of_scans(
    steps: int, scan_path: Path, mask_path: Path, style_path: Path
) -> Iterator[dict[str, object]]:
    """Measure the loops of scans."""
    scan, mask = read_scan(scan_path), (read_scan(mask_path) > 0.5).float()
    spacing = convnd.io.read(scan_path).spacing
    for library in ("MONAI", "TorchIO"):
        keys = ["image"] if library == "MONAI" else []
        look = convnd.ScanLook(
            [style_path], spacing=spacing, modality="mr", keys=keys, strength=(0.2, 0.8)
        )
        style = Timed(look)
        network = convolutions(3, 1, 1, pooled=False)
        batches = scan_batches(library, style, scan, mask)
        figures = train(batches, network, nn.BCEWithLogitsLoss(), steps)
        yield row(library, "x".join([str(DEPTH)] * 3), style, figures)


def row(library: str, size: str, style: Timed, figures: dict[str, float]) -> dict[str, object]:
    """One row of the table; the first call, which reads the styles, does not count."""
    return {
        "library": library,
        "input": size,
        "style, s": round(statistics.median(style.seconds[1:]), 3),
        "style, processor s": round(statistics.median(style.processor_seconds[1:]), 3),
        **{name: round(value, 3) for name, value in figures.items()},
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--scan", type=Path, help="at least 96 voxels along each axis")
    parser.add_argument("--mask", type=Path, help="of the same voxels")
    parser.add_argument("--style", type=Path, default=ANATOMY)
    parser.add_argument("--steps", type=int, default=24)
    add_json_option(parser)
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    rows = list(rows_of_pictures(options.steps))
    if options.scan is not None:
        rows += rows_of_scans(options.steps // 2, options.scan, options.mask, options.style)
    print(*rows[0], sep="\t")
    for figures in rows:
        print(*figures.values(), sep="\t")
    write_results(
        options.json,
        "Random styles in training loops",
        rows,
        section="Speed",
        summary="Loops of MONAI and TorchIO on photographs of scikit-image (RandStyle) and on the "
        "MNI152 T1 of nilearn with its mask of grey matter (ScanLook, with noise of a T1 of "
        "nibabel). The medians are those of one call of the style, in one process beside the "
        "training, and of a step of training with everything.",
        target="At most 0.05 s for 128x128, and 1 s for 96x96x96.",
    )


if __name__ == "__main__":
    main()
