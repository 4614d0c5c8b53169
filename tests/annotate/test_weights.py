"""One rule for weights: local path, the hub's cache, the hub; and one sentence where an engine is missing."""

import json
import sys
import venv

import pytest

from annotate.learned import EngineConfig, LearnedConfig, needs_of
from annotate.weights import EngineMissing, Needs, check_modules, licence_fields, locate, prepare
from dataset.clip import ClipRecord, Kind

INSTALL = "run `pip install giant`"


class Stage:
    def __init__(self, *needs):
        self._needs = needs

    def needs(self):
        return self._needs


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty hub cache, and no network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def put(cache, repository, name, data=b"weights"):
    folder = cache / f"models--{repository.replace('/', '--')}"
    file = folder / "snapshots" / "abc" / name
    file.parent.mkdir(parents=True)
    file.write_bytes(data)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    return file


def test_a_local_file_or_folder_comes_first(tmp_path, cache):
    (tmp_path / "model.pt").write_bytes(b"x")
    assert locate(str(tmp_path), "model.pt", "giant") == tmp_path / "model.pt"
    assert locate(str(tmp_path / "model.pt"), "model.pt", "giant") == tmp_path / "model.pt"
    assert locate(str(tmp_path), None, "giant") == tmp_path
    with pytest.raises(EngineMissing, match=r"engine giant: the folder .* holds no other\.pt; give"):
        locate(str(tmp_path), "other.pt", "giant")


def test_then_the_cache_of_the_hub(cache):
    file = put(cache, "lab/giant", "model.pt")
    assert locate("lab/giant", "model.pt", "giant") == file
    assert locate("lab/giant", None, "giant") == file.parent


def test_what_is_neither_here_nor_to_be_had_is_one_sentence(cache):
    sentence = r"engine giant: its weights lab/giant are not .* be fetched .*run `hf download lab/giant`"
    with pytest.raises(EngineMissing, match=sentence) as error:
        locate("lab/giant", "model.pt", "giant")
    assert "\n" not in str(error.value)
    with pytest.raises(EngineMissing, match="there are no weights at /nowhere/model"):
        locate("/nowhere/model", None, "giant")


def test_a_missing_package_or_interpreter_is_found_before_the_run(tmp_path):
    check_modules(Needs("giant", "MIT", INSTALL, ("json", "numpy")))
    sentence = f"engine giant: giant_model is not installed for {sys.executable}; {INSTALL}"
    with pytest.raises(EngineMissing, match=sentence):
        check_modules(Needs("giant", "MIT", INSTALL, ("json", "giant_model")))
    with pytest.raises(EngineMissing, match=f"there is no interpreter /nowhere/python; {INSTALL}"):
        check_modules(Needs("giant", "MIT", INSTALL, (), "/nowhere/python"))
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    with pytest.raises(EngineMissing, match="does not work"):
        check_modules(Needs("giant", "MIT", INSTALL, ("json",), str(broken)))


def test_another_environment_is_asked_what_it_has(tmp_path):
    venv.create(tmp_path / "env", with_pip=False)
    python = str(tmp_path / "env" / "bin" / "python")
    check_modules(Needs("giant", "MIT", INSTALL, ("json",), python))
    with pytest.raises(EngineMissing, match="torch is not installed for"):
        check_modules(Needs("giant", "MIT", INSTALL, ("json", "torch"), python))


def test_each_engine_is_prepared_and_its_licence_told_once(cache):
    put(cache, "lab/giant", "model.pt")
    one = Needs("giant", "code MIT; weights CC BY-NC 4.0", INSTALL, ("json",), None, "lab/giant", "model.pt")
    assert prepare([Stage(one), object(), Stage(one), Stage()]) == [
        "engine giant: code MIT; weights CC BY-NC 4.0"]
    with pytest.raises(EngineMissing, match="lab/other"):
        prepare([Stage(one, Needs("other", "MIT", INSTALL, weights="lab/other"))])


def test_weights_that_a_package_fetches_by_itself_are_fetched_before_the_run():
    fetched: list[str] = []
    prepare([Stage(Needs("giant", "MIT", INSTALL, fetch=lambda: fetched.append("giant")))])
    assert fetched == ["giant"]

    def offline() -> None:
        raise OSError("no route to host")

    with pytest.raises(EngineMissing, match=r"engine giant: .* cannot be fetched \(no route to host\)"):
        prepare([Stage(Needs("giant", "MIT", INSTALL, fetch=offline))])


def test_licences_of_all_stages_are_recorded_with_the_clip():
    record = ClipRecord("c", "v", Kind.CLIP)
    assert licence_fields(record, []) == {}
    record.engine_licences = licence_fields(record, [Needs("pi3x", "BSD", INSTALL)])["engine_licences"]
    both = licence_fields(record, [Needs("moge2", "MIT", INSTALL)])["engine_licences"]
    assert json.loads(both) == {"pi3x": "BSD", "moge2": "MIT"}


def test_licences_follow_the_weights():
    assert "weights yyfz233/Pi3X CC BY-NC 4.0" in needs_of("pi3x", LearnedConfig()).licence
    own = LearnedConfig(depth_anything3=EngineConfig(None, "depth-anything/DA3-BASE"))
    assert needs_of("depth_anything3", own).licence.endswith("DA3-BASE Apache-2.0")
    mine = LearnedConfig(pi3x=EngineConfig(None, "/mine"))
    assert "as their owner states" in needs_of("pi3x", mine).licence
    with pytest.raises(EngineMissing, match=r"learned\.vggt\.weights=null"):
        needs_of("vggt", LearnedConfig(vggt=EngineConfig()))


@pytest.mark.parametrize(("setting", "complaint"), [
    ({"gpus": 1.5}, r"learned\.gpus=1\.5"), ({"gpus": 0.0}, r"learned\.gpus=0"),
    ({"batch_size": 0}, r"learned\.batch_size=0"), ({"limit_s": -1.0}, r"learned\.limit_s=-1"),
    ({"depth_pro": EngineConfig("/py", "x")}, r"learned\.depth_pro\.python=/py"),
])
def test_settings_that_mean_nothing_are_refused(setting, complaint):
    with pytest.raises(ValueError, match=complaint):
        LearnedConfig(**setting)


def test_paths_hold_in_any_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").mkdir()
    config = LearnedConfig(pi3x=EngineConfig("env/bin/python", "weights")).absolute()
    assert config.pi3x == EngineConfig(str(tmp_path / "env/bin/python"), str(tmp_path / "weights"))
    assert config.vggt.weights == "facebook/VGGT-1B"
