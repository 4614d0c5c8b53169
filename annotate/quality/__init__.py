"""Scores of a clip's pixels and of its cameras."""
