"""Programs that convert files of formats that convnd does not read."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["conversion_advice", "recognized_format"]

_RAW = "develop it (darktable, RawTherapee) and export a TIFF or PNG"
_FLAT = "open it in its program (Photoshop, GIMP, Krita) and export a PNG or TIFF"
_DRAWING = "draw it at the size that you need (inkscape --export-type=png, rsvg-convert)"
_PAGES = "draw one page of it (pdftoppm -png -r 150)"
_ITK = "convert it to NIfTI, for example with Python: SimpleITK.ReadImage and WriteImage"
_UNPACK = "unpack it first: {} NAME"
_PILLOW = "save it as PNG, for example with Python: PIL.Image.open(NAME).save('picture.png')"

_ADVICE: dict[str, str] = {
    **dict.fromkeys((".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".raf", ".rw2"), _RAW),
    **dict.fromkeys((".psd", ".psb", ".xcf", ".kra", ".ora", ".afphoto", ".clip"), _FLAT),
    **dict.fromkeys((".svg", ".svgz"), _DRAWING),
    **dict.fromkeys((".pdf", ".ps", ".eps", ".ai"), _PAGES),
    **dict.fromkeys((".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".pcx", ".ico", ".icns"), _PILLOW),
    **dict.fromkeys((".jp2", ".j2k", ".jpx", ".dds", ".xbm"), _PILLOW),
    ".jxl": "convert it with djxl of libjxl: djxl picture.jxl picture.png",
    ".exr": "map it to the range of a display (GIMP, darktable) and export a 16-bit PNG or TIFF",
    ".mnc": "convert it to NIfTI with mnc2nii of the MINC tools, or nibabel.load and nibabel.save",
    **dict.fromkeys((".par", ".rec"), "convert it to NIfTI with nibabel's parrec2nii"),
    **dict.fromkeys((".brik", ".head"), "convert it to NIfTI with 3dAFNItoNIFTI"),
    ".v": "convert it to NIfTI with Python: nibabel.load and nibabel.save",
    **dict.fromkeys((".vtk", ".gipl", ".pic", ".lsm"), _ITK),
    ".vti": "open it in 3D Slicer and export NIfTI",
    **{
        suffix: _UNPACK.format(program)
        for suffix, program in (
            *((".bz2", "bunzip2"), (".xz", "unxz"), (".zst", "unzstd"), (".zip", "unzip")),
            *((".rar", "unrar x"), (".7z", "7z x"), (".tar", "tar xf"), (".tgz", "tar xzf")),
        )
    },
    ".safetensors": "give a network in place of a style: convnd stylize FILE NETWORK",
    ".dicomdir": "give the folder of the series",
}
# Starts of files under a wrong name: the name of the format, and the suffix that has the advice.
_STARTS: tuple[tuple[bytes, str, str], ...] = (
    (b"8BPS", "a Photoshop file", ".psd"),
    (b"gimp xcf", "a GIMP file", ".xcf"),
    (b"%PDF", "a PDF", ".pdf"),
    (b"%!PS", "PostScript", ".ps"),
    (b"\xff\x0a", "JPEG XL", ".jxl"),
    (b"\0\0\0\x0cJXL ", "JPEG XL", ".jxl"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000", ".jp2"),
    (b"v/1\x01", "OpenEXR", ".exr"),
    (b"#?RADIANCE", "Radiance HDR", ".exr"),
    (b"<svg", "SVG", ".svg"),
    (b"P6\n", "PPM", ".ppm"),
    (b"P5\n", "PGM", ".pgm"),
    (b"CDF\x01", "MINC", ".mnc"),
)


def conversion_advice(path: str | os.PathLike[str]) -> str:
    """Say what converts a file, by its suffix.

    >>> conversion_advice("drawing.svg")[:11]
    'draw it at '
    >>> conversion_advice("notes.unknown")
    'convert the file'
    """
    return _ADVICE.get(Path(path).suffix.lower(), "convert the file")


def recognized_format(start: bytes) -> tuple[str, str] | None:
    """Recognise a format that is not read here.

    Args:
        start: the first bytes of a file.

    Returns:
        Its name and what converts it; None if it is not recognised.

    >>> recognized_format(b"8BPS")[0]
    'a Photoshop file'
    """
    for magic, name, suffix in _STARTS:
        if start.startswith(magic):
            return name, _ADVICE[suffix]
    return None
