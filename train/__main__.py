"""The trainer: `python -m train stage=<stage> data.path=<data set> out=<run folder>`."""

from __future__ import annotations

from conf import entry
from train.config import TrainConfig


@entry(
    TrainConfig, name="train", text_keys=("out", "start", "data.path", "data.where", "validate.where"),
    examples=(
        "python -m train stage=minute start=runs/hybrid data.path=dataset out=runs/minute",
        "torchrun --nproc-per-node 8 -m train stage=gdn start=runs/vae_adapt data.path=dataset out=runs/gdn",
        "python -m train stage=sft out=runs/sft start=runs/minute dry_run=true plan.gpus=8",
    ),
)
def main(config: TrainConfig) -> int:
    """Train a stage of the network, from the network of the stage before.

    Run the same command again at any time: it goes on after its newest checkpoint.
    """
    from train.run import run

    return run(config)


if __name__ == "__main__":
    main()
