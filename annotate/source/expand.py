"""What `src=` means: a file, a folder, a glob, any of them at a URL, a manifest, a published set, or
synthetic video.

Everything that can be known without opening a video is checked here, before any work starts.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from pathlib import PurePosixPath

import fsspec

from annotate.source.filesystem import filesystem
from annotate.source.item import Layout, SourceConfig, SourceItem
from annotate.source.layouts import expand_layout
from annotate.source.manifest import read_manifest

log = logging.getLogger(__name__)

MANIFEST_SUFFIXES = (".csv", ".jsonl", ".ndjson", ".parquet")


def expand(src: str, config: SourceConfig) -> list[SourceItem]:
    """All videos that `src` stands for, in a fixed order.

    With `config.layout` it is the folder of a published set, or the table in it. Otherwise a folder is
    searched recursively for `config.suffixes`; a file is taken whatever its suffix, unless it is that of a
    manifest or of a scene of splats (.ply). Raises ValueError when nothing is there, a manifest is wrong (all
    its errors at once), or a URL needs a package that is not installed.
    """
    if src == "synthetic" or src.startswith("synthetic://"):
        return _synthetic(src, config)
    fs, path = filesystem(src)
    if config.layout is Layout.none and path.lower().endswith(".ply") and not _is_pattern(fs, path):
        config = dataclasses.replace(config, layout=Layout.splats)
    is_manifest = config.layout is Layout.none and PurePosixPath(path).suffix.lower() in MANIFEST_SUFFIXES
    if is_manifest and not _is_pattern(fs, path):
        return read_manifest(src, config)
    try:
        items = _find(src, fs, path, config) if config.layout is Layout.none else expand_layout(src, config)
    except ValueError:
        raise
    except Exception as error:  # each file system raises its own kinds
        raise ValueError(f"src={src}: cannot be listed: {type(error).__name__}: {error}") from error
    return items


def _synthetic(src: str, config: SourceConfig) -> list[SourceItem]:
    from annotate.synthetic import SyntheticSpec, demo_items

    uris = demo_items() if src == "synthetic" else [src]
    for uri in uris:
        SyntheticSpec.parse(uri)
    name = config.name or "synthetic"
    return [SourceItem(uri, uri.removeprefix("synthetic://"), licence=config.licence, source=name,
                       given=config.given) for uri in uris]


def _find(src: str, fs: fsspec.AbstractFileSystem, path: str, config: SourceConfig) -> list[SourceItem]:
    if _is_pattern(fs, path):
        found = sorted(str(p) for p in fs.glob(path) if not fs.isdir(p))
        base = path[: min(path.index(c) for c in "*?[" if c in path)].rpartition("/")[0]
        what = "the pattern matches"
    elif _is_folder(fs, path):
        found, base, what = sorted(fs.find(path)), path.rstrip("/"), "the folder holds"
    elif fs.exists(path):
        return [_item(fs, path, PurePosixPath(path).stem, config)]
    else:
        raise ValueError(f"src={src}: no such file or folder")
    suffixes = {s.lower() for s in config.suffixes}
    videos = [p for p in found if PurePosixPath(p).suffix.lower() in suffixes
              and not PurePosixPath(p).name.startswith(".")]
    others = len(found) - len(videos)
    if not videos:
        scenes = any(p.lower().endswith(".ply") for p in found)
        hint = "For scenes of splats: source.layout=splats" if scenes else (
            "Name other endings with source.suffixes")
        raise ValueError(f"src={src}: {what} no video, only {others} other files; a video ends in "
                         f"{' '.join(config.suffixes)}. {hint}")
    if others:
        log.info("src=%s: %d videos; %d other files passed over", src, len(videos), others)
    ids = [p.removeprefix(base).lstrip("/").removesuffix(PurePosixPath(p).suffix) for p in videos]
    return [_item(fs, p, name, config) for p, name in zip(videos, ids)]


def _item(fs: fsspec.AbstractFileSystem, path: str, name: str, config: SourceConfig) -> SourceItem:
    local = "file" in fs.protocol if isinstance(fs.protocol, tuple) else fs.protocol == "file"
    uri = os.path.abspath(path) if local else fs.unstrip_protocol(path)
    return SourceItem(uri, name, licence=config.licence, source=config.name, given=config.given)


def _is_pattern(fs: fsspec.AbstractFileSystem, path: str) -> bool:
    if path.startswith(("http://", "https://")):
        return "*" in path  # "?" starts a query there, "[" an address
    return any(c in path for c in "*?[") and not fs.exists(path)


def _is_folder(fs: fsspec.AbstractFileSystem, path: str) -> bool:
    if path.startswith(("http://", "https://")):
        return path.endswith("/")
    return bool(fs.isdir(path))
