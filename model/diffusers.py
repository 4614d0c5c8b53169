"""Weights to and from diffusers' `SanaWMTransformer3DModel`, tensor for tensor.

It computes the bidirectional network with the camera branch's RMS clamped in all blocks, so its weights are
read with `camera_clamp="all"`. It has no null caption, which only caption dropout in training needs;
that tensor travels in a file of its own beside its weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.config import CameraClamp, DiTConfig
from model.hub import fetch

if TYPE_CHECKING:
    from diffusers.models.transformers.transformer_sana_wm import SanaWMTransformer3DModel

    from model.dit import SanaWM

NULL_CAPTION = "y_embedder.y_embedding"
NULL_CAPTION_FILE = "null_caption.safetensors"
_THEIR_FILE, _THEIR_CLASS = "diffusion_pytorch_model", "SanaWMTransformer3DModel"
_THEIR_NAMES = {"t_embedder.mlp.0.": "t_embedder.linear_1.", "t_embedder.mlp.2.": "t_embedder.linear_2."}


def to_diffusers(network: SanaWM) -> SanaWMTransformer3DModel:
    """Their model with copies of our weights, of the same type and on the same device.

    With another `camera_clamp` than "all" a moving camera gives other numbers there. Raises ValueError where
    they have no such network: softmax blocks not every n-th, another key scale.
    """
    from diffusers.models.transformers.transformer_sana_wm import SanaWMTransformer3DModel

    weights = {_renamed(name, _THEIR_NAMES): tensor.detach().clone()
               for name, tensor in network.state_dict().items() if name != NULL_CAPTION}
    theirs = SanaWMTransformer3DModel(**their_config(network.config))
    theirs.load_state_dict(weights, strict=True, assign=True)
    return theirs.train(network.training)


def from_diffusers(
    theirs: SanaWMTransformer3DModel, null_caption: Tensor | None, camera_clamp: CameraClamp = "all",
) -> SanaWM:
    """Our network with copies of their weights, of the same type and on the same device.

    `null_caption` (tokens, channels): None leaves zeros, which is good for everything but caption dropout.
    `camera_clamp` "none" reads the weights as the maintained release computes them.
    """
    return _network(theirs.state_dict(), theirs.config, null_caption, camera_clamp)


def save_diffusers(network: SanaWM, folder: Path | str) -> None:
    """A folder that `SanaWMTransformer3DModel.from_pretrained` reads, and `load_diffusers` without loss."""
    to_diffusers(network).save_pretrained(folder)
    save_null_caption(network.state_dict()[NULL_CAPTION], folder)


def save_null_caption(null_caption: Tensor, folder: Path | str) -> None:
    """Put it beside their weights, where `load_diffusers` looks for it."""
    save_file({NULL_CAPTION: null_caption.contiguous()}, Path(folder) / NULL_CAPTION_FILE)


def find_diffusers(source: Path | str) -> Path | None:
    """The folder of their model that `source` is, or holds as `transformer`; None where there is none. Of
    repositories on the hub those are theirs whose name ends in -diffusers."""
    folder = Path(source).expanduser()
    repository = str(source).removesuffix("/transformer")
    if not folder.exists() and repository.endswith("-diffusers"):
        return fetch(repository, "transformer", "network")
    for place in (folder, folder / "transformer"):
        about = place / "config.json"
        if about.is_file() and f'"{_THEIR_CLASS}"' in about.read_text(errors="replace"):
            return place
    return None


def load_diffusers(folder: Path | str, camera_clamp: CameraClamp = "all") -> SanaWM:
    """The network of a folder in their layout, as stored; the null caption from its own file where that is
    there. Raises FileNotFoundError where the folder has no weights."""
    from diffusers.models.transformers.transformer_sana_wm import SanaWMTransformer3DModel

    files = sorted(Path(folder).glob(f"{_THEIR_FILE}*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{folder}: no {_THEIR_FILE}*.safetensors; expected the folder of a "
                                "transformer saved by diffusers, such as <pipeline>/transformer")
    with torch.device("meta"):
        config = SanaWMTransformer3DModel.from_config(SanaWMTransformer3DModel.load_config(folder)).config
    weights = {name: tensor for file in files for name, tensor in load_file(file).items()}
    beside = Path(folder) / NULL_CAPTION_FILE
    return _network(weights, config, load_file(beside)[NULL_CAPTION] if beside.is_file() else None,
                    camera_clamp).eval()


def _network(
    weights: Mapping[str, Tensor], config: Any, null_caption: Tensor | None, camera_clamp: CameraClamp,
) -> SanaWM:
    from model.dit import SanaWM

    our_names = {their_name: name for name, their_name in _THEIR_NAMES.items()}
    ours = {_renamed(name, our_names): tensor.detach().clone() for name, tensor in weights.items()}
    if null_caption is None:
        null_caption = torch.zeros(DiTConfig().caption_length, config.caption_channels)
    ours[NULL_CAPTION] = null_caption.detach().clone().to(next(iter(ours.values())).device)
    with torch.device("meta"):
        network = SanaWM(our_config(config, len(null_caption), camera_clamp))
    network.load_state_dict(ours, strict=True, assign=True)
    return network


def their_config(config: DiTConfig) -> dict[str, int | float]:
    """Keyword arguments of their model for a network of ours."""
    every = config.softmax_blocks[0] + 1 if config.softmax_blocks else 0
    regular = tuple(range(every - 1, config.depth, every)) if every else ()
    if config.softmax_blocks != regular:
        raise ValueError(f"softmax_blocks: {config.softmax_blocks}; diffusers' model has one in every n-th "
                         f"block only, such as {regular}")
    if config.key_scale != "dim_spatial":
        raise ValueError(f"key_scale: {config.key_scale!r}; diffusers' model knows 'dim_spatial' only")
    return {"in_channels": config.latent_channels, "num_layers": config.depth, "hidden_size": config.width,
            "num_attention_heads": config.heads, "linear_head_dim": config.head_width,
            "softmax_every_n": every, "caption_channels": config.caption_channels,
            "mlp_ratio": config.mlp_ratio, "chunk_plucker_channels": config.plucker_channels,
            "chunk_plucker_post_attn_blocks": config.depth}


def our_config(theirs: Any, caption_length: int, camera_clamp: CameraClamp = "all") -> DiTConfig:
    """Our configuration for their `config`. Raises ValueError naming options that our network has not."""
    heads, depth, every = theirs.num_attention_heads, theirs.num_layers, theirs.softmax_every_n
    fixed: dict[str, Any] = {
        "patch_size": (1, 1, 1), "ffn_type": "GLUMBConvTemp", "t_kernel_size": 3, "conv_kernel_size": 4,
        "k_conv_only": True, "pos_embed_type": "wan_rope", "qk_norm": True, "cross_norm": True,
        "y_norm": True, "cam_attn_compress": 1, "use_chunk_plucker_post_attn": True, "use_pe": True,
        "pred_sigma": False, "linear_head_dim": theirs.hidden_size // heads}
    if theirs.chunk_plucker_post_attn_blocks >= 0:
        fixed["chunk_plucker_post_attn_blocks"] = depth
    values = {name: getattr(theirs, name) for name in fixed}
    wrong = [f"{name} = {value!r} instead of {fixed[name]!r}" for name, value in values.items()
             if (tuple(value) if isinstance(value, list) else value) != fixed[name]]
    if wrong:
        raise ValueError(f"diffusers' model has options that this network has not: {', '.join(wrong)}")
    return DiTConfig(
        depth=depth, width=theirs.hidden_size, heads=heads, latent_channels=theirs.in_channels,
        caption_channels=theirs.caption_channels, caption_length=caption_length, mlp_ratio=theirs.mlp_ratio,
        softmax_blocks=tuple(range(every - 1, depth, every)) if every > 0 else (),
        plucker_channels=theirs.chunk_plucker_channels, camera_clamp=camera_clamp)


def _renamed(name: str, names: dict[str, str]) -> str:
    for old, new in names.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name
