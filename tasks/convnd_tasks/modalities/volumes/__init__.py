"""Scans: given the look of others and handed back to their owners; `convnd stylize-volume`."""
