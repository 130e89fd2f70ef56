"""Scans of three axes: reading, the transfer of a look, its safety figures, and metrics."""
