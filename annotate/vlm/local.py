"""A vision-language model of the transformers library, in this process."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from annotate.batches import Batches
from annotate.vlm.config import VlmConfig
from annotate.vlm.engine import Answer, Question
from annotate.weights import locate


class LocalVlm:
    """Any image-text-to-text model of transformers with its processor.

    A batch that needs more memory than there is is halved. Pictures go in as images, which every such model
    takes, not as video.
    """

    def __init__(self, model: Any, processor: Any, max_tokens: int, batch: int) -> None:
        self._model, self._processor, self._max_tokens = model.eval(), processor, max_tokens
        self._batches = Batches(batch)
        ends = _as_list(model.generation_config.eos_token_id)
        self._end = {*ends, processor.tokenizer.eos_token_id} - {None}
        processor.tokenizer.padding_side = "left"  # what is generated follows the question at once
        if processor.tokenizer.pad_token_id is None:
            processor.tokenizer.pad_token = processor.tokenizer.eos_token

    def ask(self, questions: Sequence[Question]) -> list[Answer]:
        answers: list[Answer] = []
        for _, group in groupby(questions, key=lambda question: question.temperature):
            answers += self._batches.run(self._generate, list(group))
        return answers

    def _generate(self, questions: Sequence[Question]) -> list[Answer]:
        """Answers to questions of one temperature."""
        import torch
        from PIL import Image

        chats = [[{"role": "user", "content": [
            *({"type": "image", "image": Image.fromarray(picture)} for picture in question.pictures),
            {"type": "text", "text": question.text}]}] for question in questions]
        inputs = self._processor.apply_chat_template(
            chats, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
            processor_kwargs={"padding": True}).to(self._model.device)
        for name, value in inputs.items():
            if torch.is_tensor(value) and value.is_floating_point():
                inputs[name] = value.to(self._model.dtype)
        heat = questions[0].temperature
        sampling: dict[str, Any] = {"do_sample": heat > 0} | ({"temperature": heat} if heat > 0 else {})
        with torch.inference_mode():
            tokens = self._model.generate(**inputs, max_new_tokens=self._max_tokens, **sampling)
        tails = tokens[:, inputs["input_ids"].shape[1]:]
        texts = self._processor.tokenizer.batch_decode(tails, skip_special_tokens=True)
        return [Answer(question.clip_id, text.strip(), not self._end.isdisjoint(tail.tolist()))
                for question, text, tail in zip(questions, texts, tails, strict=True)]


def load_local(config: VlmConfig) -> LocalVlm:
    """The model of a folder or hub repository, on the GPU where the worker has one, in bfloat16 there."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    folder = locate(config.model, None, f"vlm:{config.model}")
    on_gpu = config.gpus > 0
    dtype = torch.bfloat16 if on_gpu else torch.float32
    model: Any = AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype)
    model.to(torch.device("cuda" if on_gpu else "cpu"))
    return LocalVlm(model, AutoProcessor.from_pretrained(folder), config.max_tokens, config.batch)


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
