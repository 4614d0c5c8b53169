"""Is a data set whole: `python -m pipelines.validate data=<data set>`."""

from __future__ import annotations

from conf import USAGE_ERROR, entry
from pipelines.command import complain, exit_code, expand_home
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

    expand_home(config, "data")
    try:
        config.check()
    except ValueError as error:
        return complain(str(error), USAGE_ERROR)
    return exit_code(lambda: validate(config))


if __name__ == "__main__":
    main()
