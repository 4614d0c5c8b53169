"""The frame scan alone: normalised, numerator and denominator apart, and its last forward states."""

from __future__ import annotations

import torch

from model.gdn import frame_gdn
from tests.golden.fixture import Comparison, Fixture

TOLERANCE = 1e-5


def check(fixture: Fixture) -> list[Comparison]:
    comparisons = []
    for case in fixture.cases("in.k_rot"):
        inputs = fixture.under(f"{case}in.")
        cases = fixture.metadata.get("cases", {})
        starts = cases.get(case.removesuffix("."), fixture.metadata).get("chunk_starts", [0])
        comparisons += compare_scan(fixture, case, inputs, starts)
    return comparisons


def compare_scan(
    fixture: Fixture, case: str, inputs: dict[str, torch.Tensor], chunk_starts: list[int]
) -> list[Comparison]:
    """Everything the file holds about one scan, in its case's own names."""
    x, ones = inputs, torch.ones_like(inputs["v"][..., :1])
    y, state = frame_gdn(x["q_rot"], x["k_rot"], x["v"], x["beta"], x["decay"], q_plain=x["q"],
                         k_plain=x["k"], chunk_starts=chunk_starts)
    num, _ = frame_gdn(x["q_rot"], x["k_rot"], x["v"], x["beta"], x["decay"], chunk_starts=chunk_starts)
    den, _ = frame_gdn(x["q"], x["k"], ones, x["beta"], x["decay"], chunk_starts=chunk_starts)
    found = {"y": y, "num": num, "cam_numerator_only": num, "den": den[..., 0],
             "final_state_kv": state.matrix, "final_state_z": state.normaliser}
    return [Comparison(f"{case}out.{name}", value, fixture[f"{case}out.{name}"], TOLERANCE)
            for name, value in found.items() if f"{case}out.{name}" in fixture]
