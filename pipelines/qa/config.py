"""Settings of `python -m pipelines.qa`."""

from __future__ import annotations

from dataclasses import dataclass

from infer.serve.place import check_place


@dataclass
class QaConfig:
    """A data set to look through in the browser."""

    data: str = "???"  # folder or URL of the data set; an annotation may be writing it meanwhile
    reviewer: str | None = None  # name that verdicts bear until the page is told another; null: of the login
    host: str = "127.0.0.1"  # address to listen on; 0.0.0.0 lets other machines in, if they have the token
    port: int = 8321  # 0: any that is free
    token: str | None = None  # what a browser must show; null: nothing on this machine's own address, else
    # a random one, which is part of the address printed at the start
    open: bool = True  # open the page in this machine's browser
    refresh_s: float = 3.0  # how often the data set is looked at for new clips and a run's progress

    def check(self) -> None:
        """Raises ValueError, naming the key, for values that make no sense."""
        check_place(self.port, self.token)
        if not 0 < self.refresh_s < float("inf"):
            raise ValueError(f"refresh_s={self.refresh_s}, must be positive")
        if self.reviewer is not None and not self.reviewer.strip():
            raise ValueError("reviewer: is empty, expected a name")
