"""The refiner's prompt: all hidden states of Gemma-3-12B over 1024 left-padded tokens, normalised layer by
layer and read by LTX-2's text connector, whose learned registers take the place of the padding."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from model.hub import fetch
from model.refiner_weights import drop_audio, load_video_half
from model.text import load_language_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

LENGTH = 1024
SCALE = 8.0
EPS = 1e-6


class RefinerText(nn.Module):
    """Prompts to states (B, 1024, 3840) and a mask (B, 1024), all ones: registers are read like words."""

    def __init__(
        self, language_model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, connectors: Any,
        length: int = LENGTH,
    ) -> None:
        """`connectors`: an LTX2TextConnectors, of which only the video half is kept."""
        super().__init__()
        if connectors.config["per_modality_projections"]:
            raise ValueError("refiner text: connectors with a projection for each modality are of a later "
                             "family than LTX-2, expected one shared projection")
        registers = connectors.config["video_connector_num_learnable_registers"]
        if not registers or length % registers:
            raise ValueError(f"refiner text: length {length}, expected a multiple of the connector's learned "
                             f"registers, {registers}")
        drop_audio(connectors)
        self.connectors = connectors.eval().requires_grad_(False)
        # a vision tower, where there is one, has nothing to look at
        language_model = getattr(language_model, "language_model", language_model)
        self.language_model: Any = language_model.eval().requires_grad_(False)
        self.tokenizer: Any = tokenizer
        self.length = length

    @classmethod
    def from_pretrained(
        cls, refiner: str | Path, language_model: str | Path | None = None,
        device: torch.device | str = "cpu", dtype: torch.dtype = torch.bfloat16,
    ) -> RefinerText:
        """From a folder or hub repository of the refiner, which holds `connectors`, and one of Gemma-3; the
        bidirectional release keeps the latter in the former, as `text_encoder`."""
        from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors
        folder = fetch(refiner, "connectors", "refiner text connectors")
        connectors = load_video_half(LTX2TextConnectors, folder, "refiner text connectors", device, dtype)
        source = refiner if language_model is None else language_model
        model, tokenizer = load_language_model(source, "text_encoder", "Gemma-3 text encoder", dtype)
        return cls(model, tokenizer, connectors).to(device)

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        tokens = self.tokenizer([prompt.strip() for prompt in prompts], max_length=self.length,
                                padding="max_length", padding_side="left", truncation=True,
                                return_tensors="pt")
        tokens = tokens.to(self.language_model.device)
        run = self.language_model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask,
                                  output_hidden_states=True, use_cache=False)
        return self.connect(run.hidden_states, tokens.attention_mask)

    def connect(self, layers: Sequence[Tensor], mask: Tensor) -> tuple[Tensor, Tensor]:
        """From every layer's states (B, L, D), embeddings first, and the tokens' mask (B, L)."""
        weight = self.connectors.text_proj_in.weight
        flat = normalise_layers(layers, mask).to(weight.dtype)
        hidden = ((mask - 1) * torch.finfo(weight.dtype).max).to(weight.dtype)[:, None, None]
        states, _ = self.connectors.video_connector(self.connectors.text_proj_in(flat), hidden)
        return states, torch.ones_like(mask)


def normalise_layers(layers: Sequence[Tensor], mask: Tensor) -> Tensor:
    """(B, L, D·layers): each layer, over its valid tokens and all channels, less its mean, divided by its
    range, times 8; zero at padding."""
    valid = mask.bool()[..., None]
    count = valid.sum(1, keepdim=True) * layers[0].shape[2]
    spread = []
    for layer in layers:
        x = layer.float()
        mean = x.masked_fill(~valid, 0).sum((1, 2), keepdim=True) / (count + EPS)
        low = x.masked_fill(~valid, torch.inf).amin((1, 2), keepdim=True)
        high = x.masked_fill(~valid, -torch.inf).amax((1, 2), keepdim=True)
        spread.append((SCALE * (x - mean) / (high - low + EPS)).masked_fill(~valid, 0).to(layer.dtype))
    return torch.stack(spread, -1).flatten(2)
