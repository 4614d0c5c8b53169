"""Published sets as sources: each file here knows one set's folders, sidecars and conventions.

`expand_layout` lists a set's videos without opening any; `load_given` reads the cameras and depth of one, in
the worker that cuts it, so that a bad sidecar costs its own video and no other.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from annotate.decode import VideoInfo
from annotate.source.cameras import load_depth, load_intrinsics, load_poses
from annotate.source.item import Layout, SourceConfig, SourceItem
from annotate.source.layouts import dl3dv, miradata, omniworld, sekai, spatialvid, splats
from annotate.source.layouts.folder import Folder
from annotate.source.layouts.given import Given
from annotate.source.pictures import Lens, write_pictures

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reader:
    """What is known of a published set. `licence` is recorded on every row unless the user states one."""

    licence: str | None
    items: Callable[[Folder, SourceConfig], list[SourceItem]]
    cameras: Callable[[SourceItem, VideoInfo], Given] = lambda item, info: Given()
    pictures: Callable[[SourceItem], list[str]] | None = None  # addresses in order, of sets of pictures
    lens: Callable[[SourceItem, tuple[int, int]], Lens | None] = lambda item, size: None


READERS: dict[Layout, Reader] = {
    Layout.spatialvid: Reader("CC-BY-NC-SA-4.0", spatialvid.items, spatialvid.cameras),
    Layout.dl3dv: Reader("DL3DV-10K terms of use (non-commercial)", dl3dv.items, dl3dv.cameras,
                         dl3dv.picture_files, dl3dv.lens),
    Layout.omniworld: Reader("CC-BY-NC-SA-4.0", omniworld.items, omniworld.cameras, omniworld.picture_files),
    Layout.sekai_game: Reader("Sekai licence (non-commercial research)", sekai.items, sekai.cameras),
    Layout.sekai_walking: Reader("Sekai licence (non-commercial research); video: YouTube's terms",
                                 sekai.items, sekai.cameras),
    Layout.miradata: Reader("GPL-3.0 (captions and time stamps); video: its host's terms", miradata.items,
                            miradata.cameras),
    Layout.splats: Reader(None, splats.items),
}


def expand_layout(src: str, config: SourceConfig) -> list[SourceItem]:
    """The videos of the published set in the folder `src`, in a fixed order, each with its licence.

    Raises ValueError where the folder does not hold such a set.
    """
    reader = READERS[config.layout]
    found = reader.items(Folder(src), config)
    if not found:
        raise ValueError(f"src={src}: no video of layout {config.layout} there; docs/sources.md shows which "
                         "files are expected where")
    licence, name = config.licence or reader.licence, config.name or str(config.layout)
    log.info("src=%s: %d videos of %s", src, len(found), config.layout)
    return [dataclasses.replace(item, licence=licence, source=name, layout=config.layout) for item in found]


def load_given(item: SourceItem, info: VideoInfo) -> Given:
    """The cameras and depth that come with a source, in the house conventions. Raises BadCameras."""
    if item.layout is Layout.none:
        return Given(load_intrinsics(item, info), load_poses(item, info), load_depth(item, info))
    return READERS[item.layout].cameras(item, info)


def join_pictures(path: Path, item: SourceItem) -> str:
    """Write the pictures of a source as a video; returns a hash of their bytes. Raises BadCameras."""
    reader = READERS[item.layout]
    assert item.pictures is not None and reader.pictures is not None
    uris = reader.pictures(item)
    return write_pictures(path, item.pictures.fps, uris, lambda size: reader.lens(item, size))
