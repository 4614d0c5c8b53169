"""What has to come from the hub before a video can be made: listed with its size before any of it is fetched.
Of a repository only the folders of the parts in use are listed, as only they are fetched (`model/hub.py`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from model.hub import split_source


@dataclass(frozen=True)
class Need:
    """A part, its source, and the folder of it that holds the part: the first of `inside` that is there."""

    part: str
    source: str
    inside: tuple[str, ...]


@dataclass(frozen=True)
class Listed:
    """A part on the hub: bytes of its files, and of those that are not here yet."""

    part: str
    source: str
    bytes: int
    missing: int


def announce(needs: Sequence[Need]) -> list[Listed]:
    """Say on stderr how much the hub has to give, if anything. Local folders need nothing.

    Raises FileNotFoundError naming a part that is not here and not to be had.
    """
    remote = [need for need in needs if split_source(need.source) is not None]
    if not remote:
        return []
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        _check_cached(remote, f"HF_HUB_OFFLINE is set and it is not in {constants.HF_HUB_CACHE}; unset it "
                              "once to fetch it, or give a local folder")
        return []
    sizes: dict[str, Mapping[str, int]] = {}
    try:
        for need in remote:
            repository, _ = _split(need)
            sizes[repository] = sizes.get(repository) or _list_files(repository)
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        _check_cached(remote, f"cannot be had from the hub ({first}); without a network give a local folder; "
                              "if it is gated, accept its terms there and log in with `hf auth login`")
        return []
    listed = [_listed(need, sizes[_split(need)[0]]) for need in remote]
    if any(found.missing for found in listed):
        print(describe(listed), file=sys.stderr, flush=True)
    return listed


def describe(listed: Iterable[Listed]) -> str:
    """Their sum, and one line a part that has to come."""
    coming = [found for found in listed if found.missing]
    total = sum(found.missing for found in coming)
    lines = [f"  {found.missing / 1e9:8.2f} GB  {found.part}: {found.source}" for found in coming]
    return "\n".join([f"to be fetched from the hub, once: {total / 1e9:.2f} GB", *lines])


def wanted(folder: str, inside: Sequence[str], files: Iterable[str]) -> list[str]:
    """Of a repository's files those that `model.hub.fetch` brings for a part in `folder`."""
    files = list(files)
    places = [f"{folder}/{name}".strip("/") for name in inside]
    for place in [place for place in places if place] + ([folder] if folder else []):
        if found := [file for file in files if file == place or file.startswith(f"{place}/")]:
            return found
    return [file for file in files if "/" not in file] if not folder else []


def _listed(need: Need, sizes: Mapping[str, int]) -> Listed:
    from huggingface_hub import try_to_load_from_cache

    repository, folder = _split(need)
    files = wanted(folder, need.inside, sizes)
    missing = [file for file in files if not isinstance(try_to_load_from_cache(repository, file), str)]
    return Listed(need.part, need.source, sum(sizes[file] for file in files), sum(sizes[f] for f in missing))


def _list_files(repository: str) -> dict[str, int]:
    """Bytes of every file of a repository."""
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    return {entry.path: entry.size for entry in HfApi().list_repo_tree(repository, recursive=True)
            if isinstance(entry, RepoFile)}


def _check_cached(needs: Sequence[Need], otherwise: str) -> None:
    """Raises FileNotFoundError for the first part of which nothing is in the hub's cache."""
    from huggingface_hub import snapshot_download

    for need in needs:
        repository, folder = _split(need)
        try:
            here = Path(snapshot_download(repository, local_files_only=True))
        except Exception:
            files: list[str] = []
        else:
            files = [str(path.relative_to(here)) for path in here.rglob("*") if path.is_file()]
        if not wanted(folder, need.inside, files):
            raise FileNotFoundError(f"{need.part}: {need.source}: {otherwise}")


def _split(need: Need) -> tuple[str, str]:
    found = split_source(need.source)
    assert found is not None
    return found
