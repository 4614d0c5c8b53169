"""Many videos on many machines: `python -m pipelines.generate manifest=rows.csv out=videos`."""

from __future__ import annotations

from conf import entry
from pipelines.command import run_checked
from pipelines.generate_config import GenerateConfig


@entry(
    GenerateConfig, name="generate",
    text_keys=("image", "prompt", "negative", "action", "camera", "out", "manifest", "model", "codec", "text",
               "refiner"),
    examples=(
        "python -m pipelines.generate manifest=rows.csv out=videos sampler=distilled",
        "python -m pipelines.generate manifest=rows.parquet out=/shared/videos workers=8 ray.address=auto",
        "ray job submit -- python -m pipelines.generate manifest=rows.csv out=/shared/videos "
        "ray.address=auto",
    ),
)
def main(config: GenerateConfig) -> int:
    """Make the videos of a table, one GPU a worker: what `python -m infer manifest=...` does, on Ray.

    Run the same command again at any time: it makes what is missing and touches nothing else.
    """
    from pipelines.generate_run import run

    return run_checked(config, run)


if __name__ == "__main__":
    main()
