"""Prompts to caption states: Gemma-2-2b-it as released, or hashed words, which need no weights.

Both give (states (B, length, width), mask (B, length) of 0 and 1). State 0 is the begin token's.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from model.hub import fetch

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

WIDTH = 2304
LENGTH = 300
RELEASED = "Efficient-Large-Model/gemma-2-2b-it"
CHI_PROMPT_SHA256 = "62b9ab89eebb0ac5ee4d264bf96bf19d2b81f504bc3852500efeaf5a34d638b1"

Encoded = tuple[Tensor, Tensor]


class TextEncoder(nn.Module, ABC):
    """`width` and `length` of the states; `fingerprint` names the encoder whose states they are."""

    width: int
    length: int
    fingerprint: str

    @abstractmethod
    def encode(self, prompts: Sequence[str]) -> Encoded:
        """Of prompts to follow."""

    @abstractmethod
    def encode_negative(self, prompts: Sequence[str] = ("",)) -> Encoded:
        """Of prompts to keep away from; the empty one stands for no text at all."""


class GemmaText(TextEncoder):
    """The last hidden state of a causal language model.

    A prompt is encoded behind a fixed instruction, the chi prompt, which conditions its states. Of the
    instruction's own states the window keeps the begin token's and the last token's.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, chi_prompt: str,
        length: int = LENGTH,
    ) -> None:
        super().__init__()
        self.model: Any = model.eval().requires_grad_(False)
        self.tokenizer: Any = tokenizer
        self.chi_prompt = chi_prompt
        self.width, self.length = model.config.hidden_size, length
        digest = hashlib.sha256(chi_prompt.encode())
        for weight in self.model.parameters():
            digest.update(weight.detach().flatten()[:4096].cpu().bfloat16().view(torch.int16).numpy().tobytes())
        self.fingerprint = f"gemma-l{length}-w{self.width}-{digest.hexdigest()[:12]}"

    @classmethod
    def from_pretrained(
        cls, source: str | Path = RELEASED, chi_prompt: str | Path | None = None,
        device: torch.device | str = "cpu", dtype: torch.dtype = torch.bfloat16,
    ) -> GemmaText:
        """From a folder or hub repository of the language model. `chi_prompt`: see `read_chi_prompt`."""
        instruction = read_chi_prompt(chi_prompt)
        model, tokenizer = load_language_model(source, "", "Gemma-2 text encoder", dtype)
        return cls(model, tokenizer, instruction).to(device)

    def encode(self, prompts: Sequence[str]) -> Encoded:
        long = len(self.tokenizer(self.chi_prompt)["input_ids"]) + self.length - 2
        states, mask = self._run([self.chi_prompt + prompt for prompt in prompts], long)
        window = torch.tensor([0, *range(long - self.length + 1, long)], device=states.device)
        return states[:, window], mask[:, window]

    def encode_negative(self, prompts: Sequence[str] = ("",)) -> Encoded:
        return self._run(list(prompts), self.length)

    @torch.no_grad()
    def _run(self, texts: list[str], length: int) -> Encoded:
        tokens = self.tokenizer(texts, max_length=length, padding="max_length", padding_side="right",
                                truncation=True, return_tensors="pt").to(self.model.device)
        run = self.model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask, use_cache=False)
        return run.last_hidden_state, tokens.attention_mask


class HashText(TextEncoder):
    """Words as fixed random signs, seeded by their letters: the same on every machine.

    A state is the sum of its word, of the word's parts (so that "walk" is near "walking") and of its place.
    Prompts that share words have near states; others are far apart, all but for the places.
    """

    WORD, PARTS, PLACE = 0.5, 0.3, 0.2
    """Shares of a state's variance, which is 1."""

    def __init__(self, width: int = WIDTH, length: int = LENGTH) -> None:
        super().__init__()
        for name, size in (("width", width), ("length", length)):
            if size < 1:
                raise ValueError(f"{name}: {size}, expected at least 1")
        self.width, self.length = width, length
        places = np.stack([_signs(f"place {place}", width) for place in range(length)])
        self.register_buffer("places", torch.from_numpy(places).float(), persistent=False)
        digest = hashlib.sha256(_meaning("probe", width).tobytes() + places[0].tobytes())
        self.fingerprint = f"hash-l{length}-w{width}-{digest.hexdigest()[:12]}"

    def encode(self, prompts: Sequence[str]) -> Encoded:
        places: Any = self.places
        states = torch.zeros(len(prompts), self.length, self.width, device=places.device)
        mask = torch.zeros(len(prompts), self.length, dtype=torch.long, device=places.device)
        for row, prompt in enumerate(prompts):
            words = ["", *split_words(prompt)][:self.length]
            meaning = np.stack([_meaning(word, self.width) for word in words])
            states[row, :len(words)] = torch.from_numpy(meaning).to(places.device)
            states[row, :len(words)] += self.PLACE ** 0.5 * places[:len(words)]
            mask[row, :len(words)] = 1
        return states, mask

    def encode_negative(self, prompts: Sequence[str] = ("",)) -> Encoded:
        return self.encode(prompts)


def load_text(
    source: str, device: torch.device | str = "cpu", dtype: torch.dtype = torch.bfloat16, *,
    chi_prompt: str | Path | None = None, length: int = LENGTH, width: int = WIDTH,
) -> TextEncoder:
    """The text encoder that a setting names: "hash", of any length and width, else Gemma of a folder or hub
    repository, whose length and width are its own."""
    if source == "hash":
        return HashText(width, length).to(device)
    return GemmaText.from_pretrained(source, chi_prompt, device, dtype)


def split_words(prompt: str) -> list[str]:
    """Words and marks of a prompt, without regard to case or to how letters are composed."""
    return re.findall(r"\w+|[^\w\s]", unicodedata.normalize("NFKC", prompt).casefold())


@lru_cache(maxsize=4096)
def _meaning(word: str, width: int) -> np.ndarray:
    """(width,) of the word and its parts; "" is the begin token."""
    marked = f"^{word}$"
    parts = [marked[start:start + 3] for start in range(len(marked) - 2)]
    meaning = HashText.WORD ** 0.5 * _signs(f"word {word}", width)
    if parts:
        of_parts = np.sum([_signs(f"part {part}", width) for part in parts], axis=0)
        meaning = meaning + (HashText.PARTS / len(parts)) ** 0.5 * of_parts
    return meaning.astype(np.float32)


def _signs(key: str, width: int) -> np.ndarray:
    """(width,) of -1 and 1, by a hash whose definition does not change, unlike that of a random generator."""
    digest = hashlib.shake_256(key.encode()).digest(-(-width // 8))
    return 2.0 * np.unpackbits(np.frombuffer(digest, np.uint8))[:width] - 1.0


def read_chi_prompt(source: str | Path | None = None) -> str:
    """The instruction in front of every positive prompt, checked by its digest.

    source: the released `config.yaml`, or a folder or hub repository with it; None takes the copy in
            diffusers, which is installed.
    """
    lines: list[str] | None
    if source is None:
        from diffusers.pipelines.sana_wm.pipeline_sana_wm import DEFAULT_CHI_PROMPT
        where, lines = "diffusers", DEFAULT_CHI_PROMPT
    else:
        import yaml
        path = fetch(source, "config.yaml", "chi prompt")
        settings = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
        where, lines = str(path), ((settings or {}).get("text_encoder") or {}).get("chi_prompt")
    if not lines:
        raise ValueError(f"chi prompt: {where} has no text_encoder.chi_prompt, expected a list of lines; "
                         "give the config.yaml of a release")
    prompt = "\n".join(lines)
    digest = hashlib.sha256(prompt.encode()).hexdigest()
    if digest != CHI_PROMPT_SHA256:
        raise ValueError(f"chi prompt: that of {where} has SHA-256 {digest[:16]}…, expected "
                         f"{CHI_PROMPT_SHA256[:16]}…; the released weights were trained with the latter")
    return prompt


def load_language_model(
    source: str | Path, inside: str, what: str, dtype: torch.dtype,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A language model without its head, and its tokenizer, from a folder or hub repository of transformers,
    or from `text_encoder` and `tokenizer` of a diffusers one."""
    folder = fetch(source, inside, what)
    model_folder = folder / "text_encoder" if (folder / "text_encoder").is_dir() else folder
    beside = model_folder.parent / "tokenizer"
    tokenizer_folder = model_folder if (model_folder / "tokenizer_config.json").is_file() else beside
    for place, name in ((model_folder, "config.json"), (tokenizer_folder, "tokenizer_config.json")):
        if not (place / name).is_file():
            raise FileNotFoundError(f"{what}: {place} holds no {name}, expected a model and its tokenizer as "
                                    "transformers stores them")
    from transformers import AutoModel, AutoTokenizer
    model = AutoModel.from_pretrained(model_folder, dtype=dtype)
    return model, AutoTokenizer.from_pretrained(tokenizer_folder)
