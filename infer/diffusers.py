"""A world as diffusers' `SanaWMPipeline` and back, for the network that sees the whole clip.

A folder saved from either opens in both: `SanaWMPipeline.from_pretrained(folder)` and
`WorldModel.from_pretrained(folder)`, `python -m infer model=<folder>`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from infer.pipeline import WorldModel
from infer.sampler import Kind, SamplerConfig
from model.diffusers import NULL_CAPTION, from_diffusers, save_null_caption, to_diffusers
from model.text import GemmaText, read_chi_prompt
from model.vae import LTX2Codec

if TYPE_CHECKING:
    from diffusers import SanaWMPipeline

TRANSFORMER = "transformer"


def to_pipeline(world: WorldModel) -> SanaWMPipeline:
    """Their pipeline with copies of the network's weights, and with the autoencoder and text encoder of
    `world` themselves.

    Raises ValueError where they have no such part: cosine codecs, hashed words, other samplers.
    """
    from diffusers import FlowMatchEulerDiscreteScheduler, SanaWMPipeline

    if not isinstance(world.codec, LTX2Codec):
        raise ValueError(f"codec {world.codec.fingerprint}: diffusers' pipeline has LTX-2's autoencoder only")
    if not isinstance(world.text, GemmaText):
        raise ValueError(f"text {world.text.fingerprint}: diffusers' pipeline reads with Gemma-2 only")
    if world.sampler.kind is not Kind.bidirectional:
        raise ValueError(f"sampler.kind={world.sampler.kind.name}: diffusers' pipeline samples the whole "
                         "clip, bidirectional")
    # Their autoencoder counts every block for both strides unless its configuration says otherwise.
    world.codec.vae.register_to_config(spatial_compression_ratio=world.codec.space_stride,
                                       temporal_compression_ratio=world.codec.time_stride)
    return SanaWMPipeline(
        tokenizer=world.text.tokenizer, text_encoder=world.text.model, vae=world.codec.vae,
        transformer=to_diffusers(world.network),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=world.sampler.shift))


def save_pipeline(world: WorldModel, folder: Path | str) -> None:
    """A folder of theirs, from which `WorldModel.from_pretrained` reads the same world again."""
    pipeline: Any = to_pipeline(world)
    pipeline.save_pretrained(folder)
    save_null_caption(world.network.state_dict()[NULL_CAPTION], Path(folder) / TRANSFORMER)


def from_pipeline(pipeline: SanaWMPipeline, sampler: SamplerConfig | None = None) -> WorldModel:
    """A world of their pipeline's parts; the network's weights are copied. `sampler`: None takes the shift of
    their schedule."""
    parts: Any = pipeline
    sampler = sampler or SamplerConfig(shift=float(parts.scheduler.config["shift"]))
    language_model = getattr(parts.text_encoder, "model", parts.text_encoder)  # without its head
    return WorldModel(from_diffusers(parts.transformer, None).eval(), LTX2Codec(parts.vae),
                      GemmaText(language_model, parts.tokenizer, read_chi_prompt()), sampler)
