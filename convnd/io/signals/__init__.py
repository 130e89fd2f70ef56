"""Recordings: CSV and TSV tables, WFDB, EDF, BDF, WAV and DICOM waveforms."""
