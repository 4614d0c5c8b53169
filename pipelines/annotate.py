"""The main job: `python -m pipelines.annotate src=<videos> out=<data set>`."""

from __future__ import annotations

from contextlib import suppress

from annotate.config import AnnotateConfig
from conf import USAGE_ERROR, entry
from pipelines.command import complain, exit_code, expand_home


@entry(
    AnnotateConfig, name="annotate", text_keys=("src", "out", "work"),
    examples=(
        "python -m pipelines.annotate src=synthetic out=demo/dataset",
        "python -m pipelines.annotate src=~/videos out=dataset thresholds=spatialvid source.rig=walking",
        "python -m pipelines.annotate src=~/videos out=dataset engine=vipe   # pi3x, vggt, depth_anything3",
        "python -m pipelines.annotate src=s3://bucket/list.parquet out=s3://bucket/dataset ray.address=auto",
    ),
)
def main(config: AnnotateConfig) -> int:
    """Annotate video: cut it into clips, find cameras, depth and metric scale, score, and write shards.

    Run the same command again at any time: it finishes what is missing and touches nothing else.
    """
    from annotate.weights import prepare
    from dataset.lock import LockHeld
    from dataset.store import Store
    from pipelines.duplicates import settle_duplicates
    from pipelines.job import build_job
    from pipelines.runner import run
    from pipelines.summary import finish, note_start

    expand_home(config, "src", "out", "work")
    try:
        job = build_job(config)
        for line in prepare(job.stages):
            print(line)
    except ValueError as error:
        return complain(str(error), USAGE_ERROR)

    def work() -> int:
        outcome = run(job, lambda outcome: note_start(config, job, outcome))
        with suppress(LockHeld):  # by a run that began a moment ago: it settles them at its end
            settle_duplicates(Store(job.out), config.duplicates, job.judge)
        return finish(config, job, outcome)

    return exit_code(work)


if __name__ == "__main__":
    main()
