"""The compiled module; addresses are those of float32 values, 0 for none."""

def is_supported() -> bool: ...
def scratch_floats(width: int, channels: int, block: int) -> int: ...
def kernel_floats(width: int, channels: int, outputs: int) -> int: ...
def pack(width: int, taps: int, channels: int, outputs: int, kernel: int) -> None: ...
def convolve(
    width: int,
    data: tuple[int, int, int],
    taps: tuple[int, int],
    out: int,
    height: int,
    columns: int,
    channels: int,
    outputs: int,
    relu: bool,
    part: tuple[int, int, int, int, int],
    scratch: int,
) -> None: ...
