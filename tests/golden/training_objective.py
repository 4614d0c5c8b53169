"""Noised latents, timesteps, target and loss of a sample, with and without a given first frame."""

import torch

from model.flow import pose_denoising, training_sigmas, velocity_loss
from tests.golden.fixture import Comparison, Fixture

_TOLERANCE = 1e-6
_CASES = {"t2v": ("index_per_clip", False), "i2v": ("index_i2v", True),
          "per_frame": ("index_per_frame", True)}


def check(fixture: Fixture) -> list[Comparison]:
    inputs, sigmas = fixture.under("in."), training_sigmas(float(fixture.metadata["flow_shift"]))
    found = []
    for case, (index, first_frame_given) in _CASES.items():
        task = pose_denoising(inputs["clean"], inputs["noise"], inputs[index], first_frame_given,
                              sigmas=sigmas)
        loss = velocity_loss(inputs["prediction"], task.target, task.counts)
        values = {"x_t": task.latents, "loss": loss, "model_timestep": task.timesteps}
        found += [_compare(fixture, f"out.{case}.{key}", value) for key, value in values.items()]
    return [*found, _compare(fixture, "out.target", task.target)]


def _compare(fixture: Fixture, key: str, value: torch.Tensor) -> Comparison:
    return Comparison(key, value, fixture[key], 0.0 if key.endswith("model_timestep") else _TOLERANCE)
