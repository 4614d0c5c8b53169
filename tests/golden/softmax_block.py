"""As `gdn_attention_block`, for a block with softmax attention."""

from tests.golden.gdn_attention_block import check

__all__ = ["check"]
