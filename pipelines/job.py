"""From settings to a job: sources expanded, stages in order, thresholds as a judge."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any

from annotate.caption.stage import CaptionStage
from annotate.config import AnnotateConfig
from annotate.cut.cutter import Cutter
from annotate.depth.stage import DepthStage
from annotate.duplicates.stage import HashStage
from annotate.filters import judge
from annotate.overlay.stage import OverlayStage
from annotate.pose.stage import GIVEN, MISREAD, PoseStage
from annotate.quality.cameras import CameraScoreStage
from annotate.quality.stage import QualityStage
from annotate.scale.stage import ScaleStage
from annotate.scores.chosen import score_stages
from annotate.source.expand import expand
from annotate.stage import ClipStage
from annotate.vlm.config import VlmEngine
from annotate.vlm.endpoint import check_endpoint
from annotate.vlm.entities import EntitiesStage
from dataset.report.charts import Bounds
from pipelines.runner import Job


def build_job(config: AnnotateConfig) -> Job:
    """Everything that can be wrong with the settings is found here; raises ValueError that names the key."""
    config.write.check()
    config.run.check()
    stages: list[ClipStage] = [
        QualityStage(config.quality),
        OverlayStage(config.overlay),
        HashStage(config.duplicates),
        PoseStage(config.pose, config.learned, config.depth.every if config.depth.engine == "pose" else None),
        DepthStage(config.depth, config.learned),
        ScaleStage(config.scale, config.source.rig),
        CameraScoreStage(),
        *score_stages(config.scores, config.learned),
        *([EntitiesStage(config.entities, config.vlm)] if config.entities.enabled else []),
        CaptionStage(config.caption, config.vlm),
    ]
    if config.vlm.engine == VlmEngine.endpoint:
        check_endpoint(config.vlm)
    items = expand(config.src, config.source)
    return Job(
        items=items,
        cutter=Cutter(config.cut, max((i.splat.settings.gpu_share for i in items if i.splat), default=0.0)),
        stages=stages,
        judge=partial(judge, thresholds=config.thresholds),
        thresholds=dataclasses.asdict(config.thresholds),
        out=config.out,
        work=config.work or None,
        objection=ImportCheck(),
        write=config.write,
        run=config.run,
        ray=config.ray,
    )


class ImportCheck:
    """Stops an import whose cameras are read by the wrong conventions, before all of it is.

    The first clip of a source that comes with cameras decides: if they contradict its images, the import
    stops with the table of the self-check; once one clip was consistent, others fail by themselves.
    """

    def __init__(self) -> None:
        self._consistent: set[str] = set()

    def __call__(self, fields: Mapping[str, Any]) -> str | None:
        """Why to stop, given the columns of the next row; None to go on."""
        if fields.get("pose_engine") != GIVEN:
            return None
        failure = fields.get("pose_failure") or ""
        if not failure and fields.get("selfcheck_cheirality") is not None:  # else nothing could be checked
            self._consistent.add(fields["source"])
        if not failure.startswith(MISREAD) or fields["source"] in self._consistent:
            return None
        return (
            f"{fields['uri']}: {failure}\n{fields.get('detail') or ''}\n"
            "The import stops. Set source.given.axes, source.given.direction, or the unit and size of the "
            "intrinsics, as the table suggests, and run again."
        )


def score_bounds(config: AnnotateConfig) -> dict[str, Bounds]:
    """Lowest and highest value each score may have, for the report."""
    bounds = {}
    for item in dataclasses.fields(config.thresholds):
        bound = getattr(config.thresholds, item.name)
        if hasattr(bound, "min") and (bound.min is not None or bound.max is not None):
            bounds[item.name] = (bound.min, bound.max)
    return bounds
