"""Updates that are not finite change nothing, name their clips, and end the run when there are too many."""

from __future__ import annotations

import json

from model.dit import SanaWM
from train.guard import Guard


def test_a_run_that_diverges_stops_with_its_last_good_checkpoint(settings, train, tmp_path, latents) -> None:
    """The first update throws the weights so far that the second loss is not finite."""
    config = settings(tmp_path / "run", stage="gdn", steps=50, optim__lr=1e25, nonfinite=3,
                      checkpoint__every=1)
    code, said = train(config)
    assert code == 1
    lines = [json.loads(line) for line in (tmp_path / "run" / "nonfinite.jsonl").read_text().splitlines()]
    assert len(lines) == 3 and all(len(line["clips"]) == 1 and len(line["clips"][0]) == 20 for line in lines)
    steps = [line["step"] for line in lines]
    assert steps == list(range(steps[0], steps[0] + 3))
    assert f"step {steps[-1]}: 3 updates in a row were skipped" in said
    kept = [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()]
    assert kept == [f"step-{steps[0] - 1:08d}"]  # none of the skipped steps
    assert f"the last good checkpoint is {tmp_path / 'run' / 'checkpoints' / kept[0]}" in said
    assert not (tmp_path / "run" / "export").exists()


def test_a_skipped_update_changes_no_weight(settings, train, tmp_path) -> None:
    """Gradients of 1e30 and more overflow in their norm."""
    code, said = train(settings(tmp_path / "run", stage="gdn", steps=3, optim__lr=1e25, nonfinite=9,
                                checkpoint__every=1))
    assert code == 0 and "skipped" in said
    code, said = train(settings(tmp_path / "same", stage="gdn", steps=1, optim__lr=1e25))
    after, before = (SanaWM.from_pretrained(tmp_path / run / "export" / "network").state_dict()
                     for run in ("run", "same"))
    assert all(before[name].equal(tensor) for name, tensor in after.items())


def test_skips_count_in_a_row() -> None:
    guard = Guard(limit=2)
    assert not guard.skip()
    guard.passed()
    assert not guard.skip() and guard.skip()
    assert guard.skipped == 3
