"""Reads files of many formats as a `Grid`, and writes grids back with the metadata of their file.

The suffix selects the format. Each format is an entry of a table; `register` adds another. Heavy
packages are imported only when a file is read or written.
"""

from __future__ import annotations

from convnd.io.affine import anatomical_axes, grid_affine
from convnd.io.array import FORMATS as ARRAY_FORMATS
from convnd.io.atomic import extend_stem, next_free_path
from convnd.io.atomic_folder import check_folder
from convnd.io.cropping import crop
from convnd.io.dicom import FORMATS as DICOM_FORMATS
from convnd.io.files import (
    check_output,
    dry_run_write,
    is_dicom_output,
    read,
    read_provenance,
    write,
)
from convnd.io.images.formats import FORMATS as IMAGE_FORMATS
from convnd.io.metadata_loss import lost_metadata
from convnd.io.provenance import digest
from convnd.io.quantization import quantize
from convnd.io.registry import (
    Format,
    files_read,
    files_written,
    is_written,
    register,
    spatial_dims,
    suffixes,
)
from convnd.io.signals.containers import FORMATS as CONTAINER_FORMATS
from convnd.io.signals.edf import FORMATS as EDF_FORMATS
from convnd.io.signals.sheets import FORMATS as SHEET_FORMATS
from convnd.io.signals.sound import FORMATS as SOUND_FORMATS
from convnd.io.signals.table import FORMATS as TABLE_FORMATS
from convnd.io.signals.wav import FORMATS as WAV_FORMATS
from convnd.io.signals.wfdb_record import FORMATS as WFDB_FORMATS
from convnd.io.video.codecs import Encoding
from convnd.io.video.file import FORMATS as VIDEO_FORMATS
from convnd.io.video.image_sequence import write_image_sequence
from convnd.io.video.opening import open_video
from convnd.io.video.types import VIDEO_SUFFIXES, ColorTags, Video, VideoFrame, VideoInfo, is_video
from convnd.io.video.writing import check_video_output, lost_properties, write_video
from convnd.io.volumes.dicom import read_series
from convnd.io.volumes.dicom_writing import dicom_rounding
from convnd.io.volumes.itk import FORMATS as ITK_FORMATS
from convnd.io.volumes.mgh import FORMATS as MGH_FORMATS
from convnd.io.volumes.nifti import FORMATS as NIFTI_FORMATS

__all__ = [
    "VIDEO_SUFFIXES",
    "ColorTags",
    "Encoding",
    "Format",
    "Video",
    "VideoFrame",
    "VideoInfo",
    "anatomical_axes",
    "check_folder",
    "check_output",
    "check_video_output",
    "crop",
    "dicom_rounding",
    "digest",
    "dry_run_write",
    "extend_stem",
    "files_read",
    "files_written",
    "grid_affine",
    "is_dicom_output",
    "is_video",
    "is_written",
    "lost_metadata",
    "lost_properties",
    "next_free_path",
    "open_video",
    "quantize",
    "read",
    "read_provenance",
    "read_series",
    "register",
    "spatial_dims",
    "suffixes",
    "write",
    "write_image_sequence",
    "write_video",
]

for _entry in (
    *IMAGE_FORMATS,
    *ARRAY_FORMATS,
    *NIFTI_FORMATS,
    *MGH_FORMATS,
    *ITK_FORMATS,
    *DICOM_FORMATS,
    *TABLE_FORMATS,
    *WFDB_FORMATS,
    *EDF_FORMATS,
    *WAV_FORMATS,
    *SOUND_FORMATS,
    *SHEET_FORMATS,
    *CONTAINER_FORMATS,
    *VIDEO_FORMATS,
):
    register(_entry)
