"""What the stages of one worker share."""

from typing import Any

import av
import pytest

from annotate.config import AnnotateConfig
from annotate.cut.encode import ClipWriter
from annotate.stage import Clip
from annotate.synthetic import SyntheticSpec, render_sequence
from dataset.clip import ClipRecord, Kind
from pipelines.clip_worker import LazyFrames
from pipelines.job import build_job


@pytest.fixture(scope="module")
def mp4() -> bytes:
    images, _, _ = render_sequence(SyntheticSpec.parse("synthetic://room-walk?seed=1"), 41, 320, 180)
    writer = ClipWriter((180, 320), crf=12)
    for image in images:
        writer.add(image)
    return writer.finish()


def test_all_stages_together_decode_a_clip_once(
    mp4: bytes, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The container is opened once for its header and once for its pictures."""
    (tmp_path / "video.mp4").write_bytes(mp4)
    job = build_job(AnnotateConfig(src=str(tmp_path / "video.mp4"), out=str(tmp_path / "out")))
    opened: list[Any] = []
    av_open = av.open
    monkeypatch.setattr(av, "open", lambda *given, **named: opened.append(given) or av_open(*given, **named))
    files: dict[str, bytes] = {"mp4": mp4}
    record = ClipRecord("clip", "video", Kind.CLIP, fps=16.0)
    frames = LazyFrames(files, job.stages)
    for stage in job.stages:
        output = stage.process(Clip(record, files, frames))
        files |= output.files
        for name, value in output.fields.items():
            setattr(record, name, value)
    assert len(opened) == 2
    assert record.vmaf_motion and record.posed_share == 1.0 and record.depth_frames and record.speed_max
    assert {"camera.npz", "depth.npz"} <= files.keys()
