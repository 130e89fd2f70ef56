"""The compiled module; addresses are those of float32 values, 0 for none."""

def is_supported() -> bool: ...
def scratch_floats(width: int, channels: int, outputs: int, block: int) -> int: ...
def kernel_floats(width: int, channels: int, outputs: int) -> int: ...
def is_direct(width: int, channels: int, outputs: int) -> bool: ...
def pack(width: int, weights: int, channels: int, outputs: int, kernel: int) -> None: ...
def convolve(
    width: int,
    data: tuple[int, int, int],
    kernel: tuple[int, int],
    out: int,
    sizes: tuple[int, int, int, int],
    relu_and_replicate: tuple[bool, bool],
    part: tuple[int, int, int, int, int],
    scratch: int,
) -> None: ...
def pooled_sizes(
    block: int, kernel: tuple[int, ...], channels: int, outputs: int
) -> tuple[int, int]: ...
def convolve_pool(
    data: tuple[int, int, int],
    kernel: tuple[int, int],
    channels: tuple[int, int],
    size: tuple[int, ...],
    window: tuple[int, ...],
    backwards: bool,
    part: tuple[int, int, int],
    scratch: int,
) -> None: ...
def pool(
    data: tuple[int, int, int],
    size: tuple[int, ...],
    kernel: tuple[int, ...],
    channels: int,
    half: bool,
    mask: bool,
    backwards: bool,
    lines: tuple[int, ...],
) -> None: ...
def gram(
    x: int, out: int, count: int, channels: int, first: int, last: int, scratch: int
) -> None: ...
def find_nearest(
    queries: int,
    keys: tuple[int, int, int],
    channels: int,
    rows: int,
    part: tuple[int, int],
    scratch: int,
) -> None: ...
