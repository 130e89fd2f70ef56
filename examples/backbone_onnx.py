"""Write a network of features as ONNX, and check it in ONNX Runtime.

    pip install "convnd-toolkit[onnx]" onnxruntime
    python examples/backbone_onnx.py compact.onnx

The file has an input `x`, values of about 0 to 1 of the shape (batch, channels, *size), and one
output for each layer. Batch and size are free. With `--dim 3` it takes volumes, with `--dim 1`
signals of one length: torch exports no pooling of signals of any length.
"""

import argparse
import logging
import warnings
from pathlib import Path

import torch

import convnd


def main() -> None:
    """Write the file, and compare its values with torch's."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--backbone", default="compact", help="one of `convnd backbones`")
    parser.add_argument("--dim", type=int, default=2, help="number of spatial axes, 1 to 3")
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--layers", default="relu1_2,relu2_2,relu3_2,relu4_2")
    options = parser.parse_args()
    layers = options.layers.split(",")
    network = convnd.backbones.load(
        options.backbone,
        spatial_dims=options.dim,
        in_channels=options.channels,
        layers=layers,
        plain=True,
    )

    extent = {1: 512, 2: 96, 3: 32}[options.dim]
    example = torch.rand(2, options.channels, *[extent] * options.dim)
    axes = (0,) if options.dim == 1 else (0, *range(2, example.ndim))
    free = dict.fromkeys(axes, torch.export.Dim.DYNAMIC)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    program = torch.onnx.export(
        network,
        (example,),
        dynamo=True,
        dynamic_shapes={"x": free},
        input_names=["x"],
        output_names=layers,
        verbose=False,
    )
    assert program is not None
    program.save(options.file)

    import onnxruntime

    session = onnxruntime.InferenceSession(options.file.read_bytes())
    other_extent = extent if options.dim == 1 else extent + 17
    other = torch.rand(3, options.channels, *[other_extent] * options.dim)
    for x in (example, other):
        results = session.run(layers, {"x": x.numpy()})
        for name, result in zip(layers, results, strict=True):
            expected = network(x)[name]
            error = (torch.from_numpy(result) - expected).abs().max() / expected.abs().max()
            print(f"{name} {tuple(result.shape)}: largest difference {error:.1e} of the largest")
            assert error < 1e-4
    print(f"{options.file}: {options.file.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
