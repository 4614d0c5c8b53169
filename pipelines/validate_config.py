"""Settings of `python -m pipelines.validate`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class ValidateConfig:
    """A data set and its latent sets, looked through for damage."""

    data: str = "???"  # folder or URL of the data set
    latents: bool = True  # also the latent sets beside it
    decode: bool = True  # decode every video; false: only compare its checksum, which is much quicker
    repair: bool = False  # rebuild the index from the shards and move what is broken to quarantine/
    jobs: int | None = None  # processes that read shards; null: one for each CPU

    def check(self) -> None:
        """Raises ValueError for values that make no sense."""
        if self.jobs is not None and self.jobs < 1:
            raise ValueError(f"jobs={self.jobs}, allowed 1 or more")
