"""Noise schedules, the training table and its draws; chunk starts and streaming bounds of the metadata."""

import re

import torch

from model import flow
from model.mask import Mask, streaming_bounds
from tests.golden.fixture import Comparison, Fixture

_TOLERANCE = 1e-6
_INFERENCE = re.compile(r"inference\.steps(\d+)_shift([\d.]+)\.sigmas")
_TABLE = re.compile(r"train\.sigma_by_index_shift([\d.]+)")
_FIXED = {"distilled.sigmas": flow.timestep_sigmas(flow.DISTILLED_TIMESTEPS),
          "refiner.sigmas": torch.tensor(flow.REFINER_SIGMAS, dtype=torch.float64)}


def check(fixture: Fixture) -> list[Comparison]:
    found = [Comparison(key, value, fixture[key], _TOLERANCE)
             for key, value in _FIXED.items() if key in fixture]
    for key, expected in fixture.tensors.items():
        if named := _INFERENCE.fullmatch(key):
            sigmas = flow.inference_sigmas(int(named[1]), float(named[2]))
            found.append(Comparison(key, sigmas, expected, _TOLERANCE))
        if named := _TABLE.fullmatch(key):
            table = flow.training_sigmas(float(named[1]))
            found += [Comparison(key, table, expected, _TOLERANCE), *_draws(fixture, table)]
    return [*found, *_chunks(fixture)]


def _draws(fixture: Fixture, table: torch.Tensor) -> list[Comparison]:
    index = flow.noise_index(fixture["train.in.normal_draw"])
    values = {"index": index, "sigma": table[index], "model_timestep": flow.timesteps(table[index]).floor()}
    return [Comparison(f"train.out.{key}", value, fixture[f"train.out.{key}"],
                       _TOLERANCE if key == "sigma" else 0.0) for key, value in values.items()]


def _chunks(fixture: Fixture) -> list[Comparison]:
    found = []
    for key, value in fixture.metadata.items():
        if key.startswith("chunk_starts_"):
            rule = key.removeprefix("chunk_starts_")
            for size, by_frames in value.items():
                for frames, starts in by_frames.items():
                    mask = Mask.chunk_causal(int(frames), int(size), rule=rule)
                    found.append(_exact(f"{key}[{size}][{frames}]", mask.chunk_starts, starts))
        if key.startswith("autoregressive_bounds_"):
            size = int(key.removeprefix("autoregressive_bounds_"))
            for frames, bounds in value.items():
                found.append(_exact(f"{key}[{frames}]", streaming_bounds(int(frames), size), bounds))
    return found


def _exact(key: str, found: object, expected: object) -> Comparison:
    return Comparison(key, torch.tensor(found), torch.tensor(expected), 0.0)
