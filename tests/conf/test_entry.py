"""The settings entry point, on a schema of its own and on Hydra itself."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from enum import StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conf import READER_LEFT, SettingsError, entry, flatten, load, quote_text, restore
from conf.help import field_comments, format_help
from dataset.clip import ClipRecord


class Size(StrEnum):
    small = "small"  # OmegaConf reads enums by member name, so names are what users type
    large = "large"


@dataclass
class Inner:
    """How things are
    done inside.

    More words that help does not show.
    """

    count: int = 3  # how many; must be odd
    size: Size = Size.small  # which size
    names: list[str] = field(default_factory=list)  # their names,
    # one by one
    ratio: float | None = None  # null: not used

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError(f"inner.count={self.count}, allowed 0 or more")


@dataclass
class Bounds:
    low: float = 0.0  # lowest


@dataclass
class Root:
    """Root."""

    src: str = "???"  # where from
    inner: Inner = field(default_factory=Inner)
    thresholds: dict[str, float] = field(default_factory=dict)  # bounds


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """Load Root from a config package of its own."""

    def run(*overrides: str) -> Root:
        return load(Root, "entry_test", overrides)

    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(name="entry_test", node={"defaults": ["entry_test_schema", "_self_"]})
    return run


def test_overrides_arrive_typed(settings):
    config = settings("src=x", "inner.count=5", "inner.size=large", "inner.names=[a,b]", "inner.ratio=0.5")
    assert config == Root(src="x", inner=Inner(count=5, size=Size.large, names=["a", "b"], ratio=0.5))


@pytest.mark.parametrize(
    ("override", "names"),
    [
        ("inner.cuont=5", ["inner.cuont", "did you mean inner.count"]),
        ("inner.count=many", ["inner.count", "many"]),
        ("inner.size=huge", ["inner.size", "huge"]),
        ("+inner.extra=1", ["inner.extra"]),
        ("inner.count=-1", ["inner.count=-1", "allowed"]),
        ("inner.count=1,2", ["inner.count", "-m"]),
    ],
)
def test_a_wrong_setting_is_refused_by_name(settings, override, names):
    with pytest.raises(SettingsError) as caught:
        settings("src=x", override)
    for name in names:
        assert name in str(caught.value)


def test_a_required_setting_that_is_missing_is_named(settings):
    with pytest.raises(SettingsError, match=r"missing: src=\.\.\."):
        settings()


printable = st.characters(codec="ascii", exclude_categories=["Cc"])


@given(st.text(printable, min_size=1).filter(lambda text: text[0] not in "'\""))
def test_a_text_key_takes_any_text_literally(text):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_override(quote_text(f"src={text}", ["src"]))
    if text != "???":
        assert parsed.value() == text


def test_help_shows_every_setting_with_default_and_meaning():
    inner = {"count": 4, "size": Size.large, "names": [], "ratio": None}
    values = {"src": "???", "inner": inner, "thresholds": {}}
    text = format_help(Root, "About.", ["run src=x"], {"inner": ["fast", "slow"]}, values)
    for key, _ in flatten(Root):
        assert f"  {key} " in text
    assert "how many; must be odd" in text
    assert "[small | large]" in text
    assert "fast | slow" in text
    assert "(required)" in text
    assert re.search(r"inner\.count +4\b", text)
    assert re.search(r"inner\.size +large\b", text)


def test_comments_of_fields_are_read_from_the_declaration():
    assert field_comments(Inner)["names"] == "their names, one by one"
    assert field_comments(ClipRecord)["metric_scale"].startswith("metres per unit")


def test_importing_the_entry_point_does_not_load_hydra():
    code = "import sys, conf; sys.exit('hydra' in sys.modules or 'omegaconf' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("arguments", [["--help"], ["plan=true", "text=hash", "codec=dct32"]])
def test_a_reader_who_leaves_early_ends_a_command_without_a_word(arguments):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ended = subprocess.run([sys.executable, "-m", "infer", *arguments], stdout=writing,
                               stderr=subprocess.PIPE, text=True)
    finally:
        os.close(writing)
    assert (ended.returncode, ended.stderr) == (READER_LEFT, "")


def test_a_broken_pipe_that_is_not_the_output_is_not_hidden(settings, monkeypatch):
    def main(config: Root) -> None:
        raise BrokenPipeError("the encoder's")

    monkeypatch.setattr(sys, "argv", ["run", "src=x"])
    with pytest.raises(BrokenPipeError, match="the encoder's"):
        entry(Root, "entry_test")(main)()
    assert restore(Root, {"src": "y", "inner": {"count": 5}}, "a.yaml").inner.count == 5


@pytest.mark.parametrize(("values", "says"), [
    ({"inner": {"cuont": 5}}, r"a\.yaml: unknown setting .*cuont"),
    ({"inner": {"count": "x"}}, "a.yaml.*'x'"),
    ({"src": "x", "inner": {"count": -1}}, "a.yaml: inner.count=-1")])
def test_settings_that_were_written_down_are_checked_as_typed_ones(values, says):
    with pytest.raises(SettingsError, match=says):
        restore(Root, values, "a.yaml")
