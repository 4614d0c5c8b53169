"""Counts by a model, a server on this machine, whose answers are read or asked for again."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from chat_server import ChatServer, said

from annotate.frames import ArrayFrames
from annotate.stage import BatchStage, Clip
from annotate.vlm.config import EndpointConfig, VlmConfig, VlmEngine
from annotate.vlm.entities import EntitiesConfig, EntitiesStage, read_counts
from dataset.clip import ClipRecord, Kind

GOOD = '{"people": 3, "vehicles": 1, "animals": 0, "quality": 1}'


@pytest.fixture
def chat():
    server = ChatServer()
    yield server
    server.close()


def stage_of(chat: ChatServer) -> EntitiesStage:
    stage = EntitiesStage(EntitiesConfig(enabled=True, attempts=2), VlmConfig(
        engine=VlmEngine.endpoint, model="m", licence="MIT",
        endpoint=EndpointConfig(url=chat.url, wait_s=0.01)))
    stage.setup()
    return stage


def clip(name: str) -> Clip:
    frames = np.full((17, 20, 30, 3), ord(name), np.uint8)
    return Clip(ClipRecord(name, "v", Kind.CLIP), {}, ArrayFrames(frames))


def test_counts_become_scores_and_only_what_cannot_be_read_is_asked_again(chat):
    answers = iter([said(GOOD), said("I see three people."), said(f"Sure:\n```json\n{GOOD}\n```")])
    chat.reply = lambda body: next(answers)
    stage = stage_of(chat)
    assert isinstance(stage, BatchStage)
    outputs = [output.fields for output in [stage.process(clip("a")), stage.process(clip("b"))]]
    for fields in outputs:
        assert json.loads(fields.pop("engine_licences")) == {"vlm:m": "MIT"}
        assert fields == {"people": 3.0, "vehicles": 1.0, "animals": 0.0, "entities": 4.0, "vlm_quality": 1.0,
                          "vlm_failure": None}
    assert "no JSON object" in chat.asked[2]["messages"][0]["content"][-1]["text"]


def test_counts_that_cannot_be_read_are_absent(chat):
    chat.reply = lambda body: said("three")
    fields = stage_of(chat).process_batch([clip("a"), clip("b")])[1].fields
    assert "no JSON object" in fields["vlm_failure"] and "people" not in fields and len(chat.asked) == 4


@pytest.mark.parametrize("answer", [
    "", "{}", GOOD.replace("3", "-3"), GOOD.replace("3", '"many"'), GOOD.replace("3", "true"),
    GOOD.replace('"quality": 1', '"quality": 7'), GOOD.replace(":", "=")])
def test_answers_that_are_no_counts_are_refused(answer):
    with pytest.raises(ValueError):
        read_counts(answer)


def test_counting_without_a_model_is_refused():
    with pytest.raises(ValueError, match=r"vlm\.engine=none"):
        EntitiesStage(EntitiesConfig(enabled=True), VlmConfig())
