"""The clips of a run: which latent sets, which clips are trained on and which are held out."""

from __future__ import annotations

from dataclasses import replace

from dataset.latents import LatentSet, latent_sets, latent_store, read_set
from dataset.loader.config import DataConfig, SourceConfig
from dataset.store import Store

RELEASED_SPACE = LatentSet(
    codec="LTX-2", codec_fingerprint="", channels=128, space_stride=32, time_stride=8, size=[704, 1280],
    text="Gemma-2", text_fingerprint="", caption_tokens=300, caption_channels=2304)
"""Sizes of the release, for plans made before there is any data."""


class DataError(ValueError):
    """There is nothing to train on, or sets that do not go together."""


def resolve(data: DataConfig) -> tuple[DataConfig, LatentSet]:
    """The settings with every latent set named, and what the sets have in common."""
    data.check()
    sources, spaces = [], []
    for source in data.all_sources():
        named = replace(source, latents=source.latents or _only_set(source))
        sources.append(named)
        spaces.append(read_set(latent_store(Store(named.path), named.latents or "")))
    for source, space in zip(sources, spaces):
        if (space.codec_fingerprint, space.text_fingerprint) != (
                spaces[0].codec_fingerprint, spaces[0].text_fingerprint):
            raise DataError(f"{source.path}: latents of {space.codec} ({space.codec_fingerprint}), captions "
                            f"of {space.text}; those of {sources[0].path} are of {spaces[0].codec} "
                            f"({spaces[0].codec_fingerprint}) and {spaces[0].text}; encode both alike")
    if len(sources) == 1 and not data.sources:
        return replace(data, latents=sources[0].latents), spaces[0]
    return replace(data, sources=sources), spaces[0]


def split(data: DataConfig, held_out: str) -> tuple[DataConfig, DataConfig]:
    """Settings of the clips that are trained on and of those that fulfil `held_out`, in the index's order."""
    def only(condition: str) -> DataConfig:
        if data.sources:
            return replace(data, sources=[replace(source, where=_both(source.where, condition))
                                          for source in data.sources])
        return replace(data, where=_both(data.where, condition))

    if not held_out:
        return data, data
    return only(f"({held_out}) is not true"), replace(only(f"({held_out})"), shuffle=False, batch_size=1)


def _both(condition: str, other: str) -> str:
    return f"({condition}) and {other}" if condition else other


def _only_set(source: SourceConfig) -> str:
    store = Store(source.path)
    names = latent_sets(store)
    if len(names) == 1:
        return names[0]
    if not names:
        raise DataError(f"data.path={source.path}: no latents there; python -m pipelines.latents "
                        f"data={source.path} makes them")
    raise DataError(f"data.path={source.path}: several latent sets, {', '.join(names)}; choose one with "
                    "data.latents=<name>")
