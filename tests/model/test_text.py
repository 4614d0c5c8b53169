"""Caption states: of a tiny random Gemma-2 against diffusers' own prompt encoding, and of hashed words."""

import copy
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from torch.nn.functional import cosine_similarity

from model.text import (
    CHI_PROMPT_SHA256,
    GemmaText,
    HashText,
    load_text,
    read_chi_prompt,
    split_words,
)

CHI = "Describe the scene.\n- User Prompt: a cat -> Enhanced: a small cat\nUser Prompt: "
HASHED = [0.259893, 0.606598, 0.056335, -1.355338, -1.702043, -1.361340, 0.000000, 0.000000]
"""Channel 7 of the states of "a dog runs; Übermut", 64 wide."""
PROMPTS = ["a dog runs", "a small dog runs across the green lawn and then stops near a cat"]


@pytest.fixture(scope="module")
def causal_model() -> Any:
    from transformers import Gemma2Config, Gemma2ForCausalLM
    torch.manual_seed(0)
    config = Gemma2Config(vocab_size=64, hidden_size=24, intermediate_size=32, num_hidden_layers=2,
                          num_attention_heads=2, num_key_value_heads=1, head_dim=12, sliding_window=16)
    return Gemma2ForCausalLM(config).eval()


@pytest.fixture(scope="module")
def tokenizer(make_tokenizer: Callable[[str], Any]) -> Any:
    return make_tokenizer(CHI + " ".join(PROMPTS))


@pytest.fixture(scope="module")
def gemma(causal_model: Any, tokenizer: Any) -> GemmaText:
    return GemmaText(causal_model.model, tokenizer, CHI, length=12)


@torch.no_grad()
def test_states_are_those_of_diffusers_pipeline(gemma: GemmaText, causal_model: Any) -> None:
    from diffusers import SanaWMPipeline
    pipeline = SimpleNamespace(tokenizer=gemma.tokenizer, text_encoder=causal_model)
    for prompt in PROMPTS:
        states, mask, negative, negative_mask = SanaWMPipeline.encode_prompt(
            pipeline, prompt, "a cat", device=torch.device("cpu"), max_sequence_length=12,
            chi_prompt=CHI.split("\n"))
        ours, our_mask = gemma.encode([prompt])
        assert torch.allclose(ours, states[:, 0], atol=1e-6)
        assert torch.equal(our_mask, mask)
        ours, our_mask = gemma.encode_negative(["a cat"])
        assert torch.allclose(ours, negative[:, 0], atol=1e-6)
        assert torch.equal(our_mask, negative_mask)


@torch.no_grad()
def test_the_window_holds_the_begin_token_the_end_of_the_instruction_and_the_prompt(gemma: GemmaText) -> None:
    """State 1 is the instruction's last token, so the prompt begins at 2 and is right-padded."""
    states, mask = gemma.encode(PROMPTS)
    words = len(gemma.tokenizer(PROMPTS[0])["input_ids"]) - 1
    assert states.shape == (2, 12, 24) and mask.tolist()[0] == [1] * (2 + words) + [0] * (10 - words)
    assert mask[1].all(), "a long prompt is cut to the window"
    tokens = gemma.tokenizer([CHI + PROMPTS[0]], return_tensors="pt")
    whole = gemma.model(**tokens).last_hidden_state[0]
    prefix = len(gemma.tokenizer(CHI)["input_ids"])
    assert torch.allclose(states[0, 0], whole[0], atol=1e-5)
    assert torch.allclose(states[0, 1:2 + words], whole[prefix - 1:], atol=1e-5)


@torch.no_grad()
def test_a_negative_prompt_has_no_instruction(gemma: GemmaText) -> None:
    states, mask = gemma.encode_negative()
    assert states.shape == (1, 12, 24) and mask[0].tolist() == [1] + [0] * 11
    assert not torch.allclose(states[0, 0], gemma.encode(["a dog"])[0][0, 1], atol=1e-3)


def test_saved_weights_and_the_released_instruction_load(
    tmp_path: Path, gemma: GemmaText, causal_model: Any,
) -> None:
    """From one folder of transformers, or from the two of diffusers; the head stays behind."""
    causal_model.save_pretrained(tmp_path / "one")
    gemma.tokenizer.save_pretrained(tmp_path / "one")
    causal_model.save_pretrained(tmp_path / "two" / "text_encoder")
    gemma.tokenizer.save_pretrained(tmp_path / "two" / "tokenizer")
    for folder in ("one", "two"):
        loaded = GemmaText.from_pretrained(tmp_path / folder, dtype=torch.float32)
        assert hashlib.sha256(loaded.chi_prompt.encode()).hexdigest() == CHI_PROMPT_SHA256
        assert (loaded.width, loaded.length) == (24, 300)
        loaded.chi_prompt, loaded.length = CHI, 12
        assert torch.allclose(loaded.encode(PROMPTS)[0], gemma.encode(PROMPTS)[0], atol=1e-6)
        assert not any("lm_head" in name for name, _ in loaded.named_parameters())


def test_the_instruction_is_read_from_a_released_configuration(tmp_path: Path) -> None:
    lines = read_chi_prompt().split("\n")
    release = tmp_path / "config.yaml"
    release.write_text(yaml.safe_dump({"text_encoder": {"chi_prompt": lines}}))
    assert read_chi_prompt(tmp_path) == read_chi_prompt(release) == "\n".join(lines)
    release.write_text(yaml.safe_dump({"text_encoder": {"chi_prompt": [*lines[:-1], "Prompt: "]}}))
    with pytest.raises(ValueError, match=r"SHA-256 .* expected 62b9ab89"):
        read_chi_prompt(release)
    release.write_text("model: {}")
    with pytest.raises(ValueError, match=r"has no text_encoder\.chi_prompt"):
        read_chi_prompt(release)


def test_absent_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="Gemma-2 text encoder: there is no /nowhere/gemma"):
        GemmaText.from_pretrained("/nowhere/gemma")
    with pytest.raises(FileNotFoundError, match=r"holds no config\.json"):
        GemmaText.from_pretrained(tmp_path)


def test_hashed_states_have_the_released_shape_and_unit_variance() -> None:
    states, mask = HashText().encode(["a dog runs", ""])
    assert states.shape == (2, 300, 2304)
    assert mask.tolist() == [[1] * 4 + [0] * 296, [1] + [0] * 299]
    assert 0.8 < states[mask.bool()].std() < 1.2
    assert not states[~mask.bool()].any()
    small, mask = HashText(width=20, length=6).encode(["one two three four five six seven"])
    assert small.shape == (1, 6, 20) and mask.all()


def test_similar_prompts_are_near_and_different_ones_far() -> None:
    prompts = ["a dog runs across the green lawn", "A dog, running across the green lawn",
               "an empty corridor inside an office", "neon lights over a wet street at night"]
    states, mask = HashText().encode(prompts)
    pooled = states.sum(1) / mask.sum(1, keepdim=True)
    nearness = cosine_similarity(pooled[:, None], pooled[None], dim=-1)
    assert nearness[0, 1] > 0.75
    assert max(nearness[0, 2], nearness[0, 3], nearness[2, 3]) < 0.35


def test_words_forms_and_order_count() -> None:
    hashed = HashText()
    walk, walking, tree = (hashed.encode([word])[0][0, 1] - 0.2 ** 0.5 * hashed.places[1]
                           for word in ("walk", "walking", "tree"))
    assert cosine_similarity(walk, walking, dim=0) > 0.15
    assert cosine_similarity(walk, tree, dim=0).abs() < 0.1
    forward, back = hashed.encode(["dog bites man"])[0], hashed.encode(["man bites dog"])[0]
    assert (forward[:, 1] - back[:, 1]).abs().max() > 1
    assert split_words("Café, CAFE\u0301: 3m!") == ["café", ",", "café", ":", "3m", "!"]


def test_hashing_is_the_same_in_another_process_and_on_other_machines() -> None:
    prompt = "a dog runs; Übermut"
    program = ("from model.text import HashText; "
               f"print(HashText(64, 8).encode([{prompt!r}])[0][0, :, 7].tolist())")
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    states = HashText(64, 8).encode([prompt])[0][0, :, 7]
    assert json.loads(run.stdout) == states.tolist()
    assert torch.allclose(states, torch.tensor(HASHED), atol=1e-6)


def test_a_fingerprint_names_the_encoder_and_not_the_type_of_its_weights(
    gemma: GemmaText, causal_model: Any, tokenizer: Any,
) -> None:
    same = GemmaText(copy.deepcopy(causal_model.model).bfloat16(), tokenizer, CHI, length=12)
    assert same.fingerprint == gemma.fingerprint
    assert GemmaText(causal_model.model, tokenizer, CHI + "!", length=12).fingerprint != gemma.fingerprint
    other = copy.deepcopy(causal_model.model)
    other.norm.weight.data[3] += 1
    assert GemmaText(other, tokenizer, CHI, length=12).fingerprint != gemma.fingerprint
    assert len({HashText(20, 6).fingerprint, HashText(20, 7).fingerprint, HashText(21, 6).fingerprint}) == 3


def test_an_encoder_is_loaded_by_the_name_of_a_setting(tmp_path: Path) -> None:
    hashed = load_text("hash", length=6, width=20)
    assert (hashed.length, hashed.width) == (6, 20)
    assert hashed.fingerprint == HashText(20, 6).fingerprint
    with pytest.raises(FileNotFoundError, match=r"holds no config\.json"):
        load_text(str(tmp_path))
