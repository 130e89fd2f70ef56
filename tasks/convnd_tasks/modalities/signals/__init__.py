"""Signals: recordings of one or more leads over time, such as electrocardiograms."""
