"""Scenes of 3-D Gaussians as a source of video: paths through them, what they show, and two renderers."""
