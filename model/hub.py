"""Finds released files: in a local folder, or on the Hugging Face hub, from where they come on first use."""

from __future__ import annotations

import re
from pathlib import Path


def fetch(source: str | Path, inside: str, what: str) -> Path:
    """The local file or folder `inside` of `source`, or `source` where that is what `inside` names.

    source: a folder, a hub repository "owner/name", or a folder of one, "owner/name/folder".
    inside: "" is the source itself.
    what:   what is being loaded, for the message.
    """
    local = Path(source).expanduser()
    if local.exists():
        return local / inside if (local / inside).exists() else local
    on_hub = split_source(source)
    if on_hub is None:
        raise FileNotFoundError(f"{what}: there is no {source}, and it is no hub repository (owner/name).\n"
                                "  Give the folder that holds the released files.")
    repository, folder = on_hub
    for place in dict.fromkeys([f"{folder}/{inside}".strip("/"), folder]):
        found = _download(repository, place, what)
        if found.is_file() or (found.is_dir() and any(found.iterdir())):
            return found
    raise FileNotFoundError(f"{what}: {repository} on the hub holds no {inside or folder or 'files'}.\n"
                            "  Name the folder that does, as owner/name/folder.")


def split_source(source: str | Path) -> tuple[str, str] | None:
    """Repository and the folder inside of it that a source on the hub names; None for one that is local, or
    that names neither."""
    if Path(source).expanduser().exists():
        return None
    match = re.fullmatch(r"(\w[\w.-]*/\w[\w.-]*)/?([\w./-]*)", str(source))
    return None if match is None else (match[1], match[2].strip("/"))


def _download(repository: str, place: str, what: str) -> Path:
    """What `place` of a repository holds; of the top, the files alone: beside them lie other models."""
    from huggingface_hub import snapshot_download
    try:
        if place:
            return Path(snapshot_download(repository, allow_patterns=[place, f"{place}/*"])) / place
        return Path(snapshot_download(repository, ignore_patterns=["*/*"]))
    except Exception as error:
        raise FileNotFoundError(
            f"{what}: cannot get {place or 'the files'} of {repository} from the hub: {error}\n"
            "  Without a network, copy them here and give their folder. If they are gated, accept the terms "
            "on the hub and log in with `hf auth login`.") from error
