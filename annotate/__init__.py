"""Pixels to knowledge: one file per question asked of a video."""
