"""Everything that makes a video."""
