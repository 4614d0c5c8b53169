"""The refiner's prompt on a tiny random Gemma-3 and connectors, against diffusers' own encoding."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from model.refiner_text import RefinerText, normalise_layers

LENGTH, WIDTH, LAYERS = 12, 16, 3
PROMPTS = ["a dog runs", "a dog runs over a lawn , stops , and then runs back to the dog it left there"]


@pytest.fixture(scope="module")
def gemma() -> Any:
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration
    torch.manual_seed(0)
    text = dict(vocab_size=64, hidden_size=WIDTH, intermediate_size=24, num_hidden_layers=LAYERS - 1,
                num_attention_heads=2, num_key_value_heads=1, head_dim=8, sliding_window=8)
    vision = dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
                  image_size=28, patch_size=14)
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    return Gemma3ForConditionalGeneration(config).eval()


def make_connectors(**changes: Any) -> Any:
    from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors
    torch.manual_seed(1)
    kind = dict(num_attention_heads=2, attention_head_dim=8, num_layers=2, num_learnable_registers=4)
    both = {f"{side}_connector_{name}": value for side in ("video", "audio") for name, value in kind.items()}
    sizes = {"caption_channels": WIDTH, "text_proj_in_factor": LAYERS}
    return LTX2TextConnectors(**{**sizes, **both, **changes}).eval()


@pytest.fixture(scope="module")
def tokenizer(make_tokenizer: Callable[[str], Any]) -> Any:
    return make_tokenizer(" ".join(PROMPTS))


@pytest.mark.parametrize("prompt", PROMPTS)
def test_states_are_those_of_diffusers_refiner(gemma: Any, tokenizer: Any, prompt: str) -> None:
    """Short prompts are padded on the left, long ones cut. diffusers normalises twice, which is once but for
    the eps."""
    from diffusers import SanaWMLTX2Refiner
    pipeline = SimpleNamespace(tokenizer=tokenizer, text_encoder=gemma, connectors=make_connectors(),
                               text_max_sequence_length=LENGTH)
    with torch.no_grad():
        states, mask = SanaWMLTX2Refiner._encode_prompt(
            pipeline, prompt, device=torch.device("cpu"), dtype=torch.float32)
    ours, our_mask = RefinerText(gemma.model, tokenizer, make_connectors(), LENGTH).encode([prompt])
    assert ours.shape == (1, LENGTH, WIDTH)
    assert torch.allclose(ours, states, atol=2e-5)
    assert torch.equal(our_mask, mask) and our_mask.all()


def test_a_batch_is_its_prompts(gemma: Any, tokenizer: Any) -> None:
    text = RefinerText(gemma.model, tokenizer, make_connectors(), LENGTH)
    states, _ = text.encode(PROMPTS)
    assert torch.allclose(states, torch.cat([text.encode([prompt])[0] for prompt in PROMPTS]), atol=1e-5)


def test_each_layer_is_normalised_over_its_valid_tokens() -> None:
    layers = [torch.randn(2, 6, 5) * 3 + shift for shift in (0.0, 10.0, -4.0)]
    mask = torch.tensor([[0, 0, 1, 1, 1, 1], [1] * 6])
    flat = normalise_layers(layers, mask)
    assert flat.shape == (2, 6, 15)
    by_layer = flat.unflatten(2, (5, 3))
    assert not by_layer[0, :2].any()
    for row, valid in ((0, slice(2, 6)), (1, slice(0, 6))):
        x = by_layer[row, valid]
        assert torch.allclose(x.mean((0, 1)), torch.zeros(3), atol=1e-5)
        assert torch.allclose(x.amax((0, 1)) - x.amin((0, 1)), torch.full((3,), 8.0), atol=1e-4)


def test_saved_parts_load_without_audio_and_vision(tmp_path: Path, gemma: Any, tokenizer: Any) -> None:
    make_connectors().save_pretrained(tmp_path / "connectors")
    gemma.save_pretrained(tmp_path / "text_encoder")
    tokenizer.save_pretrained(tmp_path / "text_encoder")
    loaded = RefinerText.from_pretrained(tmp_path, dtype=torch.float32)
    names = [name for name, _ in loaded.named_parameters()]
    assert not [name for name in names if "audio" in name or "vision" in name or "lm_head" in name]
    assert loaded.length == 1024
    loaded.length = LENGTH
    wanted = RefinerText(gemma.model, tokenizer, make_connectors(), LENGTH).encode(PROMPTS)[0]
    assert torch.allclose(loaded.encode(PROMPTS)[0], wanted, atol=1e-6)


def test_mistakes_are_refused(tmp_path: Path, gemma: Any, tokenizer: Any) -> None:
    with pytest.raises(ValueError, match=r"length 10, expected a multiple of the .* registers, 4"):
        RefinerText(gemma.model, tokenizer, make_connectors(), 10)
    with pytest.raises(ValueError, match="of a later family"):
        RefinerText(gemma.model, tokenizer, make_connectors(per_modality_projections=True), LENGTH)
    with pytest.raises(FileNotFoundError, match=r"refiner text connectors: .* holds no config\.json"):
        RefinerText.from_pretrained(tmp_path)
