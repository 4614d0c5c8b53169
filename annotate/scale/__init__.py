"""Metres: one factor a clip, where it comes from, and how sure it is."""
