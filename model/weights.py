"""Checkpoints to networks and back, strict by name and shape, and without running code of theirs.

Read are safetensors, one file or several with an index, and the pickle of the streaming release; from a file,
a folder or the hub. Written is a folder of config.json and safetensors.
"""

from __future__ import annotations

import json
import pickle
import re
import shutil
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from model.config import DiTConfig
from model.diffusers import find_diffusers, load_diffusers
from model.dit import SanaWM
from model.hub import fetch
from model.strict import list_faults

RELEASED = "Efficient-Large-Model/SANA-WM_bidirectional"
RELEASED_CHUNK_CAUSAL = "Efficient-Large-Model/SANA-WM_chunk_causal"
RELEASED_STREAMING = "Efficient-Large-Model/SANA-WM_streaming"

Shape = tuple[int, ...]

_FOLDERS = ("dit", "sana_dit")
"""Where the network lies in released repositories: as safetensors, and as the streaming pickle."""
_DROPPED = "pos_embed"
_PREFIXES = {"generator": "model.", "state_dict": ""}
"""What pickles hold weights under, and what their names begin with."""
_CONFIG, _STEM, _INDEX = "config.json", "model", "model.safetensors.index.json"
_OURS = re.compile(rf"{_STEM}(-\d+-of-\d+)?\.safetensors")


@dataclass(frozen=True)
class Stored:
    """A checkpoint whose names and shapes are known, and whose tensors are read one by one."""

    path: Path
    shapes: dict[str, Shape]
    read: Callable[[str], Tensor]


def load(
    source: str | Path, *, config: DiTConfig | None = None, dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
) -> SanaWM:
    """The network of a file, a folder or a hub repository "owner/name".

    config: None takes config.json beside the weights, and the released sizes where there is none.
    dtype: None leaves weights as they are stored.
    A folder of diffusers' `SanaWMPipeline`, or its transformer, is read as diffusers computes it.
    Raises ValueError listing every missing, unexpected and misshapen tensor.
    """
    theirs = find_diffusers(source)
    if theirs is not None:
        return load_diffusers(theirs).to(device=device, dtype=dtype)
    stored = open_checkpoint(source)
    about = stored.path.parent / _CONFIG
    assumed = config is None and not about.is_file()
    if config is None:
        config = _assumed_config(stored) if assumed else _read_config(about)
    with torch.device("meta"):
        network = SanaWM(config)
    wanted = {name: tensor.shape for name, tensor in network.state_dict().items()}
    faults = list_faults(stored.shapes, wanted)
    if faults:
        meant = "the released network" if assumed else "its configuration"
        raise ValueError("\n".join([f"{stored.path}: its tensors are not those of {meant}.", *faults]))
    # Copied, because what is read may be the file's own memory, which changes when the file does.
    tensors = {name: stored.read(name).to(device=device, dtype=dtype, copy=True) for name in wanted}
    network.load_state_dict(tensors, strict=True, assign=True)
    return network.eval()


def save(network: SanaWM, folder: str | Path, *, shard_bytes: int = 5 << 30) -> None:
    """A folder that `load` reads, bit for bit the same."""
    save_tensors(network.state_dict(), network.config, folder, shard_bytes=shard_bytes)


def save_tensors(
    tensors: Mapping[str, Tensor], config: DiTConfig, folder: str | Path, *, shard_bytes: int = 5 << 30,
) -> None:
    """As `save`, of a state dict. The folder appears, or replaces what was saved there earlier, as a whole.

    shard_bytes: most a file holds; several have an index beside them.
    Raises FileExistsError where the folder holds anything else.
    """
    folder = Path(folder).expanduser().resolve()
    others = [path.name for path in folder.iterdir() if not _is_ours(path.name)] if folder.is_dir() else []
    if others:
        raise FileExistsError(f"{folder}: holds {', '.join(sorted(others)[:5])}, which would be lost.\n"
                              "  Save the network to a folder of its own.")
    unfinished, earlier = (folder.with_name(f".{folder.name}.{what}") for what in ("partial", "earlier"))
    for leftover in (unfinished, earlier):
        shutil.rmtree(leftover, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        _write(unfinished, tensors, config, shard_bytes)
    except BaseException:
        shutil.rmtree(unfinished)
        raise
    if folder.exists():
        folder.rename(earlier)
    unfinished.rename(folder)
    shutil.rmtree(earlier, ignore_errors=True)


def open_checkpoint(source: str | Path) -> Stored:
    """What `source`, as of `load`, holds. A position table is left out: positions are computed."""
    path = _find(source)
    stored = _open_pickle(path) if path.suffix in (".pt", ".pth") else _open_safetensors(path)
    stored.shapes.pop(_DROPPED, None)
    return stored


def _find(source: str | Path) -> Path:
    """The file, or the index of several files, that holds the network."""
    for inside in _FOLDERS:
        place = fetch(source, inside, "network")
        if place.is_file():
            return place
        for pattern in ("*.safetensors.index.json", "*.safetensors", "*.pt", "*.pth"):
            files = sorted(place.glob(pattern))
            if len(files) > 1:
                names = ", ".join(file.name for file in files[:5])
                raise ValueError(f"network: {place} holds {names}, expected one, or an index that joins "
                                 "them; name the file to load")
            if files:
                return files[0]
    raise FileNotFoundError(f"network: {source} holds no safetensors and no .pt, nor does a folder "
                            f"{' or '.join(_FOLDERS)} in it")


def _open_safetensors(path: Path) -> Stored:
    files = [path]
    if path.suffix == ".json":
        places = json.loads(path.read_text()).get("weight_map")
        if not places:
            raise ValueError(f"{path}: no index of safetensors, which has a weight_map")
        files = [path.parent / name for name in sorted(set(places.values()))]
    holders: dict[str, Any] = {}
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"{path}: names {file.name}, which is not beside it")
        try:
            opened = safe_open(file, "pt")
        except SafetensorError as error:
            raise ValueError(f"{file}: not a complete safetensors file: {error}") from error
        names = list(opened.keys())
        if twice := sorted(holders.keys() & set(names)):
            raise ValueError(f"{file}: holds {', '.join(twice[:5])}, as does another file of {path.name}")
        holders.update(dict.fromkeys(names, opened))
    shapes = {name: tuple(opened.get_slice(name).get_shape()) for name, opened in holders.items()}
    return Stored(path, shapes, lambda name: holders[name].get_tensor(name))


def _open_pickle(path: Path) -> Stored:
    try:
        # Only the pages that are read are loaded; older files, which are no archives, cannot do it.
        held = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (pickle.UnpicklingError, RuntimeError, EOFError, LookupError, struct.error) as error:
        raise ValueError(f"{path}: not a pickle of tensors alone: {error}") from error
    key = next((key for key in _PREFIXES if isinstance(held, dict) and key in held), None)
    if key is None:
        holds = ", ".join(map(str, list(held)[:5])) if isinstance(held, dict) else type(held).__name__
        raise ValueError(f"{path}: holds {holds}; expected weights under {' or '.join(map(repr, _PREFIXES))}")
    prefix, weights = _PREFIXES[key], held[key]
    strange = [name for name, tensor in weights.items()
               if not isinstance(tensor, Tensor) or not name.startswith(prefix)]
    if strange:
        raise ValueError(f"{path}: {key!r} holds {', '.join(strange[:5])}; expected tensors "
                         f"whose names begin with {prefix!r}")
    tensors = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
    return Stored(path, {name: tuple(tensor.shape) for name, tensor in tensors.items()}, tensors.__getitem__)


def _read_config(path: Path) -> DiTConfig:
    values = json.loads(path.read_text())
    if "_class_name" in values:
        raise ValueError(f"{path}: of a {values['_class_name']} as diffusers saves it; expected a "
                         "SanaWMTransformer3DModel, given by its folder")
    return DiTConfig.from_json(values, str(path))


def _assumed_config(stored: Stored) -> DiTConfig:
    """The released sizes, unless the first layer says that they are not meant."""
    released, first = DiTConfig.sana_wm_2b6(), "x_embedder.proj.weight"
    if stored.shapes.get(first, (released.width,))[0] == released.width:
        return released
    raise ValueError(f"{stored.path}: there is no {_CONFIG} beside it, and it is not of the released width "
                     f"{released.width}.\n  Its tensors look like {DiTConfig.from_shapes(stored.shapes)}; "
                     "if it is that and whole, pass it as `config`.")


def _write(folder: Path, tensors: Mapping[str, Tensor], config: DiTConfig, shard_bytes: int) -> None:
    shards: list[dict[str, Tensor]] = [{}]
    size = total = 0
    for name, tensor in tensors.items():
        nbytes = tensor.numel() * tensor.element_size()
        if shards[-1] and size + nbytes > shard_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = tensor.detach().contiguous()
        size, total = size + nbytes, total + nbytes
    places: dict[str, str] = {}
    for i, shard in enumerate(shards, 1):
        part = f"-{i:05d}-of-{len(shards):05d}" if len(shards) > 1 else ""
        save_file(shard, folder / f"{_STEM}{part}.safetensors", {"format": "pt"})
        places |= dict.fromkeys(shard, f"{_STEM}{part}.safetensors")
    if len(shards) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": places}
        (folder / _INDEX).write_text(json.dumps(index, indent=2) + "\n")
    (folder / _CONFIG).write_text(json.dumps(config.to_json(), indent=2) + "\n")


def _is_ours(name: str) -> bool:
    return name in (_CONFIG, _INDEX) or _OURS.fullmatch(name) is not None
