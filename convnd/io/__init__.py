"""Files of every kind, read as a `Grid` and written back as their owners know them.

The suffix selects the format; every format is one entry of a table, so that another is added by
`register`. Nothing heavy is imported before a file is read or written.
"""

from __future__ import annotations

from convnd.io import (
    array,
    dicom,
    dicom_waveform,
    edf,
    image,
    itk,
    nifti,
    table,
    video,
    wav,
    wfdb_record,
)
from convnd.io.affine import anatomical_axes, grid_affine
from convnd.io.atomic import beside, free_path
from convnd.io.clip import CLIP_SUFFIXES, Clip, ClipFrame, ClipInfo, ColorTags, is_clip
from convnd.io.clip_open import open_clip
from convnd.io.crop import crop
from convnd.io.forgotten import forgotten
from convnd.io.formats import (
    Format,
    check_output,
    is_written,
    read,
    read_record,
    register,
    rehearse,
    spatial_dims,
    suffixes,
    write,
)
from convnd.io.record import digest
from convnd.io.sequence import check_sequence_output, write_sequence
from convnd.io.stored import as_stored
from convnd.io.video_write import check_clip_output, write_clip

__all__ = [
    "CLIP_SUFFIXES",
    "Clip",
    "ClipFrame",
    "ClipInfo",
    "ColorTags",
    "Format",
    "anatomical_axes",
    "as_stored",
    "beside",
    "check_clip_output",
    "check_output",
    "check_sequence_output",
    "crop",
    "digest",
    "forgotten",
    "free_path",
    "grid_affine",
    "is_clip",
    "is_written",
    "open_clip",
    "read",
    "read_record",
    "register",
    "rehearse",
    "spatial_dims",
    "suffixes",
    "write",
    "write_clip",
    "write_sequence",
]

for _entry in (
    *image.FORMATS,
    *array.FORMATS,
    *nifti.FORMATS,
    *itk.FORMATS,
    *dicom.FORMATS,
    *table.FORMATS,
    *wfdb_record.FORMATS,
    *edf.FORMATS,
    *wav.FORMATS,
    *dicom_waveform.FORMATS,
    *video.FORMATS,
):
    register(_entry)
