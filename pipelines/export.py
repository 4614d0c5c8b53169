"""For other tools: `python -m pipelines.export data=... to=rerun|colmap|fiftyone|card out=...`."""

from __future__ import annotations

from conf import entry
from pipelines.command import run_checked
from pipelines.export_config import ExportConfig


@entry(
    ExportConfig, name="export", text_keys=("data", "out", "where", "name", "description"),
    examples=(
        "python -m pipelines.export data=dataset to=rerun out=recordings limit=10",
        "python -m pipelines.export data=dataset to=colmap out=models where=clip_id='3f2a...'",
        "python -m pipelines.export data=dataset to=card out=dataset name=walks",
    ),
)
def main(config: ExportConfig) -> int:
    """Write a data set's clips as files that Rerun, COLMAP or FiftyOne open, or its card for the hub.

    Files that are there already are written anew.
    """
    from pipelines.export_run import run

    return run_checked(config, run, "data", "out")


if __name__ == "__main__":
    main()
