"""Brings high dynamic range (PQ and HLG) into the range and primaries of BT.709.

Each frame is mapped alike, so that nothing flickers. Sources: ITU-R BT.2100 (PQ and HLG), BT.2408
(203 cd/m² as white of graphics), BT.2390 section 5.4 (the curve, here of the largest of R, G, B in
PQ), BT.2087 (primaries), BT.1886 (the display).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["HLG", "PQ", "tone_map"]

PQ, HLG = 16, 18
"""Transfer curves, as ISO/IEC 23091-4 numbers them."""

_PEAK = 1000.0  # cd/m², of nearly all HDR videos
_WHITE = 203.0
_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
_A, _B, _C = 0.17883277, 0.28466892, 0.55991073
_BT2020_TO_BT709 = (
    (1.6605, -0.5876, -0.0728),
    (-0.1246, 1.1329, -0.0083),
    (-0.0182, -0.1006, 1.1187),
)
_LUMINANCE = (0.2627, 0.6780, 0.0593)


def tone_map(codes: NDArray[Any], transfer: int, *, is_wide: bool) -> NDArray[Any]:
    """Map R, G, B of high dynamic range to BT.709.

    Args:
        codes: ``(H, W, 3)``, float32 in ``[0, 1]``, in the curve of the file.
        transfer: `PQ`, `HLG`, or the number of another curve.
        is_wide: whether the primaries are those of BT.2020.

    Returns:
        ``(H, W, 3)``, float32 in ``[0, 1]``, gamma-encoded for a display of BT.1886, whose white is
        1000 cd/m² of the file. Other curves than `PQ` and `HLG` keep their range.
    """
    import numpy as np

    if transfer in (PQ, HLG):
        light = _pq_to_light(codes) if transfer == PQ else _hlg_to_light(codes)  # cd/m²
        largest = np.maximum(light.max(-1, keepdims=True), 1e-6)
        light *= _compress(largest) / largest
    else:
        light = _WHITE * codes ** np.float32(2.4)
    if is_wide:
        light = light @ np.asarray(_BT2020_TO_BT709, np.float32).T
    return np.asarray(np.clip(light / _WHITE, 0, 1) ** np.float32(1 / 2.4))


def _compress(light: NDArray[Any]) -> NDArray[Any]:
    """The curve of BT.2390 from a peak of 1000 to one of 203 cd/m²."""
    import numpy as np

    peak, target = _light_to_pq(np.array([_PEAK, _WHITE], np.float32))
    value = np.clip(_light_to_pq(light) / peak, 0, 1)
    ceiling = float(target / peak)
    knee = 1.5 * ceiling - 0.5
    t = np.clip((value - knee) / (1 - knee), 0, 1)
    curved = (
        (2 * t**3 - 3 * t**2 + 1) * knee
        + (t**3 - 2 * t**2 + t) * (1 - knee)
        + (-2 * t**3 + 3 * t**2) * ceiling
    )
    return _pq_to_light(np.where(value < knee, value, curved) * peak)


def _pq_to_light(codes: NDArray[Any]) -> NDArray[Any]:
    import numpy as np

    root = np.clip(codes, 0, 1) ** np.float32(1 / _M2)
    ratio = np.maximum(root - np.float32(_C1), 0) / (np.float32(_C2) - np.float32(_C3) * root)
    return np.asarray(10000 * ratio ** np.float32(1 / _M1))


def _light_to_pq(light: NDArray[Any]) -> NDArray[Any]:
    import numpy as np

    power = np.clip(light / np.float32(10000), 0, 1) ** np.float32(_M1)
    base = (np.float32(_C1) + np.float32(_C2) * power) / (1 + np.float32(_C3) * power)
    return np.asarray(base ** np.float32(_M2))


def _hlg_to_light(codes: NDArray[Any]) -> NDArray[Any]:
    """Light of a display of 1000 cd/m², whose system gamma is 1.2."""
    import numpy as np

    codes = np.clip(codes, 0, 1)
    scene = np.where(codes <= 0.5, codes**2 / 3, (np.exp((codes - _C) / _A) + _B) / 12)
    luminance = np.maximum(scene @ np.asarray(_LUMINANCE, np.float32), 1e-9)[..., None]
    return np.asarray(_PEAK * luminance ** np.float32(0.2) * scene, np.float32)
