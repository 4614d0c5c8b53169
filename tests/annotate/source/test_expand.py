import dataclasses
import importlib.util
import json

import fsspec
import pytest

from annotate.source.expand import expand
from annotate.source.item import Axes, Conventions, SourceConfig, SourceItem


@pytest.fixture
def memory():
    fs = fsspec.filesystem("memory")
    yield fs
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_a_file_is_taken_whatever_its_suffix(tmp_path):
    touch(tmp_path / "walk.txt")
    (item,) = expand(str(tmp_path / "walk.txt"), SourceConfig(name="mine", licence="CC0"))
    assert item == SourceItem(str(tmp_path / "walk.txt"), "walk", licence="CC0", source="mine")


def test_a_folder_gives_its_videos_in_order_and_passes_others_over(tmp_path, caplog):
    touch(tmp_path / "b" / "2.MKV", tmp_path / "b" / "10.mp4", tmp_path / "a.mov", tmp_path / "a.txt",
          tmp_path / "b" / "._10.mp4")
    caplog.set_level("INFO")
    items = expand(str(tmp_path), SourceConfig())
    assert [item.id for item in items] == ["a", "b/10", "b/2"]
    assert [item.uri for item in items] == [str(tmp_path / p) for p in ("a.mov", "b/10.mp4", "b/2.MKV")]
    assert "2 other files passed over" in caplog.text


def test_a_relative_path_becomes_absolute(tmp_path, monkeypatch):
    touch(tmp_path / "in" / "x.mp4")
    monkeypatch.chdir(tmp_path)
    assert expand("in", SourceConfig())[0].uri == str(tmp_path / "in" / "x.mp4")
    assert expand("in/*.mp4", SourceConfig())[0].uri == str(tmp_path / "in" / "x.mp4")


def test_a_glob_gives_what_it_matches(tmp_path):
    touch(*(tmp_path / name for name in ("a1/x.mp4", "a2/x.mp4", "b/x.mp4", "a1/x.srt")))
    items = expand(f"{tmp_path}/a*/*", SourceConfig())
    assert [item.id for item in items] == ["a1/x", "a2/x"]


def test_a_name_with_brackets_is_a_file_before_it_is_a_pattern(tmp_path):
    touch(tmp_path / "take [1].mp4")
    assert expand(str(tmp_path / "take [1].mp4"), SourceConfig())[0].id == "take [1]"


def test_folders_and_globs_work_at_urls(memory):
    for name in ("/clips/a.mp4", "/clips/deep/b.mp4", "/clips/notes.md"):
        memory.pipe(name, b"x")
    folder = expand("memory://clips", SourceConfig())
    assert [i.uri for i in folder] == ["memory:///clips/a.mp4", "memory:///clips/deep/b.mp4"]
    assert [i.id for i in folder] == ["a", "deep/b"]
    assert [i.id for i in expand("memory://clips/*.mp4", SourceConfig())] == ["a"]
    assert expand("memory://clips/a.mp4", SourceConfig())[0].uri == "memory:///clips/a.mp4"


@pytest.mark.parametrize("src", ["memory://nowhere/x.mp4", "nowhere/x.mp4", "nowhere/*.mp4", "/nowhere"])
def test_nothing_there_is_an_error_before_any_work(src):
    with pytest.raises(ValueError, match=r"nowhere.*no (such file|video)"):
        expand(src, SourceConfig())


def test_a_folder_without_videos_says_what_it_looked_for(tmp_path):
    touch(tmp_path / "a.jpg", tmp_path / "b.txt")
    with pytest.raises(ValueError, match=r"only 2 other files.*\.mp4.*source\.suffixes"):
        expand(str(tmp_path), SourceConfig())
    assert len(expand(str(tmp_path), SourceConfig(suffixes=[".txt"]))) == 1


@pytest.mark.parametrize(
    ("src", "package"),
    [("s3://bucket/x.mp4", "s3fs"), ("gs://bucket/*.mp4", "gcsfs"), ("hf://datasets/a/b", "huggingface_hub"),
     ("https://host/x.mp4", "aiohttp"), ("s3://bucket/list.csv", "s3fs")],
)
def test_a_missing_driver_names_the_package_to_install(src, package):
    if importlib.util.find_spec(package):
        pytest.skip(f"{package} is installed")
    with pytest.raises(ValueError, match=f"pip install {package}") as caught:
        expand(src, SourceConfig())
    assert "\n" not in str(caught.value)


def test_of_rarer_drivers_the_library_says_what_is_missing():
    if importlib.util.find_spec("ocifs"):
        pytest.skip("ocifs is installed")
    with pytest.raises(ValueError, match=r"oci://.*ocifs"):
        expand("oci://bucket/x.mp4", SourceConfig())


def test_an_unknown_protocol_is_an_error():
    with pytest.raises(ValueError, match="unknown protocol rtmp://"):
        expand("rtmp://host/x", SourceConfig())


def test_synthetic_video_is_a_source_and_its_address_is_checked():
    assert len(expand("synthetic", SourceConfig())) > 1
    (item,) = expand("synthetic://room-walk?seconds=2.0", SourceConfig())
    assert item.is_synthetic and item.source == "synthetic"
    with pytest.raises(ValueError, match="room-fly"):
        expand("synthetic://room-fly", SourceConfig())


def test_an_item_survives_json():
    item = SourceItem("/a.mp4", "a", 1.5, None, "caption", "CC0", [500.0, 500.0, 320.0, 240.0], [480, 640],
                      "/p.npy", "/d", "mine", Conventions(axes=Axes.opengl, depth_unit=0.01))
    assert SourceItem(**json.loads(json.dumps(dataclasses.asdict(item)))) == item
