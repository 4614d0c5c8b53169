"""Brings a source to a local file and names it by its content."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from annotate.source.cameras import BadCameras
from annotate.source.filesystem import filesystem
from annotate.source.item import Layout, SourceItem
from annotate.source.layouts import join_pictures, splats
from annotate.source.layouts.given import Given
from annotate.synthetic import SyntheticSpec, SyntheticTruth, render_video
from dataset.clip import Verdict
from dataset.scratch import Scratch

BLOCK = 1 << 22
ATTEMPTS = 3


class FetchError(Exception):
    """A source that cannot be had, or is not wanted; `code` is short enough to count, the message is a
    sentence."""

    def __init__(self, code: str, reason: str, verdict: Verdict = Verdict.FAILED) -> None:
        super().__init__(reason)
        self.code = code
        self.verdict = verdict


@dataclass(frozen=True)
class LocalVideo:
    """A source as a local file, while the context that made it lasts."""

    path: Path
    video_id: str
    truth: SyntheticTruth | None = None  # of synthetic video only
    given: Given | None = None  # cameras that drew it; None: those that its source brought


@contextmanager
def local_video(item: SourceItem) -> Iterator[LocalVideo]:
    """The source as a local file: in place, copied once from its URL, joined from pictures, or rendered.

    `video_id` is a hash of all its bytes and of the stated start and end, so the same video has the same
    name wherever it lies. Raises FetchError after three attempts.
    """
    with Scratch("source") as folder:
        if item.fault is not None:
            raise FetchError("bad_sidecar", item.fault)
        if item.pictures is not None:
            path = folder / "video.mp4"
            try:
                content = join_pictures(path, item)
            except BadCameras as error:
                raise FetchError("bad_sidecar", str(error)) from None
            yield LocalVideo(path, video_id(item, content))
        elif item.splat is not None:
            path = folder / "video.mp4"
            content, given = _draw_splats(path, item)
            yield LocalVideo(path, video_id(item, content), given=given)
        elif item.is_synthetic:
            path = folder / "video.mp4"
            truth = render_video(path, SyntheticSpec.parse(item.uri))
            yield LocalVideo(path, video_id(item, _hash_file(path)), truth)
        elif "://" not in item.uri:
            try:
                content = _hash_file(Path(item.uri))
            except FileNotFoundError:
                raise FetchError("missing", f"{item.uri}: no such file") from None
            except OSError as error:
                raise FetchError("unreadable", f"{item.uri}: cannot be read: {error}") from None
            yield LocalVideo(Path(item.uri), video_id(item, content))
        else:
            name = PurePosixPath(item.uri.split("?")[0]).name[-100:]
            path = folder / (name or "video")
            content = _download(item.uri, path)
            yield LocalVideo(path, video_id(item, content))


def video_id(item: SourceItem, content: str) -> str:
    """Name of a source: 20 hex digits of its content (its address, if it could not be read), the stated span,
    and the cameras and depth stated for it, so that a corrected import makes new clips."""
    text = f"{content}|{item.start_s}|{item.end_s}"
    if item.poses or item.intrinsics or item.depth:
        cameras = (item.intrinsics, item.intrinsics_size, item.poses, item.depth)
        text += f"|{cameras}|{dataclasses.asdict(item.given)}"
    if item.layout is not Layout.none:
        text += f"|{item.layout}"
    if item.splat is not None:
        text += f"|{item.splat.identity}"
    return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()


def _draw_splats(path: Path, item: SourceItem) -> tuple[str, Given]:
    from annotate.splats.scene import NotWanted, SceneError

    try:
        return splats.draw(path, item)
    except NotWanted as error:
        raise FetchError(error.code, str(error), Verdict.REJECTED) from None
    except SceneError as error:
        raise FetchError(error.code, str(error)) from None


def _hash_file(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=32)
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _download(uri: str, path: Path) -> str:
    for attempt in range(ATTEMPTS):
        digest = hashlib.blake2b(digest_size=32)
        try:
            fs, remote = filesystem(uri)
            with fs.open(remote, "rb") as source, path.open("wb") as target:
                while block := source.read(BLOCK):
                    digest.update(block)
                    target.write(block)
            return digest.hexdigest()
        except FileNotFoundError:
            raise FetchError("missing", f"{uri}: no such file") from None
        except Exception as error:  # each file system raises its own kinds
            if _is_disk_full(error):
                raise
            if attempt == ATTEMPTS - 1:
                raise FetchError("unreachable", f"{uri}: cannot be read after {ATTEMPTS} attempts: "
                                 f"{type(error).__name__}: {error}") from error
    raise AssertionError("unreachable")


def _is_disk_full(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
