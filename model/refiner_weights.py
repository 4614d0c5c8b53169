"""Loads the video half of LTX-2 models. The audio half, 5 to 6 billion parameters of the transformer, is
neither built nor read: it has no part in the refiner."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn

from model.strict import list_faults

_AUDIO = re.compile(r"(^|\.)(audio_|av_cross_attn_|video_to_audio_|video_a2v_)")
"""In names of modules and tensors: what hears, and what joins hearing to seeing."""


def is_audio(name: str) -> bool:
    """Whether a module or tensor of this name belongs to the audio half."""
    return _AUDIO.search(name) is not None


def drop_audio(model: nn.Module) -> None:
    """Take the audio half out of an LTX-2 model."""
    for parent in list(model.modules()):
        own = [*parent._modules, *parent._parameters]
        for name in filter(is_audio, own):
            delattr(parent, name)


def load_video_half(
    model_class: Any, folder: Path, what: str, device: torch.device | str, dtype: torch.dtype,
) -> Any:
    """A model of diffusers from the folder it was saved in, without its audio half.

    model_class: its class, which may name the same tensors as the class that was saved.
    Raises FileNotFoundError when the folder holds no such model, ValueError when the tensors do not fit.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files or not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{what}: {folder} holds no config.json with safetensors beside it, expected "
                                "a model as diffusers saves it")
    with torch.device("meta"):
        model = model_class.from_config(model_class.load_config(folder))
    drop_audio(model)
    tensors = {}
    for path in files:
        with safe_open(path, "pt", device=str(device)) as stored:
            for name in stored.keys():  # noqa: SIM118  it is no dictionary
                if not is_audio(name):
                    tensors[name] = stored.get_tensor(name).to(dtype)
    _check(tensors, model.state_dict(), what, folder)
    model.load_state_dict(tensors, strict=True, assign=True)
    return model.eval().requires_grad_(False)


def _check(found: dict, wanted: dict, what: str, folder: Path) -> None:
    lines = list_faults(*({name: x.shape for name, x in tensors.items()} for tensors in (found, wanted)))
    if lines:
        title = f"{what}: the tensors in {folder} are not those of its config.json."
        raise ValueError("\n".join([title, *lines]))
