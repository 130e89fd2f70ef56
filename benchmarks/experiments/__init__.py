"""Experiments that chose a default, and searches for faults."""
