"""What the server answers: files out of the shards, damage, verdicts, and who may ask."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dataset.clip import CameraTrack, Kind
from dataset.reader import read_files
from dataset.store import Store
from dataset.verdicts import VERDICTS, in_force, read_history
from pipelines.qa.index import ClipIndex
from pipelines.qa.media import RangeError, byte_range
from tests.tiny_dataset import clip_name

ID = clip_name(3)


def bytes_of(store: Store, name: str, clip_id: str = ID) -> bytes:
    record = ClipIndex(store).record(clip_id)
    assert record is not None
    return read_files(store, record, [name])[name]


def test_a_member_comes_byte_for_byte_whole_and_in_ranges(shared_set: Store, open_page):
    page, video = open_page(shared_set), bytes_of(shared_set, "mp4")
    whole = page.get(f"/api/clip/{ID}/file/mp4")
    assert (whole.status_code, whole.content) == (200, video)
    assert whole.headers["content-type"] == "video/mp4" and whole.headers["accept-ranges"] == "bytes"
    for asked, start, end in (("bytes=0-0", 0, 1), ("bytes=7-99", 7, 100), ("bytes=40-", 40, len(video)),
                              ("bytes=-9", len(video) - 9, len(video)), ("bytes=5-999999999", 5, len(video))):
        part = page.get(f"/api/clip/{ID}/file/mp4", headers={"range": asked})
        assert (part.status_code, part.content) == (206, video[start:end])
        assert part.headers["content-range"] == f"bytes {start}-{end - 1}/{len(video)}"
        assert int(part.headers["content-length"]) == end - start
    beyond = page.get(f"/api/clip/{ID}/file/mp4", headers={"range": f"bytes={len(video)}-"})
    assert beyond.status_code == 416 and beyond.headers["content-range"] == f"bytes */{len(video)}"


def test_ranges_read_as_the_standard_says():
    assert byte_range(None, 10) is byte_range("bytes=0-1,4-5", 10) is byte_range("lines=1-2", 10) is None
    assert byte_range("bytes=-20", 10) == (0, 10)
    for wrong in ("bytes=10-", "bytes=5-3", "bytes=-0"):
        with pytest.raises(RangeError):
            byte_range(wrong, 10)


def test_nothing_outside_the_clips_can_be_read(scored_set: Store, open_page):
    scored_set.write("secret.txt", b"secret")
    page = open_page(scored_set)
    for path in ("/api/clip/../../secret.txt/file/mp4", f"/api/clip/{ID}/file/..%2f..%2fsecret.txt",
                 "/%2e%2e/app.py", "/..%2fapp.py", "/../../secret.txt", "/%2fetc/hostname",
                 f"/api/clip/{ID}/file/%2fetc%2fhostname", "/api/clip/%2e%2e/strip/1.jpg"):
        answer = page.get(path)
        assert answer.status_code in (404, 405)
        assert b"secret" not in answer.content.replace(b"secret.txt", b"")
    for method in ("put", "patch", "delete"):
        assert getattr(page, method)(f"/api/clip/{ID}/file/mp4").status_code == 405
    assert page.get("/").status_code == page.get("/app.js").status_code == 200


def test_damage_is_shown_as_such_and_breaks_nothing(scored_set: Store, open_page):
    index = ClipIndex(scored_set)
    record, intact = index.record(ID), index.record(clip_name(0))
    assert record is not None and record.shard is not None
    assert intact is not None and intact.shard != record.shard
    page, shard = open_page(scored_set), scored_set.local_path(record.shard)
    assert shard is not None
    data = bytearray(shard.read_bytes())
    video = next(member for member in record.members if member.name.endswith(".mp4"))
    data[video.offset + 30] ^= 255
    shard.write_bytes(data)
    faults = {one["member"]: one["fault"] for one in page.get(f"/api/clip/{ID}/health").json()}
    assert "do not match their checksum" in faults["mp4"] and faults["camera.npz"] is None
    shard.write_bytes(data[: record.members[0].offset + 10])
    for path in ("path", "depth", "strip/6.jpg", "file/mp4", "cloud"):
        answer = page.get(f"/api/clip/{ID}/{path}")
        assert answer.status_code == 404 and ("damaged" in answer.text or "truncated" in answer.text)
    shard.unlink()
    answer = page.get(f"/api/clip/{ID}/file/mp4")
    assert answer.status_code == 404 and "there is no such shard" in answer.json()["message"]
    assert page.get(f"/api/clip/{clip_name(0)}/strip/1.jpg").status_code == 200
    page.desk.index.refresh()
    assert page.post("/api/rows", json={"filter": {"trouble": True}}).json()["total"] == 3
    assert "missing shard" in page.get("/api/overview").json()["notices"][0]


def test_pictures_and_depth_show_the_clip(shared_set: Store, open_page):
    page = open_page(shared_set)
    wide = cv2.imdecode(np.frombuffer(page.get(f"/api/clip/{ID}/strip/3.jpg").content, np.uint8), 1)
    assert wide is not None and wide.shape[1] == 3 * 320
    told = page.get(f"/api/clip/{ID}/depth").json()
    assert told["frames"] == [0, 16] and 2 <= told["range"][0] < told["range"][1] <= 9
    png = cv2.imdecode(np.frombuffer(page.get(f"/api/clip/{ID}/depth/1.png").content, np.uint8),
                       cv2.IMREAD_UNCHANGED)
    assert png is not None and png.shape == (8, 12, 4)
    assert (png[0, :, 3] == 0).all() and (png[1:, :, 3] == 255).all()  # the top row is not known
    near, far = png[1, 0].astype(int), png[-1, 0].astype(int)
    assert near[2] > near[0] and far[0] > far[2]  # near is red, far is blue
    assert page.get(f"/api/clip/{ID}/depth/9.png").status_code == 404
    assert page.get(f"/api/clip/{ID}/strip/99.jpg").status_code == 400


def test_the_path_of_a_clip_is_that_of_its_cameras(shared_set: Store, open_page):
    told = open_page(shared_set).get(f"/api/clip/{ID}/path").json()
    track = CameraTrack.from_npz(bytes_of(shared_set, "camera.npz"))
    assert np.allclose(np.array(told["c2w"]).reshape(-1, 3, 4), track.c2w[:, :3], atol=1e-6)
    assert told["unit"] == "m" and told["scale"] == 1.0 and told["verdicts"] == ["given"] * 17
    steps = np.linalg.norm(np.diff(track.c2w[:, :3, 3], axis=0), axis=1) * 16
    assert told["speed"][0] is None and np.allclose(told["speed"][1:], steps, atol=1e-5)


def test_a_clips_page_says_verdict_reasons_place_and_provenance(shared_set: Store, open_page):
    page = open_page(shared_set)
    stored = page.get("/api/thresholds").json()["stored"]
    told = page.post(f"/api/clip/{clip_name(0)}", json={"thresholds": stored}).json()
    assert told["verdict"] == told["final"] == "rejected" and told["reasons"] == ["flow_dis<2"]
    assert told["provenance"]["uri"] == "/videos/0.mp4" and told["caption"].startswith("a red room")
    assert set(told["members"]) == {"mp4", "camera.npz", "depth.npz", "json"}
    assert told["percentiles"]["flow_dis"] == 0
    looser = page.post(f"/api/clip/{clip_name(0)}", json={"thresholds": {}}).json()
    assert looser["rules"]["verdict"] == "kept" and looser["verdict"] == "rejected"
    unknown = page.post("/api/clip/nobody", json={"thresholds": {}})
    assert unknown.status_code == 404 and "no row of that name" in unknown.json()["message"]
    wrong = page.post("/api/tally", json={"thresholds": {"flow": {"min": 1}}})
    assert wrong.status_code == 400 and "thresholds.flow" in wrong.json()["message"]


def test_a_verdict_is_on_disk_when_the_answer_comes(scored_set: Store, open_page):
    page = open_page(scored_set)
    body = {"clip_id": ID, "verdict": "reject", "note": "a hand", "reviewer": "Ada"}
    answer = page.post("/api/verdict", json=body).json()
    said = in_force(read_history(scored_set))[ID]
    assert (said.verdict, said.note, said.reviewer) == ("reject", "a hand", "Ada")
    assert said.time == answer["judged_at"]
    row = page.post("/api/rows", json={"filter": {"ids": [ID]}}).json()["rows"][0]
    assert (row["verdict"], row["final"], row["judged"]) == ("kept", "rejected", "reject")
    assert page.get("/api/overview").json()["said"]["against"] == 1
    for wrong, status in (({**body, "clip_id": "x"}, 404), ({**body, "verdict": "maybe"}, 422),
                          ({**body, "reviewer": " "}, 400)):
        assert page.post("/api/verdict", json=wrong).status_code == status
    assert len(scored_set.list(VERDICTS)) == 1


def test_what_is_no_clip_cannot_be_judged(scored_set: Store, open_page):
    from dataset.clip import ClipRecord
    from dataset.shards import ShardWriter

    with ShardWriter(scored_set, "kept") as writer:
        writer.commit([ClipRecord("tail", "video0", Kind.SPAN)])
    body = {"clip_id": "tail", "verdict": "keep", "reviewer": "Ada"}
    answer = open_page(scored_set).post("/api/verdict", json=body)
    assert answer.status_code == 400 and "made no clip" in answer.json()["message"]


def test_the_filter_file_and_a_sample_can_be_taken_away(shared_set: Store, open_page):
    page = open_page(shared_set)
    text = page.post("/api/thresholds.yaml", json={"thresholds": {"flow_dis": {"min": 3, "max": None}}}).text
    assert "flow_dis: {min: 3.0}" in text and "missing: reject" in text
    ids = page.post("/api/sample", json={"filter": {"final": "kept"}, "count": 2, "seed": 5}).json()
    lines = page.post("/api/clips.csv", json={"ids": ids}).text.splitlines()
    assert [line.split(",")[0] for line in lines] == ["clip_id", *ids]


def test_only_this_machine_under_its_own_name_and_its_own_page_are_answered(shared_set: Store, open_page):
    page = open_page(shared_set)
    for host in ("localhost", "127.0.0.1:8321", "127.0.0.2:8321", "[::1]:8321", "[::1]"):
        assert page.get("/api/live", headers={"host": host}).status_code == 200
    assert page.get("/api/live", headers={"host": "rebound.example:8321"}).status_code == 403
    body = {"clip_id": ID, "verdict": "keep", "reviewer": "Mallory"}
    for origin in ("https://elsewhere.example", "null"):
        assert page.post("/api/verdict", json=body, headers={"origin": origin}).status_code == 403
    answer = page.get("/")
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


def test_with_a_token_nothing_is_answered_without_it(shared_set: Store, open_page):
    page = open_page(shared_set, token="a-long-secret")
    for path in ("/", "/app.js", "/api/overview", f"/api/clip/{ID}/file/mp4", "/api/live?token=wrong",
                 "/plotly.js"):
        assert page.get(path, headers={"host": "elsewhere"}).status_code == 401
    assert page.get("/?token=a-long-secret", headers={"host": "elsewhere"}).status_code == 200
    assert page.get("/api/overview").status_code == 200  # the cookie
