"""Three samplers on the tiny network: the whole clip guided, chunk after chunk, and streaming with a cache.

Steps, guidance, shift and window are read from the names of the outputs.
"""

import re

import torch

from model.dit import SanaWM
from model.flow import DISTILLED_TIMESTEPS, inference_sigmas, timestep_sigmas
from model.mask import Mask
from model.rollout import Conditioning, Guidance, cut_chunks, denoise_chunks, denoise_clip, stream
from tests.golden.dit_tiny_weights import load_network
from tests.golden.fixture import Comparison, Fixture

_TOLERANCE = 1e-5
_SIGMA_TOLERANCE = 1e-6
_FINAL_SCALE = 0.25
_WHOLE = re.compile(r"out\.flow_euler_i2v_(\d+)steps_cfg([\d.]+)_shift([\d.]+)")
_CHUNKS = re.compile(r"out\.chunk_flow_euler_(\d+)steps_cfg([\d.]+)")
_STREAM = re.compile(r"out\.self_forcing_(\d+)steps_window(\d+)(_sink)?")


def check(fixture: Fixture) -> list[Comparison]:
    network = load_network(fixture.network_weights())
    for parameter in network.final_layer.linear.parameters():
        parameter.mul_(_FINAL_SCALE)
    sigmas, found = fixture["out.flow_euler_sigmas"], []
    told = Conditioning(fixture["in.caption"], fixture["in.caption_mask"], fixture["in.camera_conditions"],
                        fixture["in.chunk_plucker"])
    for key, expected in fixture.tensors.items():
        if named := _WHOLE.fullmatch(key):
            own = inference_sigmas(int(named[1]), float(named[3]))
            found.append(Comparison("out.flow_euler_sigmas", own, sigmas, _SIGMA_TOLERANCE))
            value = denoise_clip(network, _noise(fixture), told, own, guidance=_away(fixture, named[2]),
                                 first_frame=_first(fixture))
        elif named := _CHUNKS.fullmatch(key):
            value = torch.cat([*denoise_chunks(
                network, _noise(fixture), told, sigmas.double(), fixture.metadata["chunk_starts"],
                interval=float(fixture.metadata["chunk_interval_k"]), guidance=_away(fixture, named[2]),
                first_frame=_first(fixture))], 2)
        elif named := _STREAM.fullmatch(key):
            assert int(named[1]) == len(DISTILLED_TIMESTEPS) - 1, f"{key}: no list of {named[1]} timesteps"
            value = _stream(network, fixture, told, Mask(window=int(named[2]), sink=bool(named[3])))
        else:
            continue
        found.append(Comparison(key, value, expected, _TOLERANCE))
    return found


def _stream(network: SanaWM, fixture: Fixture, told: Conditioning, mask: Mask) -> torch.Tensor:
    noise = _noise(fixture)
    chunks = cut_chunks(noise, told, fixture.metadata["self_forcing_bounds"])
    return torch.cat([*stream(network, network.new_cache(noise.shape[0]), chunks,
                              timestep_sigmas(DISTILLED_TIMESTEPS), mask, first_frame=_first(fixture))], 2)


def _away(fixture: Fixture, scale: str) -> Guidance:
    return Guidance(fixture["in.null_caption"], fixture["in.null_mask"], float(scale))


def _noise(fixture: Fixture) -> torch.Tensor:
    return fixture["in.noise_with_clean_frame0"]


def _first(fixture: Fixture) -> torch.Tensor:
    return _noise(fixture)[:, :, :1]
