"""The whole network in one chunk-causal pass: the same comparisons, the chunks read from the file."""

from tests.golden.dit_forward_tiny import check

__all__ = ["check"]
