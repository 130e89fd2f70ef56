"""Pictures: PNG, JPEG, WebP, TIFF, BMP, AVIF and GIF."""
