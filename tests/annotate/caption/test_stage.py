"""The caption stage, its model a server on this machine."""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from chat_server import ChatServer, said

from annotate.caption.config import CaptionConfig, CaptionEngine
from annotate.caption.stage import CaptionStage
from annotate.frames import ArrayFrames
from annotate.stage import BatchStage, Clip
from annotate.vlm.config import EndpointConfig, VlmConfig, VlmEngine
from annotate.vlm.engine import load
from dataset.clip import ClipRecord, Kind

GOOD = "A wooden table stands in a bright room with two chairs and a green plant."
BAD = "A wooden table stands in a bright room. The camera pans slowly to the left."


@pytest.fixture
def chat():
    server = ChatServer()
    yield server
    server.close()


def clip(name: str = "c", caption: str | None = None, uri: str = "v.mp4", frames: int = 33) -> Clip:
    pictures = np.repeat(np.arange(frames, dtype=np.uint8)[:, None, None, None], 3, axis=3)
    video = ArrayFrames(np.broadcast_to(pictures, (frames, 36, 64, 3)).copy())
    return Clip(ClipRecord(name, "v", Kind.CLIP, uri=uri, caption=caption), {}, video)


def stage_of(chat: ChatServer, **caption) -> CaptionStage:
    server = EndpointConfig(url=chat.url, wait_s=0.01)
    stage = CaptionStage(CaptionConfig(engine=CaptionEngine.vlm, **caption),
                         VlmConfig(engine=VlmEngine.endpoint, model="model-a", licence="Apache-2.0",
                                   endpoint=server))
    stage.setup()
    return stage


def question(body) -> str:
    return body["messages"][0]["content"][-1]["text"]


def test_a_caption_that_speaks_of_the_camera_is_asked_for_again(chat):
    chat.reply = lambda body: said(BAD if len(chat.asked) == 1 else f"**Caption:** \"{GOOD}\"")
    fields = stage_of(chat).process(clip()).fields
    assert fields["caption"] == GOOD and fields["caption_failure"] is None
    assert fields["caption_engine"] == "vlm:model-a" and fields["caption_attempts"] == 2
    assert json.loads(fields["engine_licences"]) == {"vlm:model-a": "Apache-2.0"}
    assert "The camera pans" in question(chat.asked[1]) and BAD in question(chat.asked[1])
    assert chat.asked[0]["temperature"] == 0.0 and chat.asked[1]["temperature"] > 0
    assert len(chat.asked[0]["messages"][0]["content"]) == 9  # eight frames and the question


@pytest.mark.parametrize(("answer", "why"), [
    (said(BAD), "The camera pans"), (said(""), "empty"), (said("I'm sorry, I cannot see it."), "declined"),
    (said("A table."), "2 words"), (said(GOOD, "length"), "cut off"), (said("word " * 300), "300 words")])
def test_a_caption_that_never_passes_is_not_written(chat, answer, why):
    chat.reply = lambda body: answer
    fields = stage_of(chat, attempts=2).process(clip()).fields
    assert fields["caption"] is None and why in fields["caption_failure"] and fields["caption_attempts"] == 2
    assert len(chat.asked) == 2


def test_a_batch_asks_again_only_for_those_with_a_fault(chat):
    def reply(body):
        first = body["messages"][0]["content"][0]["image_url"]["url"]
        is_again = "earlier answer" in question(body)
        return said(GOOD if is_again or len(first) % 2 else BAD)

    chat.reply = reply
    stage = stage_of(chat)
    assert isinstance(stage, BatchStage) and stage.resources.batch_size == 4
    clips = [clip("a"), clip("b", caption=GOOD), clip("c", caption=BAD)]
    outputs = [output.fields for output in stage.process_batch(clips)]
    assert [fields.get("caption", GOOD) for fields in outputs] == [GOOD] * 3
    assert outputs[1] == {"caption_engine": "given", "caption_failure": None}  # nobody is asked about it
    assert [output.fields for output in map(stage.process, clips)] == outputs


def test_a_given_caption_stays_without_an_engine_but_its_fault_is_known():
    stage = CaptionStage()
    assert stage.process(clip(caption=GOOD)).fields == {"caption_engine": "given", "caption_failure": None}
    fields = stage.process(clip(caption=BAD)).fields
    assert "The camera pans" in fields["caption_failure"] and "caption" not in fields
    assert stage.process(clip()).fields == {"caption": None, "caption_failure": None}
    assert stage.needs() == [] and stage.resources.num_gpus == 0


def test_a_given_caption_is_replaced_on_request(chat):
    chat.reply = lambda body: said(GOOD.replace("green", "red"))
    assert "red" in stage_of(chat, replace=True).process(clip(caption=GOOD)).fields["caption"]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_captions_come_from_a_table_by_clip_or_by_video(tmp_path, suffix):
    rows = [{"clip_id": "c", "uri": None, "caption": GOOD}, {"clip_id": None, "uri": "w.mp4", "caption": BAD}]
    path = tmp_path / f"captions{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        path.write_text(f"clip_id,uri,caption\nc,,{GOOD}\n,w.mp4,{BAD}\n")
    stage = CaptionStage(CaptionConfig(engine=CaptionEngine.file, path=str(path)))
    found = {"caption": GOOD, "caption_engine": "file", "caption_failure": None}
    assert stage.process(clip()).fields == found
    assert "The camera pans" in stage.process(clip("d", uri="w.mp4")).fields["caption_failure"]
    assert stage.process(clip("d")).fields == {"caption": None, "caption_failure": "the table has none"}
    before = stage.settings()
    path.write_bytes(path.read_bytes() + (b"\n" if suffix != ".parquet" else b""))
    if suffix != ".parquet":
        assert CaptionStage(CaptionConfig(engine=CaptionEngine.file, path=str(path))).settings() != before


@pytest.mark.parametrize(("text", "words"), [
    ("clip_id,text\nc,x\n", "expected caption"), ("uri,caption\na,x\na,y\n", "row 2.*another caption"),
    ("\xff", "not a csv table|expected caption")])
def test_a_table_that_makes_no_sense_is_refused(tmp_path, text, words):
    (tmp_path / "captions.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=words):
        CaptionStage(CaptionConfig(engine=CaptionEngine.file, path=str(tmp_path / "captions.csv")))


@pytest.mark.parametrize(("caption", "words"), [
    ({"engine": "vlm"}, "vlm.engine=none"), ({"engine": "file"}, "needs one"),
    ({"attempts": 0}, "attempts=0"), ({"path": "x.csv"}, "belongs"),
    ({"engine": "file", "path": "x.txt"}, "expected one of"),
    ({"least_words": 9, "most_words": 8}, "least_words")])
def test_settings_that_contradict_each_other_are_refused(caption, words):
    with pytest.raises(ValueError, match=words):
        CaptionStage(CaptionConfig(**caption))


def test_stages_of_a_worker_share_one_model(chat):
    config = VlmConfig(engine=VlmEngine.endpoint, endpoint=EndpointConfig(url=chat.url))
    assert load(config) is load(VlmConfig(engine=VlmEngine.endpoint, endpoint=EndpointConfig(url=chat.url)))
