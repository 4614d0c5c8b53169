"""The clips as points of a plane, after their scores; outliers, and pairs that look like the same clip."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import pyarrow.compute as pc

from dataset.clip import Kind
from dataset.report.scores import SCORES, Score
from pipelines.qa.index import Snapshot
from pipelines.qa.media import Pictures, Unplayable

_LOOKS = ("saturation", "exposure", "sharpness", "dark_share", "bright_share", "flow_dis", "vmaf_motion",
          "fov_x_deg")
"""Scores of the picture: clips that agree in all of them may be the same."""
_FAR = 12.0  # robust deviations; what lies farther pulls the plane no harder
_HASH = 8


@dataclass
class Scatter:
    """Clips by their scores.

    rows (n,) of the snapshot; z (n, scores) robust deviations from the median, 0 where unmeasured.
    """

    snapshot: Snapshot

    @cached_property
    def rows(self) -> np.ndarray:
        return np.flatnonzero(pc.equal(self.snapshot.table["kind"], Kind.CLIP).to_numpy())

    @cached_property
    def scores(self) -> list[Score]:
        """Scores that differ between clips and that at least half of them have."""
        return [score for score in SCORES if score.column in self.snapshot.edges
                and np.isfinite(self._values(score)).mean() >= 0.5 and _spread(self._levels(score)) > 0]

    @cached_property
    def z(self) -> np.ndarray:
        columns = [np.nan_to_num((v - np.nanmedian(v)) / _spread(v)) for v in map(self._levels, self.scores)]
        return np.stack(columns, axis=1) if columns else np.zeros((len(self.rows), 0))

    @cached_property
    def plane(self) -> tuple[np.ndarray, list[str]]:
        """Points (n, 2): the two directions along which clips differ most, and what each is made of."""
        near = np.clip(self.z, -_FAR, _FAR)
        near = near - near.mean(0) if len(near) else near
        points, names = np.zeros((len(near), 2), np.float32), ["", ""]
        if near.shape[1] and len(near) > 1:
            _, vectors = np.linalg.eigh(near.T @ near / len(near))
            for axis, direction in enumerate(vectors.T[::-1][:2]):
                direction = direction * np.sign(direction[np.abs(direction).argmax()])
                points[:, axis] = near @ direction
                strongest = np.argsort(-np.abs(direction))[:3]
                names[axis] = ", ".join(f"{'+' if direction[i] > 0 else '−'} {self.scores[i].title}"
                                        for i in strongest)
        return points, names

    def outliers(self, count: int) -> list[dict[str, Any]]:
        """The clips that lie farthest from all others, by their mean square deviation, and why."""
        distance = np.sqrt(np.square(np.clip(self.z, -100, 100)).mean(1)) if self.z.size else np.zeros(0)
        found = []
        for place in np.argsort(-distance, kind="stable")[:count]:
            strongest = np.argsort(-np.abs(self.z[place]))[:3]
            found.append({"clip_id": self._id(place), "distance": float(distance[place]), "why": [
                f"{self.scores[i].title} {self.scores[i].text(float(self._values(self.scores[i])[place]))} "
                f"({self.z[place, i]:+.0f} σ)" for i in strongest if abs(self.z[place, i]) > 2]})
        return found

    @cached_property
    def pairs(self) -> list[tuple[int, int, float]]:
        """Places of clips that agree best in how they look, nearest first: each clip with its nearest."""
        from scipy.spatial import cKDTree

        columns = [i for i, score in enumerate(self.scores) if score.column in _LOOKS]
        if len(self.rows) < 2 or not columns:
            return []
        looks = self.z[:, columns]
        distance, other = cKDTree(looks).query(looks, k=2, workers=-1)
        own = np.arange(len(looks))
        other = np.where(other[:, 0] == own, other[:, 1], other[:, 0])
        low, high = np.minimum(own, other), np.maximum(own, other)
        order = np.argsort(distance[:, 1], kind="stable")
        unique = dict.fromkeys((int(low[i]), int(high[i]), float(distance[i, 1])) for i in order)
        return list(unique)

    def look_alikes(self, count: int, pictures: Pictures, record_of: Any) -> list[dict[str, Any]]:
        """Clips that the annotation calls duplicates, then the first pairs, those whose pictures agree first:
        `bits` of 64 in which their hashes differ."""
        found = []
        declared = self._declared(count)
        for a, b, distance in [*declared, *self.pairs[: count - len(declared)]]:
            names = [self._id(a), self._id(b)]
            try:
                hashes = [picture_hash(pictures.strip(record_of(name), 1)) for name in names]
                bits = int(np.count_nonzero(hashes[0] != hashes[1]))
            except Unplayable:
                bits = None
            video = self.snapshot.table["video_id"]
            same = video[int(self.rows[a])].as_py() == video[int(self.rows[b])].as_py()
            found.append({"a": names[0], "b": names[1], "distance": distance, "bits": bits,
                          "same_video": same, "declared": (a, b, distance) in declared})
        return sorted(found, key=lambda pair: (not pair["declared"], pair["bits"] is None, pair["bits"],
                                               pair["distance"]))

    def _declared(self, count: int) -> list[tuple[int, int, float]]:
        """Pairs by the column `duplicate_of`; its similarity becomes a distance."""
        table, places = self.snapshot.table, {int(row): place for place, row in enumerate(self.rows)}
        chosen = np.flatnonzero(pc.is_valid(table["duplicate_of"]).to_numpy())
        found = []
        for row in chosen.tolist():
            other = self.snapshot.rows.get(table["duplicate_of"][row].as_py())
            if row in places and other in places:
                similar = table["duplicate_similarity"][row].as_py()
                found.append((places[row], places[other], 1.0 - (similar or 0.0)))
        return sorted(found, key=lambda pair: pair[2])[:count]

    def _values(self, score: Score) -> np.ndarray:
        """(n,) float64, NaN where unmeasured."""
        return self.snapshot.table[score.column].to_numpy().astype(np.float64)[self.rows]

    def _levels(self, score: Score) -> np.ndarray:
        """The values, or their logarithms where the histogram is drawn so."""
        values = self._values(score)
        return np.log(values) if self.snapshot.edges[score.column][1] else values

    def _id(self, place: int) -> str:
        return self.snapshot.table["clip_id"][int(self.rows[place])].as_py()


def picture_hash(jpeg: bytes) -> np.ndarray:
    """(64,) bool: whether brightness rises from each cell of a picture to its right neighbour."""
    gray = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert gray is not None  # we wrote it ourselves
    small = cv2.resize(gray, (_HASH + 1, _HASH), interpolation=cv2.INTER_AREA).astype(np.int16)
    return (np.diff(small, axis=1) > 0).reshape(-1)


def _spread(values: np.ndarray) -> float:
    """A deviation that outliers do not stretch: of the middle half, as for a normal distribution."""
    known = values[np.isfinite(values)]
    if not len(known):
        return 0.0
    low, high = np.percentile(known, [25, 75])
    return float((high - low) / 1.349) or float(known.std())
