"""The one-minute benchmark: `python -m pipelines.evaluate scenes=... out=... bidirectional=...`."""

from __future__ import annotations

from conf import entry
from pipelines.command import run_checked
from pipelines.evaluation.config import EvaluateConfig


@entry(
    EvaluateConfig, name="evaluate",
    text_keys=("scenes", "out", "bidirectional", "chunk_causal", "distilled", "videos", "networks.codec",
               "networks.text", "networks.refiner", "networks.negative", "quality.python"),
    examples=(
        "python -m pipelines.evaluate scenes=SANA-WM-Bench out=evaluation bidirectional=released",
        "python -m pipelines.evaluate scenes=synthetic out=evaluation truth=true wrong=true",
        "python -m pipelines.evaluate scenes=pictures out=evaluation prepare=true",
        "python -m pipelines.evaluate scenes=pictures out=evaluation videos=other=results/other",
    ),
)
def main(config: EvaluateConfig) -> int:
    """Measure camera-controlled generators over a minute, as the paper does: how far their cameras stray,
    what is the same when they come back, how the pictures hold up, and what it costs.

    Running it again continues, and measures what has changed.
    """
    from pipelines.evaluation.run import run

    return run_checked(config, run, "scenes", "out", "bidirectional", "chunk_causal", "distilled")


if __name__ == "__main__":
    main()
