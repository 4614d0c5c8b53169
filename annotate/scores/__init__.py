"""Scores by learned networks: optical flow, technical and aesthetic quality, text in the picture."""
