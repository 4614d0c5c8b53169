"""Is a data set whole: `python -m pipelines.validate data=<data set>`."""

from __future__ import annotations

from conf import entry
from pipelines.command import run_checked
from pipelines.validate_config import ValidateConfig


@entry(
    ValidateConfig, name="validate", text_keys=("data",),
    examples=(
        "python -m pipelines.validate data=demo/dataset",
        "python -m pipelines.validate data=s3://bucket/dataset decode=false jobs=16",
        "python -m pipelines.validate data=dataset repair=true",
    ),
)
def main(config: ValidateConfig) -> int:
    """Check every shard of a data set and of its latent sets, and tell damage by clip. Exit code 1: damaged.

    Reads tars, checksums, videos, cameras, depth, latents and captions, and compares the index with them.
    """
    from pipelines.validate_run import validate

    return run_checked(config, validate, "data")


if __name__ == "__main__":
    main()
