"""DICOM files for tests, made with pydicom: a series of slices, and one file of many frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    generate_uid,
)

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def codes(k: int, shape: tuple[int, int] = (24, 20), high: int = 2000) -> Any:
    """Stored numbers of slice ``k``."""
    return np.random.default_rng(k).integers(0, high, shape).astype(np.uint16)


def image(pixels: Any, **fields: Any) -> Dataset:
    """A CT image of 12 bits with a window, a patient and a private element."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID, dataset.StudyInstanceUID = generate_uid(), "1.2.5"
    dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = "1.2.4", "1.2.6"
    dataset.PatientName, dataset.Modality = "Nobody^At^All", "CT"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.WindowCenter, dataset.WindowWidth = "40", "400"
    dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = "1", "-1024", "HU"
    block = dataset.private_block(0x0009, "A SCANNER", create=True)
    block.add_new(1, "LO", "kept")
    dataset.PixelData = pixels.tobytes()
    for name, value in fields.items():
        setattr(dataset, name, value)
    return dataset


def save(dataset: Dataset, path: Path) -> Path:
    """Write a data set with its information about the file."""
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.save_as(path, enforce_file_format=True)
    return path


def series(
    folder: Path,
    places: Sequence[float],
    *,
    pixels: Callable[[int], Any] = codes,
    **fields: Any,
) -> Path:
    """A folder of slices at places along z, in mm, named without suffix."""
    folder.mkdir(parents=True, exist_ok=True)
    for k, place in enumerate(places):
        geometry = {
            "PixelSpacing": [0.7, 0.6],
            "ImageOrientationPatient": list(AXIAL),
            "ImagePositionPatient": [-10, 20, place],
            "InstanceNumber": k + 1,
        }
        save(image(pixels(k), **geometry, **fields), folder / f"{k:04d}")
    return folder


def enhanced(path: Path, places: Sequence[float], **fields: Any) -> Path:
    """One file of many frames, each with its place; slope and intercept in the shared groups."""
    groups = []
    for place in places:
        group, position, plane = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = [-10, 20, place]
        plane.ImageOrientationPatient = list(AXIAL)
        group.PlanePositionSequence, group.PlaneOrientationSequence = [position], [plane]
        kind = Dataset()
        kind.FrameType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
        group.CTImageFrameTypeSequence = [kind]
        groups.append(group)
    shared, measures, scaling = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.7, 0.6], 3
    scaling.RescaleSlope, scaling.RescaleIntercept, scaling.RescaleType = "2", "-1000", "HU"
    shared.PixelMeasuresSequence = [measures]
    shared.PixelValueTransformationSequence = [scaling]
    dataset = image(np.stack([codes(k) for k in range(len(places))]), SOPClassUID="1.2")
    for name in ("RescaleSlope", "RescaleIntercept", "RescaleType"):
        del dataset[name]
    dataset.SOPClassUID = EnhancedCTImageStorage
    dataset.NumberOfFrames = len(places)
    dataset.PerFrameFunctionalGroupsSequence = groups
    dataset.SharedFunctionalGroupsSequence = [shared]
    for name, value in fields.items():
        setattr(dataset, name, value)
    return save(dataset, path)
