"""Logos, watermarks and captions that stand still in the picture while the camera moves."""
