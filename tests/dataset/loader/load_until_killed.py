"""Load thirty steps, noting each with the place after it, and go on from the last note. For kill -9.

python load_until_killed.py DATA LATENTS WORKERS LOG
"""

import json
import os
import sys
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from dataset.loader.config import DataConfig
from dataset.loader.loader import Loader

STEPS = 30


def main() -> None:
    data, latents, workers, log = sys.argv[1:]
    config = DataConfig(path=data, latents=latents, frames=[17, 33], batch_size=2, workers=int(workers))
    loader = Loader(config)
    path, done = Path(log), 0
    if path.exists():
        whole = path.read_bytes()
        path.write_bytes(whole[: whole.rfind(b"\n") + 1])  # a note that was cut short is no note
        notes = path.read_text().splitlines()
        done = len(notes)
        if notes:
            loader.load_state_dict(json.loads(notes[-1])["state"])
    with open(path, "a") as notes_file:
        for batch in islice(loader, STEPS - done):
            notes_file.write(json.dumps({"clips": batch.clip_ids, "state": loader.state_dict()}) + "\n")
            notes_file.flush()
            os.fsync(notes_file.fileno())


if __name__ == "__main__":
    main()
