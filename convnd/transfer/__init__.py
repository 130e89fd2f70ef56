"""The style transfer engine: objectives, scales and memory. It knows no kind of data."""
