"""The transformers engine on a real class with tiny random weights, saved to and loaded from a folder."""

import numpy as np
import pytest

from annotate.vlm.config import VlmConfig, VlmEngine
from annotate.vlm.engine import Question, load, needs
from annotate.weights import EngineMissing, prepare

TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }} : {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }} {% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}assistant : {% endif %}")
WORDS = ["<pad>", "<eos>", "<unk>", "<image>", "user", "assistant", ":", "what", "is", "there", "a", "room",
         "table", "describe", "it", "in", "words"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A LLaVA of 2 layers and 32 channels with a tokenizer of a few words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        CLIPImageProcessorPil,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("llava")
    tokenizer = Tokenizer(models.WordLevel({word: k for k, word in enumerate(WORDS)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", unk_token="<unk>",
                                   pad_token="<pad>", additional_special_tokens=["<image>"])
    sides = {"height": 28, "width": 28}
    pictures = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size=sides)
    LlavaProcessor(pictures, fast, patch_size=14, vision_feature_select_strategy="default",
                   chat_template=TEMPLATE, num_additional_image_tokens=1).save_pretrained(path)
    vision = CLIPVisionConfig(hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                              num_attention_heads=2, image_size=28, patch_size=14)
    text = LlamaConfig(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
                       num_key_value_heads=2, vocab_size=len(WORDS), eos_token_id=1, pad_token_id=0)
    model = LlavaForConditionalGeneration(LlavaConfig(
        vision_config=vision, text_config=text, image_token_id=3, vision_feature_layer=-1))
    model.generation_config.eos_token_id = 1
    model.save_pretrained(path)
    return path


def settings(folder, **values) -> VlmConfig:
    return VlmConfig(engine=VlmEngine.transformers, model=str(folder), gpus=0.0, max_tokens=6, **values)


def questions(count: int = 3) -> list[Question]:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 255, (count, 2, 40, 60, 3), dtype=np.uint8)
    return [Question(f"c{k}", tuple(pictures[k]), "what is there" + " in words" * k) for k in range(count)]


def test_answers_belong_to_their_clips_and_do_not_depend_on_the_batch(folder):
    vlm = load(settings(folder))
    together = vlm.ask(questions())
    assert [answer.clip_id for answer in together] == ["c0", "c1", "c2"]
    assert [vlm.ask([question])[0] for question in questions()] == together
    assert all(set(answer.text.split()) <= set(WORDS) for answer in together)
    assert any(answer.text for answer in together)


def test_an_answer_without_an_end_was_cut_off(folder):
    vlm = load(settings(folder))
    vlm._model.generation_config.suppress_tokens = [1]
    assert not any(answer.is_whole for answer in vlm.ask(questions()))
    vlm._model.generation_config.suppress_tokens = [k for k in range(len(WORDS)) if k != 1]
    assert all(answer.is_whole for answer in vlm.ask(questions()))
    vlm._model.generation_config.suppress_tokens = None


def test_a_batch_that_is_too_large_is_halved(folder):
    import torch

    vlm = load(settings(folder, batch=3))
    whole, sizes = vlm.ask(questions()), []
    generate = vlm._model.generate

    def scarce(**inputs):
        sizes.append(len(inputs["input_ids"]))
        if len(inputs["input_ids"]) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return generate(**inputs)

    vlm._model.generate = scarce
    try:
        assert vlm.ask(questions()) == whole
    finally:
        del vlm._model.generate
    assert sizes == [3, 1, 1, 1]


def test_missing_weights_are_said_before_the_run(tmp_path):
    with pytest.raises(EngineMissing, match=r"no weights at|torchvision is not installed"):
        class Stage:
            def needs(self):
                return [needs(settings(tmp_path / "nothing"))]

        prepare([Stage()])
