from pathlib import Path

import fsspec
import pytest

from annotate.source.fetch import FetchError, local_video
from annotate.source.item import SourceItem


@pytest.fixture
def memory():
    fs = fsspec.filesystem("memory")
    yield fs
    fs.store.clear()


def fetch(uri, **span) -> tuple[Path, bytes, str]:
    with local_video(SourceItem(str(uri), "x", **span)) as local:
        return local.path, local.path.read_bytes(), local.video_id


def test_a_video_is_named_by_its_content_and_span_wherever_it_lies(tmp_path, memory):
    data = bytes(range(256)) * 40_000  # more than one block
    (tmp_path / "a.mp4").write_bytes(data)
    (tmp_path / "b.mp4").write_bytes(data)
    memory.pipe("/clips/c.mp4", data)
    path, content, name = fetch(tmp_path / "a.mp4")
    assert path == tmp_path / "a.mp4" and content == data and len(name) == 20
    assert fetch(tmp_path / "b.mp4")[2] == name
    copy, content, remote_name = fetch("memory://clips/c.mp4")
    assert remote_name == name and content == data
    assert not copy.exists(), "the copy goes when it is no longer needed"
    (tmp_path / "b.mp4").write_bytes(data[:-1])
    others = [fetch(tmp_path / "b.mp4")[2], fetch(tmp_path / "a.mp4", start_s=1.0)[2],
              fetch(tmp_path / "a.mp4", end_s=1.0)[2]]
    assert len({name, *others}) == 4


@pytest.mark.parametrize("uri", ["/nowhere/a.mp4", "memory://nowhere/a.mp4"])
def test_a_missing_source_is_told(uri):
    with pytest.raises(FetchError, match=r"nowhere/a\.mp4: no such file") as caught:
        fetch(uri)
    assert caught.value.code == "missing"


def test_a_source_that_cannot_be_read_is_told(tmp_path):
    with pytest.raises(FetchError, match="cannot be read") as caught:
        fetch(tmp_path)  # a folder
    assert caught.value.code == "unreadable"
    with pytest.raises(FetchError, match="after 3 attempts") as caught:
        fetch("http://localhost:9/a.mp4")
    assert caught.value.code == "unreachable"


def test_synthetic_video_is_rendered_with_its_truth():
    item = SourceItem("synthetic://room-walk?width=160&height=96&seconds=0.2", "x")
    with local_video(item) as local:
        assert local.path.stat().st_size > 0 and local.truth is not None
        name = local.video_id
    assert not local.path.exists()
    with local_video(item) as again:
        assert again.video_id == name
