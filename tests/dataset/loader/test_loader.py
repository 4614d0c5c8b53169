"""The stream of batches: split over processes, resumed, mixed, and equal to what is stored."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from itertools import islice
from pathlib import Path

import fsspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset.catalog import CatalogError
from dataset.loader.config import DataConfig, SourceConfig
from dataset.loader.loader import Loader, LoaderError
from dataset.store import Store
from tests.tiny_dataset import write_latent_set, write_video_set

LATENTS = "dct32-96x64"
HERE = Path(__file__).parent


def config_of(store: Store, latents: str | None = LATENTS, **settings) -> DataConfig:
    return DataConfig(**{"path": store.url, "latents": latents, "frames": [17, 33], "workers": 0, **settings})


def names(loader: Loader, count: int | None = None) -> list[list[str]]:
    return [batch.clip_ids for batch in islice(loader, count)]


@settings(max_examples=9)
@given(nodes=st.integers(1, 3), ranks=st.integers(1, 2), context=st.booleans(), batch=st.integers(1, 3),
       before=st.integers(0, 3), after=st.integers(0, 3), data=st.data())
def test_nothing_is_lost_or_repeated_over_nodes_ranks_workers_and_a_resumption(
    pristine: Store, nodes, ranks, context, batch, before, after, data
):
    """Two epochs of every rank, stopped at a drawn step and resumed with another number of workers."""
    world = nodes * ranks
    context_parallel = 2 if context and world % 2 == 0 else 1
    places = {"world": world, "context_parallel": context_parallel, "epochs": 2}
    steps = 24 // (batch * world // context_parallel)
    stop = data.draw(st.integers(0, steps - 2 if steps > 2 else 0))
    seen: list[list[str]] = []
    states = []
    for rank in range(world):
        first = Loader(config_of(pristine, batch_size=batch, workers=before), rank=rank, **places)
        found = names(first, stop) if stop else []
        second = Loader(config_of(pristine, batch_size=batch, workers=after), rank=rank, **places)
        states.append(json.dumps(first.state_dict()))
        second.load_state_dict(json.loads(states[-1]))
        seen.append([clip for step in found + names(second) for clip in step])
    assert len(set(states)) == 1
    groups = [seen[rank] for rank in range(0, world, context_parallel)]
    assert all(seen[rank] == groups[rank // context_parallel] for rank in range(world))
    assert sorted(Counter(clip for group in groups for clip in group).values()) == [2] * 12


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_do_not_depend_on_the_number_of_workers(pristine: Store, workers: int):
    plain = Loader(config_of(pristine, batch_size=3), epochs=1)
    other = Loader(config_of(pristine, batch_size=3, workers=workers), epochs=1)
    for ours, theirs in zip(plain, other, strict=True):
        assert ours.clip_ids == theirs.clip_ids and ours.captions == theirs.captions
        for name, tensor in ours._tensors().items():
            assert torch.equal(tensor, getattr(theirs, name)), name


def test_iterating_again_goes_on(pristine: Store):
    loader, whole = (Loader(config_of(pristine, workers=count), epochs=1) for count in (1, 0))
    assert names(loader, 5) + names(loader) == names(whole)
    assert loader.epoch == 1.0 and names(loader) == []


def test_a_stream_resumed_on_more_ranks_loses_and_repeats_nothing(pristine: Store):
    first = [Loader(config_of(pristine), rank=rank, world=2, epochs=2) for rank in range(2)]
    seen = [clip for loader in first for step in names(loader, 5) for clip in step]
    for rank in range(3):
        loader = Loader(config_of(pristine, batch_size=2), rank=rank, world=3, epochs=2)
        loader.load_state_dict(first[0].state_dict())
        seen += [clip for step in names(loader) for clip in step]
    assert sorted(Counter(seen).values()) == [2] * 12


def test_a_state_of_another_stream_is_refused(pristine: Store, data: Store):
    state = Loader(config_of(pristine)).state_dict()
    for other in (config_of(pristine, seed=1), config_of(pristine, where="flow_dis > 2"),
                  config_of(pristine, frames=[17])):
        with pytest.raises(LoaderError, match=r"(?s)other clips.*begins the data anew"):
            Loader(other).load_state_dict(state)
    moved = Loader(config_of(data, batch_size=4, workers=1))
    moved.load_state_dict(state)  # the same data elsewhere is the same stream
    assert names(moved, 1)


def test_after_kill_9_the_stream_goes_on_with_exactly_what_would_have_come(pristine: Store, tmp_path: Path):
    whole = names(Loader(config_of(pristine, batch_size=2)), 30)
    for attempt, (workers, count) in enumerate(((2, 7), (0, 5), (1, None))):
        log = tmp_path / "steps.jsonl"
        script = str(HERE / "load_until_killed.py")
        process = subprocess.Popen([sys.executable, script, pristine.url, LATENTS, str(workers), str(log)])
        begun, limit = _lines(log), time.monotonic() + 200
        while count is not None and _lines(log) < begun + count and process.poll() is None:
            assert time.monotonic() < limit
            time.sleep(0.01)
        if count is None:
            assert process.wait(200) == 0
        else:
            os.kill(process.pid, signal.SIGKILL)
            assert process.wait(200) == -signal.SIGKILL
        steps = [json.loads(line)["clips"] for line in log.read_text().splitlines()]
        assert steps == whole[: len(steps)] and len(steps) >= begun, attempt
    assert len(steps) == 30


def _lines(log: Path) -> int:
    return log.read_bytes().count(b"\n") if log.exists() else 0


def test_context_parallel_ranks_get_the_same_sample_and_others_do_not(pristine: Store):
    batches = [next(iter(Loader(config_of(pristine, batch_size=2), rank=rank, world=4, context_parallel=2)))
               for rank in range(4)]
    assert batches[0].clip_ids == batches[1].clip_ids != batches[2].clip_ids == batches[3].clip_ids
    assert batches[0].latents is not None and batches[1].latents is not None
    assert torch.equal(batches[0].latents, batches[1].latents)
    for wrong in ({"rank": 4, "world": 4}, {"world": 3, "context_parallel": 2}):
        with pytest.raises(ValueError, match="the size of a group divides"):
            Loader(config_of(pristine), **wrong)


def test_groups_without_a_clip_in_the_last_step_have_one_step_less_unless_it_is_dropped(pristine: Store):
    config = config_of(pristine, batch_size=1, where="flow_dis < 7")
    lengths = [len(names(Loader(config, rank=rank, world=4, epochs=1))) for rank in range(4)]
    assert sum(lengths) == 7 and max(lengths) == 2
    whole = [names(Loader(config, rank=rank, world=4, epochs=1, drop_last=True)) for rank in range(4)]
    assert [len(found) for found in whole] == [1] * 4


def test_sources_are_mixed_by_weight_and_by_repeats(pristine: Store, tmp_path: Path):
    few = write_video_set(tmp_path / "few", clips=2, first=20)
    write_latent_set(few, name=LATENTS)

    def shares(steps: int, *mixture: dict) -> Counter[str]:
        stores = zip((pristine, few), mixture)
        sources = [SourceConfig(store.url, LATENTS, **extra) for store, extra in stores]
        loader = Loader(DataConfig(sources=sources, frames=[17], workers=0))
        return Counter(batch.sources[0] for batch in islice(loader, steps))

    assert shares(14, {}, {}) == {pristine.url: 12, few.url: 2}
    assert shares(22, {}, {"repeats": 5}) == {pristine.url: 12, few.url: 10}
    assert shares(28, {"weight": 1}, {"weight": 3}) == {pristine.url: 8, few.url: 20}  # two epochs of 4 + 10


def test_sources_of_two_kinds_are_refused_by_both_names(pristine: Store):
    sources = [SourceConfig(pristine.url, LATENTS), SourceConfig(pristine.url)]
    with pytest.raises(CatalogError, match=r"latents of the codec dct-.* holds video"):
        Loader(DataConfig(sources=sources, frames=[17]))


@pytest.mark.parametrize("workers", [0, 2])
def test_shards_behind_an_address_give_the_same_batches(pristine: Store, workers: int):
    memory = fsspec.filesystem("memory")
    memory.put(pristine.url, "/loader-test/data", recursive=True)
    try:
        for latents in (LATENTS, None):
            remote = DataConfig(path="memory://loader-test/data", latents=latents, frames=[17], batch_size=5,
                                workers=workers)
            there = Loader(remote, epochs=1)
            here = Loader(config_of(pristine, latents, frames=[17], batch_size=5), epochs=1)
            for ours, theirs in zip(here, there, strict=True):
                for name, tensor in ours._tensors().items():
                    assert torch.equal(tensor, getattr(theirs, name)), name
    finally:
        memory.rm("/loader-test", recursive=True)


def test_workers_can_be_spawned(pristine: Store):
    spawned = Loader(config_of(pristine, workers=1, fork=False, batch_size=4), epochs=1)
    assert names(spawned) == names(Loader(config_of(pristine, batch_size=4), epochs=1))


def test_a_latent_set_and_the_index_are_all_that_is_needed(data: Store):
    shutil.rmtree(Path(data.url) / "shards")
    loader = Loader(config_of(data), epochs=1)
    assert sum(len(batch) for batch in loader) == 12
    states, mask = loader.null_text()
    assert states.shape == (16, 24) and mask.shape == (16,) and states.dtype == torch.float32
    assert loader.latents is not None and loader.latents.size == (64, 96)
    assert "12 clips (8 of 17x64x96, 4 of 33x64x96)" in loader.summary()
