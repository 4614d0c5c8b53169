"""Action strings of the metadata to poses, smoothed as released, without smoothing, and at other speeds."""

import re
from dataclasses import replace

import torch

from infer.actions import RELEASED, Scheme, action_poses, parse_actions
from tests.golden.fixture import Comparison, Fixture

_TOLERANCE = 1e-6
_NUMBERS = re.compile(r"\(translation ([\d.]+), rotation ([\d.]+) deg, pitch limit ([\d.]+)\)")


def check(fixture: Fixture) -> list[Comparison]:
    meta, found = fixture.metadata, []
    scheme = replace(RELEASED, metres=float(meta["translation_per_frame"]), fps=float(meta["fps"]),
                     degrees=float(meta["rotation_deg_per_frame"]), press_s=float(meta["tau_press_s"]),
                     coast_s=float(meta["tau_coast_s"]), pitch_limit_deg=float(meta["pitch_limit_deg"]))
    for case, text in meta["actions"].items():
        numbers = _NUMBERS.search(text)
        if numbers:
            metres, degrees, limit = map(float, numbers.groups())
            own = replace(scheme, metres=metres, degrees=degrees, pitch_limit_deg=limit)
            text = text[: numbers.start()]
        else:
            own = scheme
        found.append(_compare(fixture, f"{case}.out.c2w", text, own))
        if f"{case}.var.unsmoothed.c2w" in fixture:
            found.append(_compare(fixture, f"{case}.var.unsmoothed.c2w", text,
                                  replace(own, press_s=None, coast_s=None)))
    return found


def _compare(fixture: Fixture, key: str, text: str, scheme: Scheme) -> Comparison:
    poses = torch.from_numpy(action_poses(parse_actions(text, scheme), scheme))
    return Comparison(key, poses, fixture[key], _TOLERANCE)
