"""Rotary factors of whole clips, of the camera's half head, of a window of later frames; and the rotation."""

import torch

from model.rope import camera_turns, rotary_turns, rotate
from tests.golden.fixture import Comparison, Fixture

_TOLERANCE = 1e-6


def check(fixture: Fixture) -> list[Comparison]:
    grid = tuple(fixture.metadata["grid"])
    found = []
    for case in fixture.cases("out.cos"):
        x = fixture[f"{case}in.x"]
        width = x.shape[-1]
        window = fixture[f"{case}in.window_frames"]
        assert torch.equal(window.diff(), torch.ones_like(window[1:])), "frames of the window are consecutive"
        later = rotary_turns((len(window), *grid[1:]), width, first_frame=int(window[0]))
        turns = {"": rotary_turns(grid, width), "cam_": camera_turns(grid, width), "window_": later}
        values = {f"{name}cos": turn.real.flatten(0, 2) for name, turn in turns.items()}
        values |= {f"{name}sin": turn.imag.flatten(0, 2) for name, turn in turns.items()}
        values["x_rotated"] = rotate(x, turns[""].flatten(0, 1).to(torch.complex64))
        found += [Comparison(f"{case}out.{key}", value, fixture[f"{case}out.{key}"], _TOLERANCE)
                  for key, value in values.items()]
    return found
