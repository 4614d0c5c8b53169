"""The frame scan with chunks: in one pass, and chunk by chunk with the carried state."""

from __future__ import annotations

import torch

from model.gdn import GDNState, frame_gdn
from tests.golden.fixture import Comparison, Fixture
from tests.golden.gdn_scan_bidirectional import TOLERANCE, compare_scan


def check(fixture: Fixture) -> list[Comparison]:
    comparisons = []
    for case in fixture.cases("in.k_rot"):
        inputs = fixture.under(f"{case}in.")
        settings = fixture.metadata.get("cases", {}).get(case.removesuffix("."), fixture.metadata)
        comparisons += compare_scan(fixture, case, inputs, settings["chunk_starts"])
        comparisons += compare_carried(fixture, case, inputs, settings["chunk_starts"])
    return comparisons


def compare_carried(
    fixture: Fixture, case: str, inputs: dict[str, torch.Tensor], chunk_starts: list[int]
) -> list[Comparison]:
    comparisons, outputs = [], []
    state: GDNState | None = None
    ends = [*chunk_starts[1:], inputs["decay"].shape[1]]
    for chunk, (first, end) in enumerate(zip(chunk_starts, ends, strict=True)):
        x = {name: value[:, first:end] for name, value in inputs.items()}
        out, state = frame_gdn(x["q_rot"], x["k_rot"], x["v"], x["beta"], x["decay"], q_plain=x["q"],
                               k_plain=x["k"], state=state)
        outputs.append(out)
        for name, found in (("state_kv", state.matrix), ("state_z", state.normaliser)):
            key = f"{case}out.{name}_after_chunk{chunk}"
            if key in fixture:
                comparisons.append(Comparison(key, found, fixture[key], TOLERANCE))
    carried = torch.cat(outputs, 1)
    return [*comparisons, Comparison(f"{case}out.y carried", carried, fixture[f"{case}out.y"], TOLERANCE)]
