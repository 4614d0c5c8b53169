"""The live server: `python -m infer.serve`, then open the page it names."""

from __future__ import annotations

from conf import entry
from infer.serve.config import ServeConfig


@entry(
    ServeConfig, name="serve", text_keys=("host", "token", "model", "codec", "text", "refiner"),
    examples=(
        "python -m infer.serve",
        "python -m infer.serve host=0.0.0.0 refiner=ltx2 limit.drives=1",
        "python -m infer.serve model=runs/distil/export/network codec=dct32 text=hash size=[160,256]",
    ),
)
def main(config: ServeConfig) -> int:
    """Serve a page on which visitors drive through a world: an image, a prompt and the keyboard make a video
    that is shown while it is made.

    The page is for this machine alone unless host names another address; then it asks for a token.
    """
    from infer.serve.run import run

    return run(config)


if __name__ == "__main__":
    main()
