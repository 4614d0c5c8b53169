"""Scores pictures, and pairs of pictures, with pyiqa: `python pyiqa_child.py REQUEST.json ANSWER.json`.

Request: metric, device, pictures [path], pairs [[path, path]]. Answer: version, pictures [score], pairs
[LPIPS]. Imports nothing but pyiqa and what that brings.
"""

import json
import sys
from pathlib import Path

import pyiqa
import torch


def main(request: str, answer: str) -> None:
    """Read the request, write the answer."""
    asked = json.loads(Path(request).read_text())
    device = torch.device(asked["device"])
    version = f"pyiqa {getattr(pyiqa, '__version__', '')}".strip()
    found: dict = {"version": version, "pictures": [], "pairs": []}
    if asked["pictures"]:
        metric = pyiqa.create_metric(asked["metric"], device=device)
        found["pictures"] = [float(metric(path)) for path in asked["pictures"]]
    if asked["pairs"]:
        lpips = pyiqa.create_metric("lpips", device=device)
        found["pairs"] = [float(lpips(a, b)) for a, b in asked["pairs"]]
    Path(answer).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:3])
