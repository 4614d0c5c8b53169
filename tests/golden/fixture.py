"""A golden file, and one comparison with it.

Layout of a file: tensors `in.*`, `w.*`, `out.*`, `mid.*` and `var.*`, each behind an optional case prefix;
metadata in JSON. Sizes, configuration and cases are read from the file, never assumed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

WEIGHTS = "dit_tiny_weights"
"""The kind of file that holds the network's weights for other files."""


@dataclass(frozen=True)
class Fixture:
    """One file. `name`: the kind it belongs to; its stem may carry a suffix after that."""

    path: Path
    name: str
    metadata: dict[str, Any]
    tensors: dict[str, torch.Tensor]

    def __getitem__(self, key: str) -> torch.Tensor:
        if key not in self.tensors:
            raise KeyError(f"{self.path.name}: no tensor {key!r}; it holds {', '.join(sorted(self.tensors))}")
        return self.tensors[key]

    def __contains__(self, key: str) -> bool:
        return key in self.tensors

    def under(self, prefix: str) -> dict[str, torch.Tensor]:
        """Tensors whose key starts with `prefix`, without it: `under("w.")`, `under("d16.in.")`."""
        return {key.removeprefix(prefix): value for key, value in self.tensors.items()
                if key.startswith(prefix)}

    def cases(self, key: str) -> list[str]:
        """Prefixes (with their dot, "" for none) of all cases that hold `key`, such as "out.y"."""
        return sorted(k.removesuffix(key) for k in self.tensors if k == key or k.endswith(f".{key}"))

    def network_weights(self) -> Fixture:
        """The weights-only file of the same folder that belongs to this one: that of the same suffix, else
        the one the metadata name, else the only one there is."""
        folder, suffix = self.path.parent, self.path.stem.removeprefix(self.name)
        named = [folder / f"{WEIGHTS}{suffix}.safetensors"]
        if "weights_file" in self.metadata:
            named.append(folder / self.metadata["weights_file"])
        for path in named:
            if path.is_file():
                return read_fixture(path, WEIGHTS)
        found = sorted(folder.glob(f"{WEIGHTS}*.safetensors"))
        if len(found) != 1:
            raise FileNotFoundError(f"{self.path.name}: needs the weights file {named[0].name} beside it; "
                                    f"found {[path.name for path in found] or 'none'} in {folder}")
        return read_fixture(found[0], WEIGHTS)


@dataclass(frozen=True)
class Comparison:
    """What came out beside what should. `key` is the tensor's key in the file; a second way of computing the
    same one adds a word after a blank: "out.y triton"."""

    key: str
    found: torch.Tensor
    expected: torch.Tensor
    tolerance: float

    @property
    def difference(self) -> float:
        """Largest absolute difference; infinite for another shape or where either is not a number."""
        if self.found.shape != self.expected.shape:
            return float("inf")
        gap = (self.found.detach().to(torch.float64) - self.expected.to(torch.float64)).abs()
        return float(gap.nan_to_num(nan=float("inf")).max()) if gap.numel() else 0.0

    @property
    def passed(self) -> bool:
        return self.difference <= self.tolerance


def read_fixture(path: Path, name: str) -> Fixture:
    """The file as a fixture of kind `name`. Metadata that are not JSON stay text."""
    with safe_open(path, "pt") as file:
        metadata = {key: _decode(value) for key, value in (file.metadata() or {}).items()}
        keys: list[str] = list(file.keys())
        tensors = {key: file.get_tensor(key) for key in keys}
    return Fixture(path, name, metadata, tensors)


def _decode(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
