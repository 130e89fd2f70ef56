"""A plugin for napari: a reader of the formats of convnd, and style transfer of layers."""
