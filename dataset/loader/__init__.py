"""Data sets as streams of batches: which clips, in which order, and how they are read: docs/loader.md."""
