"""What comes from the hub is said before it comes; a local folder stands in for the hub's answers."""

from pathlib import Path
from typing import Any

import pytest

from infer.download import Listed, Need, announce, describe, wanted
from infer.load import find_sources
from infer.sampler import Kind, SamplerConfig

FILES = {
    "README.md": 10, "config.yaml": 20, "dit/model.safetensors": 5_300_000_000, "dit/config.json": 30,
    "vae/config.json": 40, "vae/diffusion.safetensors": 2_400_000_000, "vae_older/x.safetensors": 1,
    "refiner/transformer/a.safetensors": 600, "refiner/text_encoder/b.safetensors": 700}


@pytest.mark.parametrize(("folder", "inside", "files"), [
    ("", ("dit", "sana_dit"), ["dit/model.safetensors", "dit/config.json"]),
    ("", ("sana_dit", "dit"), ["dit/model.safetensors", "dit/config.json"]),
    ("", ("vae",), ["vae/config.json", "vae/diffusion.safetensors"]),
    ("vae", ("vae",), ["vae/config.json", "vae/diffusion.safetensors"]),
    ("refiner", ("transformer",), ["refiner/transformer/a.safetensors"]),
    ("", ("",), ["README.md", "config.yaml"]), ("", ("absent",), ["README.md", "config.yaml"]),
    ("absent", ("vae",), [])])
def test_only_files_of_the_part_are_wanted(folder: str, inside: tuple[str, ...], files: list[str]) -> None:
    assert wanted(folder, inside, FILES) == files


class Hub:
    """`files` of one repository, of which `cached` are here already."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cache: Path, files: dict[str, int]) -> None:
        import huggingface_hub
        from huggingface_hub import constants
        from huggingface_hub.hf_api import RepoFile

        self.cached: set[str] = set()
        self.error: Exception | None = None

        def tree(api: Any, repository: str, recursive: bool) -> list[RepoFile]:
            if self.error is not None:
                raise self.error
            assert repository == "owner/name" and recursive
            return [RepoFile(path=name, size=size, oid="") for name, size in files.items()]

        def snapshot(repository: str, local_files_only: bool) -> str:
            assert local_files_only
            if not cache.is_dir():
                raise OSError("no snapshot")
            return str(cache)

        monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_tree", tree)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
        monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache",
                            lambda repository, name: name if name in self.cached else None)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hub:
    return Hub(monkeypatch, tmp_path / "cache", FILES)


NEEDS = [Need("network", "owner/name", ("dit",)), Need("autoencoder", "owner/name", ("vae",))]


def test_sizes_are_said_for_what_is_not_here_yet(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    announce(NEEDS)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "to be fetched from the hub, once: 7.70 GB"
    assert [line.split() for line in said[1:]] == [
        ["5.30", "GB", "network:", "owner/name"], ["2.40", "GB", "autoencoder:", "owner/name"]]
    hub.cached = {"dit/model.safetensors", "dit/config.json"}
    listed = announce(NEEDS)
    assert [part.missing for part in listed] == [0, 2_400_000_040]
    assert "network" not in capsys.readouterr().err
    hub.cached = set(FILES)
    announce(NEEDS)
    assert not capsys.readouterr().err


def test_local_folders_need_nothing(hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hub.error = ConnectionError("asked")
    assert announce([Need("network", str(tmp_path), ("dit",)), Need("autoencoder", "gone", ("vae",))]) == []
    assert not capsys.readouterr().err


@pytest.mark.parametrize("why", ["offline", "unreachable"])
def test_without_the_hub_what_is_cached_is_enough_and_what_is_not_is_one_sentence(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str,
) -> None:
    from huggingface_hub import constants

    if why == "offline":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        says = "network: owner/name: HF_HUB_OFFLINE is set and it is not in .*unset it once"
    else:
        hub.error = ConnectionError("name resolution failed\nand more")
        says = r"network: owner/name: cannot be had from the hub \(name resolution failed\)"
    with pytest.raises(FileNotFoundError, match=says):
        announce(NEEDS)
    for name in ("dit/model.safetensors", "README.md"):
        (tmp_path / "cache" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cache" / name).touch()
    assert announce(NEEDS[:1]) == []
    with pytest.raises(FileNotFoundError, match="autoencoder: owner/name"):
        announce([Need("autoencoder", "owner/name/vae", ("vae",))])


def test_the_list_is_of_the_parts_in_use_alone() -> None:
    sampler = SamplerConfig(kind=Kind.distilled, model="a/net", codec="a/vae")
    parts = [need.part for need in find_sources(sampler).needs()]
    assert parts == ["network", "autoencoder", "text encoder"]
    parts = [need.part for need in find_sources(sampler, "a/b", "dct32", "hash", "ltx2").needs()]
    assert parts == ["network", "refiner", "refiner's text connectors", "refiner's text encoder"]


def test_the_sum_is_of_what_is_missing() -> None:
    said = describe([Listed("network", "a/b", 10**9, 10**9), Listed("autoencoder", "a/b", 10**9, 0),
                     Listed("refiner", "a/b", 4 * 10**9, 2 * 10**9)])
    assert said.startswith("to be fetched from the hub, once: 3.00 GB\n") and "autoencoder" not in said
