"""Finished sets: `python -m pipelines.import_set layout=sana_wm src=<folder> out=<data set>`."""

from __future__ import annotations

from conf import entry
from pipelines.command import expand_home, run_checked
from pipelines.import_set_config import ImportSetConfig


@entry(
    ImportSetConfig, name="import_set", text_keys=("src", "out", "licence"),
    examples=(
        "python -m pipelines.import_set src=~/sekai_game_train_961frames_16fps_ovl640 out=dataset",
        "python -m pipelines.import_set src=... out=dataset latents.src=~/LTX2VAE_diffusers_704x1280/... "
        "latents.codec=~/ltx2-vae",
        "python -m pipelines.import_set src=... out=dataset thresholds=sekai_game thresholds.missing=ignore",
    ),
)
def main(config: ImportSetConfig) -> int:
    """Import a published set whose cameras are finished: poses to metres, licence and scores on every row.

    Run the same command again at any time: it finishes what is missing and touches nothing else.
    """
    from pipelines.import_set_run import run

    expand_home(config.latents, "src", "codec", "text", "chi_prompt")
    return run_checked(config, run, "src", "out")


if __name__ == "__main__":
    main()
