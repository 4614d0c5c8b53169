"""Memory does not grow with the length of a video: measured in child processes, whose peak is their own."""

import subprocess
import sys
from pathlib import Path

import av
import pytest

ROOT = Path(__file__).resolve().parents[3]

CHILD = """
import resource, sys
from annotate.cut.cutter import CutConfig, Cutter
from annotate.source.item import SourceItem
cutter = Cutter(CutConfig(frames=161, width=160, height=90))
cutter.setup()
clips = sum("mp4" in row.files for row in cutter.cut(SourceItem(sys.argv[1], "x")))
print(clips, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def repeat(video: Path, times: int, path: Path) -> Path:
    """The packets of a video over and over, not decoded."""
    with av.open(str(path), "w") as out:
        stream = None
        for turn in range(times):
            with av.open(str(video)) as container:
                source = container.streams.video[0]
                stream = stream or out.add_stream_from_template(source)
                for packet in container.demux(source):
                    if packet.dts is None:
                        continue
                    packet.pts += turn * source.duration
                    packet.dts += turn * source.duration
                    packet.stream = stream
                    out.mux(packet)
    return path


def peak(path: Path) -> tuple[int, float]:
    """Number of clips, and the largest resident memory in MB of a process that cuts a video."""
    done = subprocess.run([sys.executable, "-c", CHILD, str(path)], cwd=ROOT, capture_output=True, text=True,
                          check=True)
    clips, kilobytes = map(int, done.stdout.split())
    return clips, kilobytes / 1024


@pytest.mark.slow
def test_a_long_video_takes_no_more_memory_than_a_short_one(video_writer, numbered_frame, tmp_path):
    shots = [0] * 240 + [1 + k // 90 for k in range(360)]  # 24 s, and four of 9 s: a clip is begun and fails
    frames = (numbered_frame(k, (90, 160), seed=shot) for k, shot in enumerate(shots))
    minute = video_writer(tmp_path / "minute.mp4", frames, fps=10, options={"bf": "0", "crf": "20"})
    short = peak(minute)
    long = peak(repeat(minute, 8, tmp_path / "long.mp4"))
    assert (short[0], long[0]) == (2, 8 * 2)
    # 8 minutes are 4800 frames, 100 MB as YUV and 200 MB as RGB; encoders that stay take 1 MB each
    assert long[1] - short[1] < 25
