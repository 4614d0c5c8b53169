"""LAION's aesthetic predictor on CLIP, and the CLIP embedding itself for the search for near-duplicates."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from annotate.batches import Batches
from annotate.scores.stage import ScoreStage, every
from annotate.stage import Clip
from annotate.weights import EngineMissing, Needs, locate

HEAD_FILE = "model.safetensors"
_LAYERS = "layers."


class AestheticNetwork:
    """CLIP's picture tower, and linear layers (without activations, as published) on its embedding."""

    def __init__(self, tower: Any, layers: Sequence[tuple[Any, Any]], processor: Any, device: str,
                 batch: int) -> None:
        self._tower, self._processor, self._device = tower.eval().to(device), processor, device
        self._layers = [(weight.to(device).float(), bias.to(device).float()) for weight, bias in layers]
        self._batches = Batches(batch)

    def __call__(self, pictures: Sequence[np.ndarray]) -> tuple[list[float], np.ndarray]:
        """Scores of pictures (h, w, 3) RGB uint8, and their embeddings (n, d) float32 of length 1."""
        rows = self._batches.run(self._run, pictures)
        return [score for score, _ in rows], np.stack([embedding for _, embedding in rows])

    def _run(self, pictures: Sequence[np.ndarray]) -> list[tuple[float, np.ndarray]]:
        import torch

        inputs = self._processor(images=list(pictures), return_tensors="pt",
                                 input_data_format="channels_last")
        with torch.inference_mode():
            embedding = self._tower(inputs["pixel_values"].to(self._device)).image_embeds.float()
            embedding = embedding / embedding.norm(dim=-1, keepdim=True)
            value = embedding
            for weight, bias in self._layers:
                value = value @ weight.T + bias
        return list(zip(value[:, 0].tolist(), embedding.cpu().numpy()))


class AestheticStage(ScoreStage):
    """Scores `aesthetic`, and `embedding`."""

    name = "aesthetic"

    def needs(self) -> list[Needs]:
        install = "run `pip install 'transformers==5.23.*' pillow`"
        return [Needs("clip", "MIT", install, ("transformers", "PIL"), weights=self._config.clip_weights),
                Needs("aesthetic", "Apache-2.0", install, ("safetensors",),
                      weights=self._config.aesthetic_weights, file=HEAD_FILE)]

    def settings(self) -> dict[str, Any]:
        return {"clip": self._config.clip_weights, "head": self._config.aesthetic_weights,
                "sample_s": self._config.sample_s}

    def load(self) -> AestheticNetwork:
        from transformers import CLIPImageProcessorPil, CLIPVisionModelWithProjection

        folder = locate(self._config.clip_weights, None, "clip")
        tower = CLIPVisionModelWithProjection.from_pretrained(folder)
        side = int(tower.config.image_size)  # type: ignore[arg-type]
        processor = CLIPImageProcessorPil(size={"shortest_edge": side},
                                          crop_size={"height": side, "width": side})
        head = read_layers(locate(self._config.aesthetic_weights, HEAD_FILE, "aesthetic"),
                           tower.config.projection_dim)
        return AestheticNetwork(tower, head, processor, self._learned.device, self._learned.batch_size)

    def score(self, clip: Clip) -> dict[str, Any]:
        scores, embeddings = self._network([clip.frames.rgb(k) for k in every(clip, self._config.sample_s)])
        mean = embeddings.mean(axis=0)
        mean /= np.linalg.norm(mean)
        return {"aesthetic": float(np.mean(scores)), "embedding": encode(mean)}


def read_layers(path: Path, width: int) -> list[tuple[Any, Any]]:
    """(weight, bias) of the predictor's layers in order, from .safetensors or .pth.

    Raises EngineMissing where they do not lead from `width` numbers to one.
    """
    import torch

    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        states = load_file(path)
    else:
        states = torch.load(path, map_location="cpu", weights_only=True)
    numbers = sorted({int(name.split(".")[1]) for name in states if name.startswith(_LAYERS)})
    layers = [(states[f"{_LAYERS}{k}.weight"], states[f"{_LAYERS}{k}.bias"]) for k in numbers]
    widths = [width, *(weight.shape[0] for weight, _ in layers)]
    fits = all(weight.shape[1] == into for (weight, _), into in zip(layers, widths))
    if not layers or widths[-1] != 1 or not fits:
        found = ", ".join(str(tuple(weight.shape)) for weight, _ in layers) or "none"
        raise EngineMissing(f"engine aesthetic: {path} holds layers {found}, expected some that lead from "
                            f"{width} numbers to one; give the predictor that belongs to this CLIP")
    return layers


def encode(embedding: np.ndarray) -> str:
    """Base64 of an embedding (d,) as float16."""
    return base64.b64encode(embedding.astype(np.float16).tobytes()).decode()


def decode(text: str) -> np.ndarray:
    """Inverse of `encode`: (d,) float32 of length 1."""
    embedding = np.frombuffer(base64.b64decode(text), np.float16).astype(np.float32)
    return embedding / np.linalg.norm(embedding)
