"""Checks every golden file of a folder: one line each; exit status 1 if one fails or is not covered."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
import traceback
from pathlib import Path

import torch

from tests.golden.fixture import Comparison, Fixture, read_fixture

_NOT_KINDS = {"__main__", "fixture"}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.golden", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of .safetensors fixtures")
    folder = parser.parse_args(arguments).folder
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        print(f"{folder}: no .safetensors files here", file=sys.stderr)
        return 1
    results = [check_file(path) for path in paths]
    width = max(len(path.stem) for path in paths)
    for path, (passed, text) in zip(paths, results, strict=True):
        print(f"{'ok  ' if passed else 'FAIL'}  {path.stem:{width}}  {text}")
    failed = sum(not passed for passed, _ in results)
    print(f"{len(paths) - failed} of {len(paths)} files pass")
    return 1 if failed else 0


def check_file(path: Path) -> tuple[bool, str]:
    """Whether the file passes, and its line: the comparison nearest to its tolerance, or farthest beyond."""
    name = kind_of(path.stem)
    if name is None:
        return False, "not covered: no check for files of this name"
    try:
        fixture = read_fixture(path, name)
        with torch.no_grad():
            comparisons = importlib.import_module(f"tests.golden.{name}").check(fixture)
    except Exception as error:
        traceback.print_exc()
        return False, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    missing = not_compared(fixture, comparisons)
    if missing or not comparisons:
        return False, f"not covered: nothing compares {', '.join(missing) or 'anything'}"
    worst = max(comparisons, key=lambda c: c.difference / c.tolerance if c.tolerance else
                (0.0 if c.passed else float("inf")))
    text = f"{worst.difference:.1e} of {worst.tolerance:.0e}  {worst.key}  ({len(comparisons)} compared)"
    if worst.found.shape != worst.expected.shape:
        text += f"; shape {tuple(worst.found.shape)}, expected {tuple(worst.expected.shape)}"
    return all(c.passed for c in comparisons), text


def not_compared(fixture: Fixture, comparisons: list[Comparison]) -> list[str]:
    """Keys of outputs in the file that no comparison looked at."""
    seen = {comparison.key.split(" ")[0] for comparison in comparisons}
    return sorted(key for key in fixture.tensors if "out" in key.split(".") and key not in seen)


def kinds() -> list[str]:
    """Names of the kinds of file there are checks for: the modules beside this one."""
    return sorted(module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)])
                  if module.name not in _NOT_KINDS)


def kind_of(stem: str) -> str | None:
    """The longest known name that `stem` starts with; the rest of the stem is free."""
    return max((name for name in kinds() if stem.startswith(name)), key=len, default=None)


if __name__ == "__main__":
    sys.exit(main())
