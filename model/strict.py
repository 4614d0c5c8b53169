"""What tensors that were found have to do with those that are wanted: names and shapes must be the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

_LISTED = 50


def list_faults(found: Mapping[str, Iterable[int]], wanted: Mapping[str, Iterable[int]]) -> list[str]:
    """A line for tensors that are missing, one for those that are unexpected, one for those misshapen; none
    where names and shapes are the same."""
    both = found.keys() & wanted.keys()
    faults = {
        "missing": sorted(wanted.keys() - found.keys()),
        "unexpected": sorted(found.keys() - wanted.keys()),
        "misshapen": [f"{name} {tuple(found[name])} for {tuple(wanted[name])}" for name in sorted(both)
                      if tuple(found[name]) != tuple(wanted[name])],
    }
    return [f"  {len(names)} {fault}: {', '.join(names[:_LISTED])}{', …' if len(names) > _LISTED else ''}"
            for fault, names in faults.items() if names]
