"""Look through a data set: `python -m pipelines.qa data=<data set>`."""

from __future__ import annotations

from conf import entry
from pipelines.command import run_checked
from pipelines.qa.config import QaConfig


@entry(
    QaConfig, name="qa", text_keys=("data", "reviewer", "token"),
    examples=(
        "python -m pipelines.qa data=demo/dataset",
        "python -m pipelines.qa data=s3://bucket/dataset reviewer=Ada open=false",
        "python -m pipelines.qa data=dataset host=0.0.0.0 port=8000",
    ),
)
def main(config: QaConfig) -> int:
    """Open a data set in the browser: scores and thresholds, clips with their cameras, verdicts of people.

    Nothing of the data set is changed; verdicts and notes go into files of their own beside the data.
    """
    from pipelines.qa.serve import serve

    return run_checked(config, serve, "data")


if __name__ == "__main__":
    main()
