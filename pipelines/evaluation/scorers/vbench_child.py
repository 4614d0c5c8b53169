"""Scores short videos with VBench: `python vbench_child.py REQUEST.json ANSWER.json`.

Request: metric (a dimension such as imaging_quality), device, videos [path], all in one folder. Answer:
version, videos [score]. Imports nothing but vbench and what that brings.
"""

import json
import sys
from pathlib import Path

import torch
import vbench


def main(request: str, answer: str) -> None:
    """Read the request, write the answer."""
    asked = json.loads(Path(request).read_text())
    folder = Path(answer).parent / "vbench"
    folder.mkdir(exist_ok=True)
    about = Path(vbench.__file__).parent / "VBench_full_info.json"
    bench = vbench.VBench(torch.device(asked["device"]), str(about), str(folder))
    bench.evaluate(videos_path=str(Path(asked["videos"][0]).parent), name="asked",
                   dimension_list=[asked["metric"]], mode="custom_input",
                   imaging_quality_preprocessing_mode="longer")
    found = json.loads((folder / "asked_eval_results.json").read_text())[asked["metric"]][1]
    scores = {Path(video["video_path"]).name: float(video["video_results"]) for video in found}
    videos = [scores[Path(path).name] for path in asked["videos"]]
    Path(answer).write_text(json.dumps({"version": f"vbench {getattr(vbench, '__version__', '')}".strip(),
                                        "videos": videos}))


if __name__ == "__main__":
    main(*sys.argv[1:3])
