"""Held-out clips are never trained on; their loss does not depend on chance; films show what is made."""

from __future__ import annotations

import json

import av
import numpy as np
import pytest
import torch

from dataset.loader.loader import Loader
from train.data import resolve, split
from train.film import draw_path
from train.metrics import SigmaTable, format_line, format_time

HELD_OUT = "clip_id < '8'"


def test_held_out_clips_and_the_others_are_all_there_are(settings, tmp_path) -> None:
    data, _ = resolve(settings(tmp_path, stage="gdn", data__where="frames > 0").data)
    ids = [set(Loader(part).selections[0].ids) for part in (data, *split(data, HELD_OUT))]
    assert ids[1] and ids[2] and not ids[1] & ids[2] and ids[1] | ids[2] == ids[0]
    assert all(clip < "8" for clip in ids[2])


@pytest.mark.parametrize(("stage", "sampler"), [("minute", "auto"), ("chunk_causal", "auto"),
                                                ("chunk_causal", "stream")])
def test_losses_and_a_film(stage: str, sampler: str, settings, train, tmp_path) -> None:
    """Twice on the same weights: the same numbers."""
    config = settings(tmp_path / "run", stage=stage, steps=2, optim__lr=0.0, validate__every=1,
                      validate__where=HELD_OUT, validate__clips=2, validate__steps=2, validate__bins=3,
                      validate__sampler=sampler, validate__guidance=2.0, validate__follow=None)
    code, said = train(config)
    assert code == 0, said
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    first, second = [line for line in lines if "validation/loss" in line]
    assert {**first, "step": 2} == second
    bins = [value for name, value in first.items() if name.startswith("validation/loss_")]
    assert len(bins) == 3 and first["validation/loss"] == pytest.approx(sum(bins) / 3)
    films = sorted((tmp_path / "run" / "samples").iterdir())
    assert [film.name for film in films] == ["step-00000001-0.mp4", "step-00000002-0.mp4"]
    with av.open(str(films[0])) as film:
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert len(frames) == 17 and frames[0].shape == (64, 96 + 96 + 64, 3)
    made, true = frames[0][:, :96].astype(float), frames[0][:, 96:192].astype(float)
    assert np.abs(made - true).mean() < 6  # the first frame is given to the sampler


@pytest.mark.slow
def test_cameras_of_films_are_looked_for(settings, train, tmp_path) -> None:
    """Films of 96 x 64 pixels show too little: training says so and goes on."""
    config = settings(tmp_path / "run", stage="minute", steps=1, validate__every=1, validate__where=HELD_OUT,
                      validate__clips=1, validate__steps=2)
    code, said = train(config)
    assert code == 0, said
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    [found] = [line["validation/camera_found"] for line in lines if "validation/camera_found" in line]
    assert found == 0
    assert "validation: no camera: " in said and "validation: no true camera: " in said


def test_a_path_to_the_right_is_drawn_to_the_right() -> None:
    c2w = np.tile(np.eye(4), (5, 1, 1))
    c2w[:, 0, 3] = np.arange(5)
    bright = [np.argwhere((frame == (80, 200, 255)).all(-1)).mean(0) for frame in draw_path(c2w, 100)]
    columns = [place[1] for place in bright]
    assert np.allclose(np.diff(columns), np.diff(columns)[0], atol=1) and columns[-1] - columns[0] > 60
    assert all(place[0] < 50 for place in bright)  # looking forward, which is up


def test_losses_fall_into_their_bins() -> None:
    table = SigmaTable(4)
    table.add(torch.tensor([0.0, 0.2, 0.99, 1.0]), torch.tensor([1.0, 3.0, 5.0, 7.0]))
    assert table.read(table.sums) == [2.0, None, None, 6.0]
    assert not table.sums.any()


def test_the_line_of_a_step_says_everything() -> None:
    values = {"loss": 0.0432, "grad_norm": 0.31, "lr": 1e-5, "clips_per_s": 4.1, "tokens_per_s": 436_000.0,
              "mfu": 0.31, "data_share": 0.02, "memory_gb": 71.0, "skipped": 0, "seconds_per_step": 7.5}
    assert format_line(1240, 31000, values) == (
        "step 1,240/31,000  loss 0.0432  grad 0.31  lr 1.0e-05  4.1 clips/s  436 K tokens/s  MFU 31 %  "
        "data 2 %  71 GB  left 2 d 14 h")
    both = format_line(3, 9, {**values, "critic/loss": 0.5, "critic/grad_norm": 2.0, "critic/lr": 2e-6})
    assert "lr 1.0e-05  critic loss 0.5000  grad 2.00  lr 2.0e-06  4.1 clips/s" in both
    assert format_time(3700) == "1 h 1 min" and format_time(59) == "59 s"
