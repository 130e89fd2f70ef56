"""Recordings of one axis: what differs about them in a style transfer, and ECG paper."""
