"""What the page asks for, as HTTP: docs/qa.md. Reads the data set, and writes nothing but verdicts."""

from __future__ import annotations

import threading
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, FastAPI, Header, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles

from annotate.filters import Thresholds
from dataset.clip import ClipRecord, Kind
from dataset.store import Store, StoreError
from dataset.verdicts import VerdictBook, VerdictsError
from infer.serve.door import Door
from pipelines.qa import clip, media, rules, scatter, selection, tally
from pipelines.qa.asks import AtLimit, Cut, Draw, Ids, Limits, Piece, Said
from pipelines.qa.index import ClipIndex, QuestionError
from pipelines.qa.live import live
from pipelines.qa.media import RangeError, Unplayable
from pipelines.qa.overview import overview

PAGE = Path(str(files("pipelines.qa"))) / "page"
_TYPES = {"mp4": "video/mp4", "json": "application/json"}
_DRAWN, _LISTED = 2000, 60
_POLICY = ("default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; "
           "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
_ASK_AGAIN = {"cache-control": "no-cache"}
_IMMUTABLE = {"cache-control": "private, max-age=86400"}


class Desk:
    """What the answers are made from: index, verdicts, pictures, and what is remembered between them."""

    def __init__(self, store: Store, reviewer: str) -> None:
        self.store, self.reviewer = store, reviewer
        self.book = VerdictBook(store)
        self.index = ClipIndex(store)
        self.pictures = media.Pictures(store)
        self._lock = threading.Lock()
        self._overview: tuple[int, dict[str, Any]] = (-1, {})
        self._scatter: tuple[int, scatter.Scatter] | None = None

    @property
    def stored(self) -> Thresholds:
        """The thresholds that the stored verdicts follow."""
        return rules.thresholds_from(self.index.snapshot.description.thresholds or {})

    def overview(self) -> dict[str, Any]:
        """Counted once for every state of the index."""
        with self._lock:
            version = self.index.version
            if self._overview[0] != version:
                self._overview = version, overview(self.index)
            return self._overview[1] | {"reviewer": self.reviewer, "notices": self.index.snapshot.notices,
                                        "version": version}

    def scatter(self) -> scatter.Scatter:
        with self._lock:
            snapshot = self.index.snapshot
            if self._scatter is None or self._scatter[0] != id(snapshot):
                self._scatter = id(snapshot), scatter.Scatter(snapshot)
            return self._scatter[1]

    def record(self, clip_id: str) -> ClipRecord:
        """Raises KeyError."""
        found = self.index.record(clip_id)
        if found is None:
            raise KeyError(f"clip {clip_id}: the index has no row of that name")
        return found


def make_app(desk: Desk, token: str | None) -> FastAPI:
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.include_router(_numbers(desk), prefix="/api")
    app.include_router(_clips(desk), prefix="/api")
    app.include_router(_verdicts(desk), prefix="/api")
    for kind, status in ((QuestionError, 400), (ValueError, 400), (KeyError, 404), (Unplayable, 404),
                         (VerdictsError, 400), (StoreError, 507)):
        app.add_exception_handler(kind, _told(status))

    @app.get("/plotly.js")
    def plotly() -> Response:
        try:
            import plotly
        except ImportError:
            return Response("the 3-D view needs plotly: pip install plotly", 404)
        source = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
        return Response(source.read_bytes(), media_type="text/javascript", headers=_IMMUTABLE)

    app.mount("/", StaticFiles(directory=PAGE, html=True))
    app.add_middleware(Door, token=token, cookie="sana_wm_qa", policy=_POLICY)
    return app


def _told(status: int) -> Any:
    async def answer(request: Request, error: Exception) -> JSONResponse:
        sentence = error.args[0] if isinstance(error, KeyError) else str(error)
        return JSONResponse({"message": sentence}, status)

    return answer


def _numbers(desk: Desk) -> APIRouter:
    """Counts, histograms, thresholds, the map."""
    api = APIRouter()

    @api.get("/overview")
    def of_all() -> dict[str, Any]:
        return desk.overview()

    @api.get("/live")
    def of_the_run() -> dict[str, Any]:
        return live(desk.index)

    @api.get("/thresholds")
    def thresholds() -> dict[str, Any]:
        return {"stored": desk.stored, "presets": rules.presets()}

    @api.get("/thresholds/{name}")
    def preset(name: str) -> Thresholds:
        return rules.preset(name)

    @api.post("/thresholds.yaml")
    def as_file(asked: Limits) -> Response:
        text = rules.to_yaml(rules.thresholds_from(asked.thresholds), desk.store.url)
        return Response(text, media_type="text/yaml")

    @api.post("/tally")
    def counted(asked: Cut) -> dict[str, Any]:
        return tally.tally(desk.index, rules.thresholds_from(asked.thresholds), asked.filter)

    @api.post("/histograms")
    def drawn(asked: Cut) -> list[dict[str, Any]]:
        return tally.histograms(desk.index, rules.thresholds_from(asked.thresholds), asked.filter)

    @api.post("/edge")
    def edge(asked: AtLimit) -> dict[str, Any]:
        return tally.at_limit(desk.index, asked.filter, asked.score, asked.limit, asked.upper)

    @api.get("/map")
    def plane() -> dict[str, Any]:
        found = desk.scatter()
        points, axes = found.plane
        return {"axes": axes, "count": len(points), "version": desk.index.version}

    @api.get("/map/points")
    def points() -> Response:
        """For every point x, y as float32, then of all of them the row of the snapshot as uint32."""
        found = desk.scatter()
        body = found.plane[0].astype("<f4").tobytes() + found.rows.astype("<u4").tobytes()
        return Response(body, media_type="application/octet-stream", headers=_ASK_AGAIN)

    @api.get("/map/states")
    def states() -> Response:
        """For every row of the snapshot a byte: 0 failed, 1 rejected, 2 kept."""
        found = desk.index.ask("select case final when 'kept' then 2 when 'rejected' then 1 else 0 end "
                               "from clips order by row")
        return Response(np.array(found, np.uint8).tobytes(), media_type="application/octet-stream",
                        headers=_ASK_AGAIN)

    @api.get("/map/row/{row}")
    def at_row(row: int) -> dict[str, str]:
        if not 0 <= row < desk.index.snapshot.table.num_rows:
            raise KeyError(f"row {row}: the index has none of that number")
        return {"clip_id": desk.index.snapshot.table["clip_id"][row].as_py()}

    @api.get("/outliers")
    def outliers() -> list[dict[str, Any]]:
        return desk.scatter().outliers(_LISTED)

    @api.get("/pairs")
    def pairs() -> list[dict[str, Any]]:
        return desk.scatter().look_alikes(_LISTED, desk.pictures, desk.record)

    return api


def _clips(desk: Desk) -> APIRouter:
    """Rows, and the files of one clip."""
    api = APIRouter()

    @api.post("/rows")
    def table(asked: Piece) -> dict[str, Any]:
        return selection.rows(desk.index, asked.filter, asked.sort, asked.down, asked.offset, asked.limit)

    @api.post("/sample")
    def sample(asked: Draw) -> list[str]:
        return selection.draw(desk.index, asked.filter, min(asked.count, _DRAWN), asked.seed)

    @api.post("/clips.csv")
    def as_csv(asked: Ids) -> Response:
        return Response(selection.to_csv(desk.index, asked.ids[:_DRAWN]), media_type="text/csv")

    @api.post("/clip/{clip_id}")
    def about(clip_id: str, asked: Limits) -> dict[str, Any]:
        return clip.describe(desk.index, desk.record(clip_id), rules.thresholds_from(asked.thresholds))

    @api.get("/clip/{clip_id}/health")
    def health(clip_id: str) -> list[dict[str, Any]]:
        return media.health(desk.store, desk.record(clip_id))

    @api.get("/clip/{clip_id}/path")
    def path(clip_id: str) -> dict[str, Any]:
        record = desk.record(clip_id)
        has_truth = any(member.name.endswith(".truth.npz") for member in record.members)
        truth = media.track_of(desk.store, record, "truth.npz") if has_truth else None
        return clip.path(media.track_of(desk.store, record), truth, record)

    @api.get("/clip/{clip_id}/cloud")
    def cloud(clip_id: str) -> dict[str, Any]:
        record = desk.record(clip_id)
        return clip.cloud(media.track_of(desk.store, record), media.depth_of(desk.store, record))

    @api.get("/clip/{clip_id}/depth")
    def depth(clip_id: str) -> dict[str, Any]:
        maps = media.depth_of(desk.store, desk.record(clip_id))
        known = [float(np.median(d[v])) if v.any() else None for d, v in zip(maps.depth, maps.valid)]
        return {"frames": maps.frames.tolist(), "range": media.depth_range(maps), "median": known,
                "valid": [float(v.mean()) for v in maps.valid]}

    @api.get("/clip/{clip_id}/depth/{place}.png")
    def depth_picture(clip_id: str, place: int) -> Response:
        maps = media.depth_of(desk.store, desk.record(clip_id))
        if not 0 <= place < len(maps.frames):
            raise KeyError(f"clip {clip_id}: depth map {place}, there are {len(maps.frames)}")
        return Response(media.depth_png(maps, place), media_type="image/png", headers=_IMMUTABLE)

    @api.get("/clip/{clip_id}/strip/{count}.jpg")
    def strip(clip_id: str, count: int) -> Response:
        if not 1 <= count <= 12:
            raise ValueError(f"pictures={count}, allowed 1 to 12")
        return Response(desk.pictures.strip(desk.record(clip_id), count), media_type="image/jpeg",
                        headers=_IMMUTABLE)

    @api.get("/clip/{clip_id}/file/{name}")
    def file(
        clip_id: str, name: str, range: Annotated[str | None, Header()] = None,
        if_range: Annotated[str | None, Header()] = None,
    ) -> Response:
        record = desk.record(clip_id)
        member = media.member_of(record, name)
        assert record.shard is not None  # what has members has a shard
        headers = {"accept-ranges": "bytes", "etag": f'"{member.sha256}"', "cache-control": "no-cache"}
        try:
            is_same = if_range in (None, headers["etag"])  # else what the asker has is of another file
            asked = media.byte_range(range, member.size) if is_same else None
        except RangeError:
            return Response(status_code=416, headers=headers | {"content-range": f"bytes */{member.size}"})
        start, end = asked or (0, member.size)
        headers["content-length"] = str(end - start)
        if asked:
            headers["content-range"] = f"bytes {start}-{end - 1}/{member.size}"
        return StreamingResponse(
            media.stream(desk.store, record.shard, member, start, end), 206 if asked else 200, headers,
            _TYPES.get(name, "application/octet-stream"))

    return api


def _verdicts(desk: Desk) -> APIRouter:
    """The one thing that is written."""
    api = APIRouter()

    @api.post("/verdict")
    def judge(asked: Said) -> dict[str, Any]:
        if desk.record(asked.clip_id).kind is not Kind.CLIP:
            raise QuestionError(f"{asked.clip_id} made no clip: there is nothing to keep or to reject")
        said = desk.book.add(asked.clip_id, asked.verdict, asked.note, asked.reviewer)
        desk.index.note(said)
        return {"judged": said.verdict, "note": said.note, "reviewer": said.reviewer, "judged_at": said.time}

    return api
