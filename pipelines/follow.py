"""Did a video follow its path: `python -m pipelines.follow video=out.mp4 camera=camera.npz`."""

from __future__ import annotations

from conf import entry
from pipelines.command import run_checked
from pipelines.follow_config import FollowConfig


@entry(
    FollowConfig, name="follow", text_keys=("video", "camera"),
    examples=(
        "python -m pipelines.follow video=out/room/video.mp4 camera=out/room/camera.npz",
    ),
)
def main(config: FollowConfig) -> int:
    """Find the camera of a video and compare it with the path it was to follow; prints one line of JSON.

    rot_err_deg, trans_err, cam_mc: after Sim(3), as in App. D of the paper; degrees, and units of the path.
    path: its length. found: share of the frames whose camera was found. failure: why there are no errors.
    """
    from pipelines.follow_run import follow

    return run_checked(config, follow, "video", "camera")


if __name__ == "__main__":
    main()
