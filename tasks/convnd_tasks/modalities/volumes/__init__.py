"""Scans of three axes: reading, the transfer of a look, safety figures, and measures."""
