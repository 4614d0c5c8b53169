"""Encoding ahead of training: `python -m pipelines.latents data=<data set>`."""

from __future__ import annotations

from conf import entry
from pipelines.command import run_checked
from pipelines.latents_config import LatentsConfig


@entry(
    LatentsConfig, name="latents", text_keys=("data", "codec", "text", "where", "work", "chi_prompt"),
    examples=(
        "python -m pipelines.latents data=demo/dataset",
        "python -m pipelines.latents data=dataset codec=Efficient-Large-Model/SANA-WM_bidirectional "
        "text=Efficient-Large-Model/gemma-2-2b-it size=[704,1280]",
        "python -m pipelines.latents data=s3://bucket/dataset codec=dct16 "
        "where=\"verdict = 'kept' and flow_dis > 5\" ray.address=auto",
    ),
)
def main(config: LatentsConfig) -> int:
    """Encode the clips of a data set and their captions, so that training need not: a latent set.

    Run the same command again at any time: it encodes what is missing, also clips added since, and touches
    nothing else.
    """
    from pipelines.latents_run import run
    from pipelines.latents_summary import finish, note_start

    def encode(config: LatentsConfig) -> int:
        return finish(config, run(config, lambda outcome: note_start(config, outcome)))

    return run_checked(config, encode, "data", "codec", "text", "work", "chi_prompt")


if __name__ == "__main__":
    main()
