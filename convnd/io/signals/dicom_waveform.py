"""DICOM waveforms (ECG and the like): ``.dcm``, read only.

The longest of several multiplex groups is read: a 12-lead ECG often stores median beats as a
second, shorter group.
"""

from __future__ import annotations

import contextlib
import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd.errors import InputFileError
from convnd.io.reading import import_optional, translate_errors
from convnd.io.signals.limits import check_samples
from convnd.io.signals.signal import Signal, signal_grid
from convnd.io.silence import silence_libraries
from convnd.io.volumes.dicom_dataset import read_dataset

if TYPE_CHECKING:
    from convnd.grid import Grid

__all__ = ["read_waveform"]


def read_waveform(path: Path, *, max_pixels: int | None = None) -> Grid:
    """Read a DICOM waveform.

    Args:
        path: an existing file.
        max_pixels: largest number of samples over all channels.

    Returns:
        Values ``(1, C, T)`` in the file's units, named by the channels' meaning.

    Raises:
        InputFileError: no waveform, damaged, or too large.
        DependencyError: pydicom is missing.
    """
    import_optional("pydicom", f"read {path}")
    with translate_errors(path, "a DICOM file"), silence_libraries():
        data = read_dataset(path)
        groups = list(data.get("WaveformSequence", ()))
        if not groups:
            raise InputFileError(
                f"read {path}",
                expected="an image or a waveform",
                got=getattr(data.get("SOPClassUID"), "name", "neither"),
                remedy="give another file",
            )
        index = max(range(len(groups)), key=lambda k: int(groups[k].NumberOfWaveformSamples))
        group = groups[index]
        count = int(group.NumberOfWaveformSamples) * int(group.NumberOfWaveformChannels)
        check_samples(path, count, max_pixels)
        channels = list(group.ChannelDefinitionSequence)
        signal = Signal(
            units=tuple(_unit(channel) for channel in channels),
            start=_start(data),
            steps=tuple(
                float(channel.get("ChannelSensitivity", 1))
                * float(channel.get("ChannelSensitivityCorrectionFactor", 1))
                for channel in channels
            ),
            remarks=(
                (f"has {len(groups)} groups of waveforms, of which the longest is read",)
                if len(groups) > 1
                else ()
            ),
            format="DICOM",
        )
        samples = data.waveform_array(index).T
        names = [_name(channel, number) for number, channel in enumerate(channels)]
        return signal_grid(path, samples, float(group.SamplingFrequency), names, signal)


def _name(channel: Any, number: int) -> str:
    source = channel.get("ChannelSourceSequence")
    name = str(source[0].get("CodeMeaning", "")) if source else str(channel.get("ChannelLabel", ""))
    # "Lead I (Einthoven)" is I to everyone who reads electrocardiograms.
    return name.split("(")[0].removeprefix("Lead ").strip() or str(number)


def _unit(channel: Any) -> str:
    units = channel.get("ChannelSensitivityUnitsSequence")
    return str(units[0].get("CodeValue", "")) if units else ""


def _start(data: Any) -> datetime | None:
    text = re.split("[+-]", str(data.get("AcquisitionDateTime", "")))[0]
    for form in ("%Y%m%d%H%M%S.%f", "%Y%m%d%H%M%S"):
        with contextlib.suppress(ValueError):
            return datetime.strptime(text, form)
    return None
