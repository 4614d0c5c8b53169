"""How the stored scores are called and written for people: columns of `ClipRecord` with title and unit."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Score:
    """One numeric column. `percent` shares are stored as 0..1 and shown as 0..100 %."""

    column: str
    title: str
    unit: str = ""
    percent: bool = False

    def text(self, value: float) -> str:
        """A value with its unit, in three digits."""
        if self.percent:
            return f"{100 * value:.3g} %"
        return f"{number(value)} {self.unit}".rstrip()


SCORES = (
    Score("agreement_position", "Second engine: position", "of the path", percent=True),
    Score("agreement_rotation_deg", "Second engine: rotation", "°"),
    Score("agreement_focal", "Second engine: focal length", percent=True),
    Score("selfcheck_sampson_px", "Epipolar distance", "px"),
    Score("selfcheck_cheirality", "Points in front of both cameras", percent=True),
    Score("reprojection_px", "Reprojection", "px"),
    Score("pose_inlier_share", "Tracks that fit", percent=True),
    Score("posed_share", "Frames posed", percent=True),
    Score("path_length", "Path length", "m"),
    Score("speed_max", "Fastest, m/s or path/s"),
    Score("acceleration_max", "Largest acceleration, m/s² or path/s²"),
    Score("angular_speed_max_deg", "Fastest turn", "°/s"),
    Score("angular_jump_deg", "Largest angular jump", "°"),
    Score("jerk_ratio", "Largest over median step"),
    Score("focal_px", "Focal length", "px"),
    Score("focal_range", "Zoom range", percent=True),
    Score("fov_x_deg", "Field of view, horizontal", "°"),
    Score("fov_y_deg", "Field of view, vertical", "°"),
    Score("focal_divergence", "fx against fy", percent=True),
    Score("scale_sigma_log", "Scale, 1 σ", percent=True),
    Score("scale_cov", "Scale, variation over frames"),
    Score("depth_valid_share", "Depth valid", percent=True),
    Score("flow_dis", "Optical flow (DIS)", "px per 0.5 s"),
    Score("flow_unimatch", "Optical flow (UniMatch)", "px per 0.5 s"),
    Score("flow_raft", "Optical flow (RAFT)", "px per 0.5 s"),
    Score("vmaf_motion", "VMAF motion"),
    Score("dover", "DOVER"),
    Score("dover_technical", "DOVER, technical"),
    Score("dover_aesthetic", "DOVER, aesthetic"),
    Score("aesthetic", "Aesthetic"),
    Score("text_share", "Text", percent=True),
    Score("overlay_share", "Under logos and text that stand still", percent=True),
    Score("duplicate_similarity", "Similarity to a clip kept in its place"),
    Score("saturation", "Saturation", "of 255"),
    Score("sharpness", "Sharpness"),
    Score("exposure", "Exposure", "of 255"),
    Score("dark_share", "Dark pixels", percent=True),
    Score("bright_share", "Bright pixels", percent=True),
    Score("people", "People"),
    Score("vehicles", "Vehicles"),
    Score("animals", "Animals"),
    Score("entities", "People, vehicles, animals"),
    Score("vlm_quality", "VLM quality"),
)

ERRORS = (
    Score("ate_share", "True error: position", "of the path", percent=True),
    Score("rotation_step_deg", "True error: turn per frame", "°"),
    Score("rotation_first_deg", "True error: turn from frame 0", "°"),
    Score("focal", "True error: focal length", percent=True),
    Score("scale", "True error: scale", percent=True),
)
"""Fields of `dataset.pose_error.PoseError`."""

_BY_COLUMN = {score.column: score for score in SCORES}


def number(value: float) -> str:
    """Three digits, thousands separated, no exponent where people do not expect one."""
    if value == 0 or 1e-4 <= abs(value) < 1e3:
        return f"{value:.3g}"
    return f"{value:,.0f}" if 1e3 <= abs(value) < 1e7 else f"{value:.1e}"


def explain_rule(rule: str) -> str:
    """The title of the score a rule such as "flow_dis<3" speaks of, or nothing."""
    found = re.match(r"[a-z_0-9]+", rule)
    score = _BY_COLUMN.get(found.group()) if found else None
    return "" if score is None else score.title
