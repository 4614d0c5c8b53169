"""What Ray's workers do: make a video, measure one. What goes wrong with a video is written into its row."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from dataset.store import Store
from pipelines.evaluation.cases import Case
from pipelines.evaluation.config import EvaluateConfig
from pipelines.evaluation.generators import Generator, Made, NetworkMaker, make_file
from pipelines.evaluation.measure import Measuring, Metrics, measure
from pipelines.plan import PlanError
from pipelines.workers import limit_threads, raise_if_full

ROWS, VIDEOS, TRACKS = "rows", "videos", "tracks"
VERSION = "2"
"""Of the measurements: rows of another version are measured again."""


@dataclass(frozen=True)
class Job:
    """One video of one generator. `made` and `measured` say what the two depend on."""

    generator: Generator
    case: Case
    made: str
    measured: str

    @property
    def name(self) -> str:
        return f"{self.generator.name}/{self.case.name}"

    @property
    def row(self) -> str:
        return f"{ROWS}/{self.name}.json"

    @property
    def video(self) -> str:
        return f"{VIDEOS}/{self.name}.mp4"

    @property
    def about_video(self) -> str:
        return f"{VIDEOS}/{self.name}.json"

    @property
    def track(self) -> str:
        return f"{TRACKS}/{self.name}.npz"

    def blank(self, **known: Any) -> Metrics:
        """A row without measurements."""
        case = self.case
        length = float(sum(((case.c2w[1:, :3, 3] - case.c2w[:-1, :3, 3]) ** 2).sum(1) ** 0.5))
        return Metrics(self.generator.name, case.name, case.scene, case.path, str(case.split), case.prompt,
                       fingerprint=self.measured, path_length=length, clearance=case.clearance, **known)


def job_of(
    generator: Generator, case: Case, others: list[Case], digest: str, config: EvaluateConfig,
) -> Job:
    """others: all cases. digest: of the case."""
    made = _digest(digest, generator.identity(case, others, config))
    told = [asdict(part) for part in (config.recovery, config.revisit, config.quality)]
    del told[0]["learned"]  # where engines are and on what they run
    for machine in ("python", "device", "limit_s"):
        del told[2][machine]
    return Job(generator, case, made, _digest(VERSION, made, told))


def read_row(store: Store, job: Job) -> Metrics | None:
    """A row measured before under the same settings, or None."""
    if not store.exists(job.row):
        return None
    held = json.loads(store.read(job.row))
    return Metrics(**held) if held.get("fingerprint") == job.measured else None


def write_row(store: Store, job: Job, row: Metrics) -> None:
    store.write(job.row, json.dumps(asdict(row), indent=1).encode())


def has_video(store: Store, job: Job) -> bool:
    """Whether its video is there and of these settings."""
    if not store.exists(job.video) or not store.exists(job.about_video):
        return False
    return json.loads(store.read(job.about_video))["fingerprint"] == job.made


class Maker:
    """A process that holds one network and makes its videos."""

    def __init__(self, generator: Generator, config: EvaluateConfig, threads: int) -> None:
        import torch

        limit_threads(threads)
        torch.set_num_threads(threads)
        self._generator, self._config, self._store = generator, config, Store(config.out)
        self._maker: NetworkMaker | None = None

    def run(self, job: Job) -> str | None:
        """Put the video in place; a sentence where it could not be made. Raises PlanError for a network that
        cannot be loaded: no video of it can be made."""
        if self._maker is None:
            try:
                self._maker = NetworkMaker(self._generator, self._config.networks)
            except (ValueError, OSError, ImportError) as error:
                network = f"{self._generator.name}={self._generator.network}"
                raise PlanError(f"{network}: {_sentence(error)}") from None
        try:
            image, video = (_local(self._store, path) for path in (job.case.image, job.video))
            _note(self._store, job, self._maker.make(job.case, image, video))
        except Exception as error:
            raise_if_full(error)
            return _sentence(error)
        return None


class Measurer:
    """A process that holds one pose engine and measures videos."""

    def __init__(self, config: EvaluateConfig, cases: list[Case]) -> None:
        limit_threads(1)
        self._config, self._cases, self._store = config, cases, Store(config.out)
        self._settings = Measuring(config.recovery, config.revisit, config.quality)
        self._engine = config.recovery.open()

    def run(self, job: Job) -> Metrics:
        """Make the video if it takes no network, measure it, and put its row in place."""
        row = job.blank()
        try:
            if not has_video(self._store, job):
                target = _local(self._store, job.video)
                made = make_file(job.generator, job.case, self._cases, target, self._config.networks.crf)
                _note(self._store, job, made)
            about = json.loads(self._store.read(job.about_video))
            row = dataclasses.replace(row, **{key: about[key] for key in ("seconds", "peak_gb", "peak_of")})
            video = _local(self._store, job.video)
            row, track = measure(video, job.case, row, self._engine, self._settings)
            self._store.write(job.track, track.to_npz())
        except Exception as error:
            raise_if_full(error)
            row.failure = _sentence(error)
        write_row(self._store, job, row)
        return row


def _note(store: Store, job: Job, made: Made) -> None:
    store.write(job.about_video, json.dumps({"fingerprint": job.made, **asdict(made)}).encode())


def _local(store: Store, path: str) -> Path:
    found = store.local_path(path)
    assert found is not None
    return found


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if isinstance(error, ValueError) else f"{type(error).__name__}: {text}"


def _digest(*parts: Any) -> str:
    return sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]
