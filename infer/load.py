"""The parts of a world from their weights: found, fetched, put into their precision, and brought to where
they wait or work.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from infer.download import Need, announce
from infer.offload import Offload, Placement
from infer.precision import Precision, PrecisionConfig, quantise
from infer.refine import RefineConfig, RefinerStage
from infer.sampler import SamplerConfig
from model.codec import Codec, load_codec
from model.dct import STRIDES
from model.dit import SanaWM
from model.refiner import RELEASED, RELEASED_STREAMING
from model.text import RELEASED as RELEASED_TEXT
from model.text import TextEncoder, load_text

NONE, RELEASED_REFINER = "none", "ltx2"


@dataclass(frozen=True)
class Sources:
    """Where each part of a world comes from: files, folders or hub repositories, "hash" or "dct32"."""

    network: str
    codec: str
    text: str
    refiner: str | None
    connectors: str | None
    """Of its text, beside the transformer in a release; a run of the trainer has none of its own."""
    refiner_text: str | None

    def needs(self) -> list[Need]:
        """What may have to come from the hub."""
        inside = ("transformer",) if is_pipeline(self.network) else ("dit", "sana_dit")
        found = [Need("network", self.network, inside)]
        if self.codec not in {f"dct{stride}" for stride in STRIDES}:
            found.append(Need("autoencoder", self.codec, ("vae",)))
        if self.text != "hash":
            found.append(Need("text encoder", self.text, ("",)))
        if self.refiner is not None:
            found.append(Need("refiner", self.refiner, ("transformer",)))
            found.append(Need("refiner's text connectors", self.connectors or self.refiner, ("connectors",)))
            found.append(Need("refiner's text encoder", self.refiner_text or self.connectors or self.refiner,
                              ("text_encoder",)))
        return found


@dataclass
class LoadConfig:
    """How parts are kept. device, dtype: None chooses a GPU where there is one, and what suits the device."""

    device: torch.device | str | None = None
    dtype: torch.dtype | None = None
    offload: Offload = Offload.none
    precision: PrecisionConfig = field(default_factory=PrecisionConfig)
    compile: bool = False

    def resolved(self) -> tuple[torch.device, torch.dtype]:
        """Device and type of weights. Raises ValueError for what does not go together."""
        device = torch.device(self.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        dtype = self.dtype or (torch.float32 if device.type == "cpu" else torch.bfloat16)
        self.precision.check(device, dtype)
        if self.compile and self.offload is Offload.sequential:
            raise ValueError("compile=true with offload=sequential: compiled blocks hold on to weights, "
                             "leave one of them out")
        return device, dtype


@dataclass
class Parts:
    """What a world is made of."""

    network: SanaWM
    codec: Codec
    text: TextEncoder
    refiner: RefinerStage | None
    placement: Placement


def find_sources(
    sampler: SamplerConfig, model: str | Path | None = None, codec: str | None = None,
    text: str | None = None, refiner: str = NONE,
) -> Sources:
    """Those given, else those of the run that trained the network, else the sampler's."""
    network, run = find_network(str(model or sampler.model))
    space = {} if run is None else json.loads((run / "about.json").read_text(encoding="utf-8"))["space"]
    if is_pipeline(network):
        space = {"codec": network, "text": network}
    second = connectors = refiner_text = None
    if refiner == RELEASED_REFINER:
        second = connectors = RELEASED_STREAMING if sampler.streams else RELEASED
        refiner_text = f"{RELEASED}/text_encoder" if sampler.streams else None
    elif refiner != NONE:
        second, run = find_network(refiner)
        connectors = second if run is None else RELEASED
    return Sources(network, codec or space.get("codec") or sampler.codec,
                   text or space.get("text") or RELEASED_TEXT, second, connectors, refiner_text)


def is_pipeline(source: str) -> bool:
    """Whether `source` is a whole pipeline of diffusers': a folder, or a repository that is called so."""
    folder = Path(source).expanduser()
    return (folder / "model_index.json").is_file() or (not folder.exists() and source.endswith("-diffusers"))


def find_network(source: str) -> tuple[str, Path | None]:
    """The weights that `source` names, and the folder of `python -m train` they are of, if it is one: its
    export, the mean of the weights where there is one. Raises ValueError where the run has not ended."""
    folder = Path(source).expanduser()
    inside = [run for run in (folder, *folder.parents[:2])
              if folder.exists() and (run / "about.json").is_file()]
    if not inside:
        return source, None
    run = inside[0]
    if folder != run:
        return source, run
    for name in ("ema", "network"):
        if (run / "export" / name).is_dir():
            return str(run / "export" / name), run
    raise ValueError(f"{source}: this run has not ended, it has no export/; run it to its end, or set its "
                     "steps= to what it has done")


def load_parts(sources: Sources, sampler: SamplerConfig, refine: RefineConfig, how: LoadConfig) -> Parts:
    """Everything, each part in its place. What the hub has to give is said before it comes."""
    device, dtype = how.resolved()
    refine.check()
    announce(sources.needs())
    placement = Placement(device, how.offload)

    def first(precision: Precision, reads_prompt: bool = False) -> torch.device:
        """Where a part is loaded: what is made smaller or waits must not fill the device first."""
        stays = how.offload is Offload.none or (how.offload is Offload.text and not reads_prompt)
        return device if stays and precision is Precision.bf16 else torch.device("cpu")

    def place(part: nn.Module, precision: Precision, blocks: Sequence[nn.Module], reads_prompt: bool) -> None:
        quantise(part, precision, device)
        placement.park(part, reads_prompt, blocks)

    precision = how.precision
    network = SanaWM.from_pretrained(sources.network, device=first(precision.network), dtype=dtype)
    place(network, precision.network, list(network.blocks), False)
    config = network.config
    text = load_text(sources.text, first(precision.text, True), dtype, length=config.caption_length,
                     width=config.caption_channels)
    place(text, precision.text, _layers(getattr(text, "model", None)), True)
    codec = load_codec(sources.codec, first(Precision.bf16), dtype)
    placement.park(codec, False)
    stage = None
    if sources.refiner is not None:
        stage = _load_refiner(sources, refine, first(precision.refiner), first(precision.text, True), dtype)
        place(stage.refiner.network, precision.refiner, list(stage.refiner.network.blocks), False)
        place(stage.text, precision.text, _layers(stage.text.language_model), True)
    if how.compile:
        from model.parallel import compile_blocks

        for part in (network, *([stage.refiner.network] if stage else [])):
            compile_blocks(part)  # type: ignore[arg-type]
    return Parts(network, codec, text, stage, placement)


def _load_refiner(
    sources: Sources, refine: RefineConfig, device: torch.device, text_device: torch.device,
    dtype: torch.dtype,
) -> RefinerStage:
    from model.refiner import Refiner
    from model.refiner_text import RefinerText

    assert sources.refiner is not None and sources.connectors is not None
    text = RefinerText.from_pretrained(sources.connectors, sources.refiner_text, text_device, dtype)
    refiner = Refiner.from_pretrained(sources.refiner, refine.refiner_config(), device, dtype)
    return RefinerStage(refiner, text, refine.mode)


def _layers(language_model: Any) -> list[nn.Module]:
    """Blocks of a language model, [] of what has none."""
    return list(getattr(language_model, "layers", ()))
