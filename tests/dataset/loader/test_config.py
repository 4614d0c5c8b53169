from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

import dataset.loader
from dataset.loader.config import DataConfig, SourceConfig


@pytest.mark.parametrize(("settings", "words"), [
    ({}, "data.path or data.sources.*neither"),
    ({"path": "a", "sources": [SourceConfig("b")]}, "data.path or data.sources.*both"),
    ({"sources": [SourceConfig("b")], "where": "x > 1"}, "data.where belong to data.path"),
    ({"path": "a", "frames": []}, "data.frames"),
    ({"path": "a", "frames": [80]}, r"data.frames=\[80\].*8k \+ 1"),
    ({"path": "a", "frames": [17, 17]}, "different"), ({"path": "a", "size": [64]}, "data.size"),
    ({"path": "a", "size": [64, 100]}, "multiples of data.cell=32"), ({"path": "a", "cell": 0}, "data.cell"),
    ({"path": "a", "batch_size": 0}, "data.batch_size=0, allowed 1 or more"),
    ({"path": "a", "workers": -1}, "data.workers"), ({"path": "a", "window": 0}, "data.window"),
    ({"path": "a", "prefetch": 0}, "data.prefetch"), ({"path": "a", "seed": -2}, "data.seed"),
    ({"path": "a", "skip_limit": -1}, "data.skip_limit"),
    ({"sources": [SourceConfig("a", weight=1.0), SourceConfig("b")]}, "every source a weight, or none"),
    ({"sources": [SourceConfig("a", weight=0.0)]}, r"data.sources\[0\].weight=0.0, must be positive"),
    ({"sources": [SourceConfig("a", repeats=0)]}, r"data.sources\[0\].repeats=0, allowed 1"),
])
def test_values_that_cannot_be_meant_are_refused_by_name(settings: dict, words: str):
    with pytest.raises(ValueError, match=words):
        DataConfig(**settings).check()


def test_one_data_set_is_a_source_like_any_other():
    config = DataConfig(path="a", latents="dct8", where="x > 1")
    config.check()
    assert config.all_sources() == [SourceConfig("a", "dct8", "x > 1")]


@pytest.mark.parametrize("schema", [DataConfig, SourceConfig])
def test_every_setting_is_read(schema: type):
    folder = Path(dataset.loader.__file__).parent
    code = "".join(path.read_text() for path in folder.glob("*.py") if path.name != "config.py")
    code += (folder / "config.py").read_text().split("def all_sources")[1]
    unread = [item.name for item in dataclasses.fields(schema) if f".{item.name}" not in code]
    assert not unread
