"""What the report shows of a data set: its numbers, and a sample of clips with pictures and paths."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from dataset.catalog import Description, read_description, read_index
from dataset.clip import CameraTrack, ClipRecord, Kind, from_row
from dataset.funnel import Funnel, funnel
from dataset.pose_error import PoseError, pose_error
from dataset.reader import SampleError, read_files
from dataset.report.charts import Bounds, path_svg
from dataset.report.choose import Edge, edges, sample
from dataset.store import Store

_PICTURES = 6
_WIDTH = 320
_QUALITY = 72


@dataclass
class Card:
    """A clip to look at: pictures side by side in one JPEG, and its path from above."""

    record: ClipRecord
    strip: str | None  # base64 JPEG, `pictures` frames from left to right
    pictures: int
    aspect: float  # of one picture, width / height
    path: str  # SVG
    error: PoseError | None


@dataclass
class ReportData:
    """Everything the page is made of."""

    description: Description
    index: pa.Table
    funnel: Funnel
    cards: list[Card]
    unread: list[str]  # why a clip could not be read from its shard
    edges: dict[str, list[Edge]]  # by column, the clips at its limits; all of them are among the cards
    errors: dict[str, PoseError]


def gather(
    store: Store, max_cards: int, bounds: Mapping[str, Bounds], errors: Mapping[str, PoseError],
) -> ReportData:
    """Read the index, and the shards only for a sample of clips. Raises CatalogError.

    A clip whose members cannot be read is named in `unread`: the report must not fail with the data set.
    """
    index = read_index(store)
    cards: list[Card] = []
    unread: list[str] = []
    at_edges = edges(index, bounds)
    chosen = sample(index, max_cards, [Kind.CLIP])
    chosen += [i for found in at_edges.values() for edge in found for i in edge.below + edge.above]
    for i in dict.fromkeys(chosen):
        record = from_row(index.slice(i, 1).to_pylist()[0])
        if record.shard is not None:
            try:
                cards.append(_card(store, record, errors.get(record.clip_id)))
            except (SampleError, ValueError) as error:
                unread.append(str(error))
    known = {card.record.clip_id: card.error for card in cards if card.error is not None} | dict(errors)
    return ReportData(read_description(store), index, funnel(index), cards, unread, at_edges, known)


def _card(store: Store, record: ClipRecord, error: PoseError | None) -> Card:
    files = read_files(store, record, ["mp4", "camera.npz", "truth.npz"])
    track = CameraTrack.from_npz(files["camera.npz"]) if "camera.npz" in files else None
    truth = CameraTrack.from_npz(files["truth.npz"]) if "truth.npz" in files else None
    if error is None and track is not None and truth is not None and track.failure is None:
        error = pose_error(track, truth)
    pictures = key_pictures(files["mp4"], _PICTURES) if "mp4" in files else []
    aspect = pictures[0].shape[1] / pictures[0].shape[0] if pictures else 16 / 9
    return Card(record, _strip(pictures), len(pictures), aspect,
                "" if track is None else path_svg(track, truth), error)


def key_pictures(mp4: bytes, count: int) -> list[np.ndarray]:
    """About `count` frames (h, w, 3) RGB spread over a clip, small. Only key frames are decoded: our clips
    have one a second, and the rest would cost twenty times as much."""
    import av
    import cv2

    pictures = []
    try:
        with av.open(io.BytesIO(mp4), "r") as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            height = round(_WIDTH * stream.codec_context.height / stream.codec_context.width)
            keys = [packet for packet in container.demux(stream) if packet.is_keyframe]
            chosen = np.unique(np.linspace(0, len(keys) - 1, count).round().astype(int))
            for packet in [*(keys[i] for i in chosen), None]:  # None: what the decoder holds back
                for frame in stream.codec_context.decode(packet):
                    picture = frame.to_ndarray(format="rgb24")
                    pictures.append(cv2.resize(picture, (_WIDTH, height), interpolation=cv2.INTER_AREA))
    except (av.FFmpegError, IndexError) as error:
        if not pictures:
            raise ValueError(f"the clip's video cannot be decoded: {error}") from error
    return pictures


def _strip(pictures: list[np.ndarray]) -> str | None:
    import cv2

    if not pictures:
        return None
    wide = np.concatenate(pictures, axis=1)
    bgr = cv2.cvtColor(wide, cv2.COLOR_RGB2BGR)
    _, jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return base64.b64encode(jpeg.tobytes()).decode()
