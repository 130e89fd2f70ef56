"""Colour spaces of pictures, and the way to sRGB and back in float.

ICC profiles of a matrix and three curves, and grey profiles, are converted here in float, so that
16 bits keep their precision. littlecms converts profiles with lookup tables, through Pillow and in
8 bits. The white point is mapped to white (relative colorimetric intent). Formats: ICC.1:2022 for
profiles, PNG (3rd edition) for ``gAMA``, ``cHRM`` and ``cICP``, ITU-T H.273 for the codes of
primaries and transfer.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "ADOBE_RGB",
    "ColorSpace",
    "SpaceArguments",
    "coded_space",
    "named_space",
    "profile_kind",
    "profile_space",
]

SpaceArguments = tuple[tuple[float, ...], tuple[float, ...], float | None]
"""Arguments of `named_space`."""

_CODES = 65536
_D50 = (0.9642, 1.0, 0.8249)
_D65_XY = (0.3127, 0.3290)
_P3 = (0.680, 0.320, 0.265, 0.690, 0.150, 0.060)
_BT2020 = (0.708, 0.292, 0.170, 0.797, 0.131, 0.046)
_BT709 = (0.640, 0.330, 0.300, 0.600, 0.150, 0.060)
# Of H.273: x and y of red, green, blue, where a still picture has them.
_PRIMARIES = {
    1: _BT709,
    2: _BT709,  # not known
    5: (0.640, 0.330, 0.290, 0.600, 0.150, 0.060),
    6: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    7: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    9: _BT2020,
    12: _P3,
}
_SRGB_TRANSFERS = {1, 2, 6, 13, 14, 15}  # those of video are shown as sRGB is
_GAMMAS = {4: 2.2, 5: 2.8, 8: 1.0}
_ROWS = 2**20  # pixels that are converted at once
_NEAR = 0.5 / 255  # largest difference of a space that counts as sRGB
_MAX_TAGS = 200


@dataclass(frozen=True, eq=False)
class ColorSpace:
    """A colour space as curves and a matrix.

    Args:
        curves: ``(3, 65536)`` or, of a grey space, ``(1, 65536)``: linear light of each 16-bit
            code; white is 1.
        matrix: ``(3, 3)``: from linear light of this space to that of sRGB; None for a grey space.
    """

    curves: NDArray[Any]
    matrix: NDArray[Any] | None

    @functools.cached_property
    def is_srgb(self) -> bool:
        """Whether colours differ from those of sRGB by less than half an 8-bit code."""
        import numpy as np

        steps = np.linspace(0, 1, 9, dtype=np.float32)
        colors = np.stack(np.meshgrid(*[steps] * len(self.curves), indexing="ij"), -1)
        colors = colors.reshape(1, -1, len(self.curves))
        return bool(np.abs(self.to_srgb(colors) - colors).max() < _NEAR)

    @functools.cached_property
    def is_invertible(self) -> bool:
        """Whether `from_srgb` is possible: the matrix has an inverse, and the curves rise."""
        import numpy as np

        return (
            self.matrix is not None
            and abs(float(np.linalg.det(self.matrix))) > 1e-6
            and bool((np.diff(self.curves) >= 0).all())
            and bool((self.curves[:, -1] > self.curves[:, 0]).all())
        )

    def to_srgb(self, codes: NDArray[Any]) -> NDArray[Any]:
        """Convert pixels to sRGB.

        Args:
            codes: ``(H, W, C)`` with one channel for each curve; uint8, uint16, or float32 in
                ``[0, 1]``.

        Returns:
            ``(H, W, C)``, float32. Colours outside sRGB are below 0 or above 1.
        """
        import numpy as np

        # 8 bits do not need double precision, which takes twice as long.
        number = np.float32 if codes.dtype == np.uint8 else np.float64
        curves = self.curves.astype(number)
        matrix = None if self.matrix is None else self.matrix.T.astype(number)
        result = np.empty(codes.shape, np.float32)
        for rows in _row_slices(codes):
            light = np.stack(
                [_light(codes[rows][..., k], curve) for k, curve in enumerate(curves)], -1
            )
            if matrix is not None:
                light = light @ matrix
            result[rows] = _encode_srgb(light)
        return result

    def from_srgb(self, values: NDArray[Any]) -> NDArray[Any]:
        """Convert sRGB to this space; the inverse of `to_srgb`.

        Args:
            values: ``(H, W, 3)``, float32.

        Returns:
            ``(H, W, 3)``, float32 in ``[0, 1]``.
        """
        import numpy as np

        assert self.matrix is not None
        inverse = np.linalg.inv(self.matrix).T
        codes = np.linspace(0, 1, _CODES)
        result = np.empty(values.shape, np.float32)
        for rows in _row_slices(values):
            light = _decode_srgb(values[rows].astype(np.float64)) @ inverse
            for k, curve in enumerate(self.curves):
                result[rows][..., k] = np.interp(light[..., k], curve, codes)
        return result


def profile_kind(icc: bytes) -> tuple[bytes, bool]:
    """Return the colour space of an ICC profile (``b"RGB "``), and whether it has lookup tables."""
    tags = _tags(icc)
    return icc[16:20], any(name.startswith(b"A2B") for name in tags)


@functools.lru_cache(16)
def profile_space(icc: bytes) -> ColorSpace | None:
    """Read an ICC profile of RGB with a matrix and curves, or of grey.

    Returns:
        None for a damaged profile, and for one with lookup tables, which take precedence.
    """
    import numpy as np

    tags = _tags(icc)
    if any(name.startswith(b"A2B") for name in tags):
        return None
    try:
        if icc[16:20] == b"GRAY":
            curve = _curve(tags[b"kTRC"])
            if icc[20:24] == b"Lab ":  # the curve gives lightness
                curve = np.where(curve > 0.08, ((curve + 0.16) / 1.16) ** 3, curve * 2700 / 24389)
            return ColorSpace(curve[None], None)
        if icc[16:20] != b"RGB " or icc[20:24] != b"XYZ ":
            return None
        curves = np.stack([_curve(tags[name]) for name in (b"rTRC", b"gTRC", b"bTRC")])
        columns = [
            np.array(struct.unpack_from(">3i", tags[name], 8)) / 65536
            for name in (b"rXYZ", b"gXYZ", b"bXYZ")
        ]
    except (KeyError, struct.error, ValueError, OverflowError):
        return None
    matrix = np.linalg.inv(_xyz_matrix(_BT709)) @ np.stack(columns, 1)
    space = ColorSpace(curves, matrix)
    return space if np.isfinite(curves).all() else None


def named_space(
    primaries: Sequence[float], white: Sequence[float], gamma: float | None
) -> ColorSpace:
    """Make a colour space from its primaries.

    Args:
        primaries: chromaticities x and y of red, green and blue.
        white: chromaticities x and y of white.
        gamma: exponent from codes to light; None is the curve of sRGB.
    """
    import numpy as np

    codes = np.linspace(0, 1, _CODES)
    curve = _decode_srgb(codes) if gamma is None else codes**gamma
    matrix = np.linalg.inv(_xyz_matrix(_BT709)) @ _xyz_matrix(primaries, white)
    return ColorSpace(np.stack([curve] * 3), matrix)


ADOBE_RGB: SpaceArguments = ((0.640, 0.330, 0.210, 0.710, 0.150, 0.060), _D65_XY, 563 / 256)
"""Arguments of `named_space` for Adobe RGB (1998)."""


def coded_space(primaries: int, transfer: int) -> SpaceArguments | None:
    """Look up the colour space of two codes of ITU-T H.273.

    Returns:
        Arguments of `named_space`; None for HDR (PQ, HLG) and for codes that still pictures do not
        use.

    >>> [named_space(*coded_space(code, 13)).is_srgb for code in (1, 12)], coded_space(9, 16)
    ([True, False], None)
    """
    if primaries not in _PRIMARIES or transfer not in (*_SRGB_TRANSFERS, *_GAMMAS):
        return None
    return _PRIMARIES[primaries], _D65_XY, _GAMMAS.get(transfer)


def _row_slices(pixels: NDArray[Any]) -> list[slice]:
    step = max(1, _ROWS // pixels.shape[1])
    return [slice(first, first + step) for first in range(0, pixels.shape[0], step)]


def _light(codes: NDArray[Any], curve: NDArray[Any]) -> NDArray[Any]:
    import numpy as np

    if codes.dtype == np.uint8:
        codes = codes.astype(np.uint16) * 257
    light: NDArray[Any]
    if codes.dtype == np.uint16:
        light = curve[codes]
        return light
    light = np.interp(codes, np.linspace(0, 1, _CODES), curve)
    return light


def _tags(icc: bytes) -> dict[bytes, bytes]:
    """The data of each tag of a profile; damaged ones are left out."""
    if len(icc) < 132:
        return {}
    count = min(int.from_bytes(icc[128:132], "big"), _MAX_TAGS)
    tags = {}
    for start in range(132, min(132 + 12 * count, len(icc) - 11), 12):
        name, offset, length = struct.unpack_from(">4sII", icc, start)
        if offset + length <= len(icc):
            tags[name] = icc[offset : offset + length]
    return tags


def _curve(tag: bytes) -> NDArray[Any]:
    """Return the linear light of each 16-bit code, from a ``curv`` or ``para`` tag.

    Raises:
        ValueError: it is damaged.
    """
    import numpy as np

    codes = np.linspace(0, 1, _CODES)
    kind, (number,) = tag[:4], struct.unpack_from(">I", tag, 8)
    if kind == b"curv":
        if number == 0:
            return codes
        table = np.frombuffer(tag, ">u2", number, 12) / 65535
        if number == 1:
            curve: NDArray[Any] = codes ** (float(table[0]) * 65535 / 256)
            return curve
        return np.interp(codes, np.linspace(0, 1, number), table)
    if kind != b"para":
        raise ValueError(f"a curve of kind {kind!r}")
    return _parametric_curve(codes, tag)


def _parametric_curve(codes: NDArray[Any], tag: bytes) -> NDArray[Any]:
    """The curve of a ``para`` tag: a power above ``d``, a line below (ICC.1:2022, 10.18)."""
    import numpy as np

    (kind,) = struct.unpack_from(">H", tag, 8)
    if kind > 4:
        raise ValueError(f"a parametric curve of kind {kind}")
    count = (1, 3, 4, 5, 7)[kind]
    numbers = struct.unpack_from(f">{count}i", tag, 12)
    g, a, b, c, d, e, f = [number / 65536 for number in numbers] + [0.0] * (7 - count)
    if kind == 0:
        a, d = 1.0, -1.0
    elif kind in (1, 2):
        if a == 0:
            raise ValueError("a parametric curve without a slope")
        d, e, f, c = -b / a, c, c, 0.0
    power = np.maximum(a * codes + b, 0) ** g + e
    curve: NDArray[Any] = np.clip(np.where(codes >= d, power, c * codes + f), 0, 1)
    return curve


def _xyz_matrix(primaries: Sequence[float], white: Sequence[float] = _D65_XY) -> NDArray[Any]:
    """Return the matrix from linear light to XYZ relative to D50, by Bradford's adaptation."""
    import numpy as np

    def xyz(x: float, y: float) -> NDArray[Any]:
        return np.array([x / y, 1.0, (1 - x - y) / y])

    columns = np.stack([xyz(*primaries[k : k + 2]) for k in (0, 2, 4)], 1)
    source = xyz(*white)
    columns = columns * np.linalg.solve(columns, source)
    bradford = np.array(
        [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
    )
    scale = (bradford @ np.array(_D50)) / (bradford @ source)
    result: NDArray[Any] = np.linalg.inv(bradford) @ (scale[:, None] * (bradford @ columns))
    return result


def _encode_srgb(light: NDArray[Any]) -> NDArray[Any]:
    """Encode linear light as sRGB (IEC 61966-2-1); negative light gives negative codes."""
    import numpy as np

    size = np.abs(light)
    codes = np.where(size <= 0.0031308, 12.92 * size, 1.055 * size ** (1 / 2.4) - 0.055)
    signed: NDArray[Any] = np.copysign(codes, light)
    return signed


def _decode_srgb(codes: NDArray[Any]) -> NDArray[Any]:
    import numpy as np

    size = np.abs(codes)
    light = np.where(size <= 12.92 * 0.0031308, size / 12.92, ((size + 0.055) / 1.055) ** 2.4)
    signed: NDArray[Any] = np.copysign(light, codes)
    return signed
