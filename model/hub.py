"""Finds released files: in a local folder, or on the Hugging Face hub, from where they come on first use."""

from __future__ import annotations

import re
from pathlib import Path


def fetch(source: str | Path, inside: str, what: str) -> Path:
    """The local file or folder `inside` of `source`.

    source: a folder that holds `inside`, or is it; or a hub repository "owner/name"; or, where the release
            named it otherwise, a place in one, "owner/name/place".
    inside: "" is all of it.
    what:   what is being loaded, for the message.
    """
    local = Path(source).expanduser()
    if local.exists():
        return local / inside if (local / inside).exists() else local
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*(/[\w./-]+)?", str(source)):
        raise FileNotFoundError(f"{what}: there is no {source}, and it is no hub repository (owner/name).\n"
                                "  Give the folder that holds the released files.")
    from huggingface_hub import snapshot_download
    owner, name, *place = str(source).split("/", 2)
    inside = place[0].rstrip("/") if place else inside
    try:
        wanted = [inside, f"{inside}/*"] if inside else None
        root = snapshot_download(f"{owner}/{name}", allow_patterns=wanted)
    except Exception as error:
        raise FileNotFoundError(
            f"{what}: cannot get {inside or 'all'} of {owner}/{name} from the hub: {error}.\n"
            "  Without a network, copy it here and give its folder. If it is gated, accept its terms on the "
            "hub and log in with `hf auth login`.") from error
    return Path(root) / inside
