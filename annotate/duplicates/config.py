"""Settings of the search for near-duplicates."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class DuplicatesConfig:
    """Near-duplicates by a perceptual hash, and by embeddings where `scores.aesthetic` makes them."""

    enabled: bool = True  # hash clips and look for near-duplicates at the end of a run
    every_s: float = 0.125  # seconds between the frames that are hashed
    similarity: float = 0.8  # share of equal bits from which on clips are near-duplicates
    embedding_similarity: float = 0.97  # cosine of embeddings from which on they are, too
    within_video: bool = False  # also among clips of one video, which may overlap or show a place again

    def check(self) -> None:
        """Raises ValueError, naming the key, for values that make no sense."""
        if self.every_s <= 0:
            raise ValueError(f"duplicates.every_s={self.every_s:g}, allowed more than 0")
        for name in ("similarity", "embedding_similarity"):
            if not 0.7 <= getattr(self, name) <= 1:
                raise ValueError(f"duplicates.{name}={getattr(self, name):g}, allowed 0.7 to 1")
