"""Where released files are looked for, with a folder of this machine in place of the hub."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from model.hub import fetch


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`hub/owner/name` is the repository; what is downloaded is copied by the hub's own filter."""
    import huggingface_hub
    from huggingface_hub.utils import filter_repo_objects

    def download(repository: str, **filters: Any) -> str:
        source, target = tmp_path / "hub" / repository, tmp_path / "cache" / repository
        if not source.is_dir():
            raise OSError("401 Client Error")
        target.mkdir(parents=True, exist_ok=True)
        files = [str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()]
        for name in filter_repo_objects(files, **filters):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / name, target / name)
        return str(target)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    for name in ("config.yaml", "vae/config.json", "refiner/transformer/config.json", "refiner/text/x"):
        path = tmp_path / "hub" / "owner" / "name" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path


def downloaded(hub: Path) -> list[str]:
    cache = hub / "cache" / "owner" / "name"
    return sorted(str(path.relative_to(cache)) for path in cache.rglob("*") if path.is_file())


@pytest.mark.parametrize(("source", "inside", "place", "files"), [
    ("owner/name", "vae", "vae", ["vae/config.json"]),
    ("owner/name/vae", "vae", "vae", ["vae/config.json"]),
    ("owner/name/refiner", "transformer", "refiner/transformer", ["refiner/transformer/config.json"]),
    ("owner/name", "config.yaml", "config.yaml", ["config.yaml"]),
    ("owner/name", "", "", ["config.yaml"]),
    ("owner/name", "transformer", "", ["config.yaml"]),
])
def test_only_what_is_wanted_is_downloaded(
    hub: Path, source: str, inside: str, place: str, files: list[str],
) -> None:
    assert fetch(source, inside, "part") == hub / "cache" / "owner" / "name" / place
    assert downloaded(hub) == files


def test_a_local_folder_comes_first(hub: Path) -> None:
    folder = hub / "hub" / "owner" / "name"
    assert fetch(folder, "vae", "part") == fetch(folder / "vae", "vae", "part") == folder / "vae"
    assert fetch(str(folder / "config.yaml"), "config.yaml", "part") == folder / "config.yaml"
    assert not (hub / "cache").exists()


def test_what_is_absent_is_named(hub: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"part: cannot get vae of owner/other from the hub: 401"):
        fetch("owner/other", "vae", "part")
    with pytest.raises(FileNotFoundError, match="part: owner/name on the hub holds no vae"):
        fetch("owner/name/absent", "vae", "part")
    for source in ("/nowhere/at/all", "./nowhere/here", "one"):
        with pytest.raises(FileNotFoundError, match="and it is no hub repository"):
            fetch(source, "vae", "part")
