"""The generator: `python -m infer image=room.png prompt="..." action="w-80,d-40,w-120"`."""

from __future__ import annotations

from conf import entry
from infer.config import InferConfig


@entry(
    InferConfig, name="infer",
    text_keys=("image", "prompt", "negative", "action", "camera", "out", "manifest", "repeat", "model",
                        "codec", "text", "refiner"),
    examples=(
        'python -m infer image=room.png prompt="a sunlit room" action=w-80,d-40,w-120',
        "python -m infer image=room.png camera=orbit:radius=2,degrees=90 sampler=distilled refiner=ltx2",
        "python -m infer image=room.png action=w-40 model=runs/sft/export/network codec=dct32 text=hash",
        "python -m infer action=w-80,d-40,w-120 preview=true",
        "python -m infer manifest=rows.csv out=videos sampler=distilled",
        "python -m infer repeat=out/video out=out/again",
    ),
)
def main(config: InferConfig) -> int:
    """Make a video that begins with an image, shows what a prompt says, and follows a camera path.

    It can be watched while it is made: out/video.partial.mp4 grows and becomes out/video.mp4.
    """
    from infer.run import run

    return run(config)


if __name__ == "__main__":
    main()
