"""Tokenizers made on the spot, so that text encoders are tested without a network."""

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture(scope="session")
def make_tokenizer() -> Callable[[str], Any]:
    """A tokenizer of letters and marks of a sample text, with Gemma's special tokens and begin token."""
    def make(sample: str) -> Any:
        from tokenizers import Tokenizer, models, pre_tokenizers, processors
        from transformers import PreTrainedTokenizerFast
        special = ["<pad>", "<eos>", "<bos>", "<unk>"]
        pieces = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
        words = sorted({word for word, _ in pieces.pre_tokenize_str(sample)})
        inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(special + words)}, "<unk>"))
        inner.pre_tokenizer = pieces
        inner.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
        return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>",
                                       bos_token="<bos>", unk_token="<unk>")
    return make
