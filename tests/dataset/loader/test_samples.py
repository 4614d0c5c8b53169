"""What is in a batch: the stored latents, the decoded frames, and the released model's camera inputs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from annotate.clip_video import ClipVideo
from dataset.batch import Batch
from dataset.camera import relative
from dataset.catalog import open_dataset
from dataset.clip import CameraTrack, FrameVerdict, Motion
from dataset.fit import fit_clip, fit_frame
from dataset.latents import (
    FAMILY,
    LATENTS,
    LatentRecord,
    LatentSet,
    Status,
    TextStates,
    caption_digest,
    latent_store,
    latents_from_npy,
    latents_to_npy,
    open_set,
)
from dataset.loader.config import DataConfig, Lengths, Start
from dataset.loader.loader import Loader
from dataset.rays import model_camera
from dataset.reader import read_samples
from dataset.shards import ShardWriter
from dataset.store import Store
from tests.dataset.test_rays import read_safetensors
from tests.tiny_dataset import camera_track, clip_name, clip_record, write_latent_set, write_video_set

SET = "dct32-96x64"


def slots(config: DataConfig) -> dict[str, tuple[Batch, int]]:
    """Batch and slot of every clip of one epoch."""
    batches = list(Loader(config, epochs=1))
    return {clip: (batch, slot) for batch in batches for slot, clip in enumerate(batch.clip_ids)}


def config_of(store: Store, latents: str | None, frames: list[int], **settings) -> DataConfig:
    plain = {"path": store.url, "latents": latents, "frames": frames, "workers": 0, "batch_size": 3}
    return DataConfig(**{**plain, **settings})


def stored(data: Store) -> dict[str, tuple[np.ndarray, TextStates]]:
    samples = read_samples(latent_store(data, SET), rows=LATENTS)
    return {sample.record.clip_id: (latents_from_npy(sample.files["latents.npy"]),
                                    TextStates.from_npz(sample.files["text.npz"])) for sample in samples}


@pytest.mark.parametrize("frames", [[17, 33], [9]])  # whole ones are read straight into the batch
def test_latents_and_captions_are_those_stored(pristine: Store, frames: list[int]):
    found, there = slots(config_of(pristine, SET, frames)), stored(pristine)
    assert found.keys() == there.keys()
    for clip, (batch, slot) in found.items():
        latents, text = there[clip]
        count = (batch.c2w.shape[1] - 1) // 8 + 1
        assert batch.latents is not None and batch.latents.shape[1:] == (128, count, 2, 3)
        assert batch.caption_states is not None and batch.caption_mask is not None
        assert np.array_equal(batch.latents[slot].numpy(), latents[:, :count])
        assert np.array_equal(batch.caption_states[slot].numpy(), text.states)
        assert np.array_equal(batch.caption_mask[slot].numpy(), text.mask)
        assert caption_digest(batch.captions[slot]) == text.caption_sha256
        assert batch.frame_valid[slot].all()


@pytest.mark.parametrize("latents", [SET, None])
def test_cameras_are_relative_to_the_first_frame_and_of_the_size_that_is_seen(pristine: Store, latents):
    for clip, (batch, slot) in slots(config_of(pristine, latents, [17, 33])).items():
        number = next(n for n in range(12) if clip_name(n) == clip)
        track = camera_track(number, 17 if number < 8 else 33, (64, 96))
        inputs = model_camera(track.c2w, track.intrinsics, (64, 96))
        assert np.allclose(batch.c2w[slot], relative(track.c2w), atol=1e-12)
        assert torch.equal(batch.c2w[slot, 0], torch.eye(4, dtype=torch.float64))
        assert np.allclose(batch.intrinsics[slot], track.intrinsics)
        assert torch.allclose(batch.camera_conditions[slot], inputs.conditions, atol=1e-6)
        assert torch.allclose(batch.plucker[slot], inputs.plucker, atol=1e-6)


def test_video_is_decoded_and_fitted_with_its_intrinsics(pristine: Store):
    videos = {sample.record.clip_id: sample.files["mp4"] for sample in read_samples(pristine)}
    for size in ((64, 96), (32, 64)):
        fit = fit_clip((64, 96), size, 32)
        for clip, (batch, slot) in slots(config_of(pristine, None, [17], size=list(size))).items():
            frames = [fit_frame(frame, fit) for frame in ClipVideo(videos[clip]).iter_rgb()][:17]
            assert batch.video is not None and batch.video.dtype == torch.uint8
            assert np.array_equal(batch.video[slot].permute(1, 2, 3, 0).numpy(), np.stack(frames))
            assert batch.size == size
            assert np.allclose(batch.intrinsics[slot, 0], fit.intrinsics([86.4, 86.4, 48, 32]))
            assert batch.plucker.shape[2:] == (3, size[0] // 32, size[1] // 32)


def test_a_random_start_cuts_images_and_cameras_alike_and_anew_each_time(pristine: Store):
    config = config_of(pristine, None, [9], start=Start.random, batch_size=1, where="flow_dis >= 8")
    videos = {sample.record.clip_id: np.stack(list(ClipVideo(sample.files["mp4"]).iter_rgb()))
              for sample in read_samples(pristine, "flow_dis >= 8")}
    starts = []
    for batch in Loader(config, epochs=4):
        number = next(n for n in range(12) if clip_name(n) == batch.clip_ids[0])
        track, whole = camera_track(number, 33, (64, 96)), videos[batch.clip_ids[0]]
        assert batch.video is not None
        frames = batch.video[0].permute(1, 2, 3, 0).numpy()
        start = next(n for n in range(25) if np.array_equal(whole[n : n + 9], frames))
        assert np.allclose(batch.c2w[0], relative(track.c2w[start : start + 9]), atol=1e-9)
        starts.append(start)
    assert len(set(starts)) > 5


@pytest.mark.parametrize("latents", [SET, None])
def test_short_clips_are_padded_at_the_end_and_the_padding_is_marked(pristine: Store, latents):
    found = slots(config_of(pristine, latents, [25], lengths=Lengths.pad, batch_size=12))
    for clip, (batch, slot) in found.items():
        is_short = clip in {clip_name(number) for number in range(8)}
        assert batch.frame_valid[slot].tolist() == [True, True, True, not is_short]
        if is_short:
            assert torch.equal(batch.c2w[slot, 17:], batch.c2w[slot, 16].expand(8, 4, 4))
            assert torch.equal(batch.camera_conditions[slot, 3, :16], batch.camera_conditions[slot, 2, :16])
            if batch.latents is not None:
                assert not batch.latents[slot, :, 3:].any() and batch.latents[slot, :, :3].any()
            if batch.video is not None:
                held = batch.video[slot, :, 16:17].expand(-1, 8, -1, -1)
                assert torch.equal(batch.video[slot, :, 17:], held)


def golden(shared_data: Path) -> Path:
    return shared_data.parent / "reference" / "golden"


def latents_with_cameras(folder: Path, track: CameraTrack, size: tuple[int, int]) -> Store:
    """A data set of one clip with these cameras, whose latents of `size` are zeros of two channels."""
    data, frames = Store(folder), len(track.c2w)
    open_dataset(data, "tiny", {}, {})
    record = clip_record(0, frames, track.size)
    with ShardWriter(data, "kept") as writer:
        writer.add(record, {"mp4": b"not read", "camera.npz": track.to_npz()})
        writer.commit()
    text = TextStates(np.zeros((3, 4)), np.ones(3, bool), caption_digest(record.caption)).to_npz()
    store = latent_store(data, SET)
    open_set(store, LatentSet("made", "made", 2, 32, 8, list(size), "made", "made", 3, 4), lambda: text)
    count = (frames - 1) // 8 + 1
    zeros = latents_to_npy(np.zeros((2, count, size[0] // 32, size[1] // 32)))
    with ShardWriter(store, FAMILY, rows=LATENTS) as writer:
        writer.add(LatentRecord(record.clip_id, Status.OK, caption=record.caption, frames=frames, fps=16.0),
                   {"latents.npy": zeros, "text.npz": text, "camera.npz": track.to_npz()})
        writer.commit()
    return data


def track_of(c2w: np.ndarray, intrinsics: np.ndarray, size: tuple[int, int]) -> CameraTrack:
    count = len(c2w)
    return CameraTrack(
        c2w=np.asarray(c2w, np.float64), intrinsics=intrinsics, size=size, timestamps=np.arange(count) / 16,
        sigma_position=np.zeros(count), sigma_rotation_deg=np.zeros(count), motion=Motion.PARALLAX,
        engine="given",
        frame_verdict=np.full(count, FrameVerdict.GIVEN, np.uint8), unit="m")


@pytest.mark.shared
@pytest.mark.parametrize("case", ["wide", "tall", "square_short"])
def test_batches_hold_the_released_models_camera_inputs(shared_data: Path, tmp_path: Path, case: str):
    """World poses and intrinsics of the original image in, the fixture's conditions and Plücker maps out."""
    from dataset.rays import frame_intrinsics

    meta, tensors = read_safetensors(golden(shared_data) / "camera_preprocess.safetensors")
    config = json.loads(meta["cases"])[case]
    value = {name.removeprefix(f"{case}."): t for name, t in tensors.items() if name.startswith(f"{case}.")}
    width, height = config["image_wh"]
    target, raw = tuple(config["target_hw"]), config["raw_frames"]
    track = track_of(value["in.c2w"][:raw], frame_intrinsics(value["in.intrinsics"], raw), (height, width))
    data = latents_with_cameras(tmp_path / "data", track, target)
    frames = (raw - 1) // 8 * 8 + 1  # those that have latents
    batch = next(iter(Loader(config_of(data, SET, [frames], batch_size=1))))
    assert np.abs(batch.intrinsics[0].numpy() - value["out.intrinsics_cropped"][:frames]).max() < 1e-3
    assert np.abs(batch.camera_conditions[0].numpy() - value["out.camera_conditions"]).max() < 5e-6
    assert np.abs(batch.plucker[0].numpy() - value["out.chunk_plucker"]).max() < 5e-6


@pytest.mark.shared
def test_batches_hold_the_released_models_packed_plucker_maps(shared_data: Path, tmp_path: Path):
    meta, value = read_safetensors(golden(shared_data) / "plucker_pack_and_embed.safetensors")
    height, width = json.loads(meta["latent_hw"])
    size = (height * 32, width * 32)
    track = track_of(value["in.c2w"], value["in.intrinsics_latent"] * 32.0, size)
    data = latents_with_cameras(tmp_path / "data", track, size)
    batch = next(iter(Loader(config_of(data, SET, [int(meta["raw_frames"])], batch_size=1))))
    assert np.abs(batch.camera_conditions[0].numpy() - value["out.camera_conditions"]).max() < 2e-6
    assert np.abs(batch.plucker[0].numpy() - value["out.packed"]).max() < 2e-6


@pytest.mark.parametrize("codec", ["dct8", "dct16"])
def test_camera_maps_are_on_the_grid_of_the_latents(tmp_path: Path, codec: str):
    data = write_video_set(tmp_path / "data", clips=1, frames=9)
    write_latent_set(data, codec, name=codec)
    batch = next(iter(Loader(config_of(data, codec, [9], batch_size=1))))
    stride = int(codec.removeprefix("dct"))
    assert batch.latents is not None and batch.latents.shape[2:] == batch.plucker.shape[2:]
    assert batch.plucker.shape == (1, 48, 2, 64 // stride, 96 // stride)
    in_cells = [86.4 / stride, 86.4 / stride, 48 / stride, 32 / stride]
    assert batch.camera_conditions[0, 0, 16:].tolist() == pytest.approx(in_cells)
