"""The child process of `annotate.pose.mapper`: one request file in, one answer file out.

    python -m annotate.pose.mapper_child request.npz answer.npz

Nothing here is protected against pycolmap's native code hanging or aborting: the parent kills and reports.
"""

from __future__ import annotations

import json
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

Request = dict[str, np.ndarray]


def main(question: Path, answer: Path) -> None:
    """Read the request, map, write the answer."""
    with np.load(question, allow_pickle=False) as arrays:
        request = {name: arrays[name] for name in arrays.files}
    settings = json.loads(request.pop("settings").tobytes())
    # Should the parent be killed, nobody is left to enforce the limit; the alarm ends native code too.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(int(settings["time_limit_s"]) + 2)
    pycolmap.logging.minloglevel = int(pycolmap.logging.Level.ERROR)
    pycolmap.set_random_seed(settings["seed"])
    with tempfile.TemporaryDirectory(dir=answer.parent) as folder:
        arrays_out, failure, diagnostics = _map(request, settings, Path(folder))
    meta = {"failure": failure, "diagnostics": diagnostics}
    meta_bytes = np.frombuffer(json.dumps(meta, sort_keys=True).encode(), np.uint8)
    unfinished = answer.with_suffix(".part.npz")
    np.savez(unfinished, meta=meta_bytes, **arrays_out)  # type: ignore[arg-type]
    unfinished.rename(answer)


def _map(
    request: Request, settings: dict[str, Any], folder: Path
) -> tuple[Request, str | None, dict[str, Any]]:
    """Arrays of the answer, the reason for there being none, diagnostics."""
    database = folder / "database.db"
    with pycolmap.Database.open(database) as store:
        images = _write_cameras(store, request, settings)
        ids = _write_points(store, images, request, settings)
    _match(database, ids, images, settings)
    models = _reconstruct(database, folder, "intrinsics" in request, settings)
    diagnostics: dict[str, Any] = {
        "method": settings["method"], "seed": settings["seed"], "threads": settings["threads"],
        "pycolmap": pycolmap.__version__, "models": len(models), "points_from": "tracks" if ids else "sift",
    }
    usable = [model for model in models.values() if model.num_reg_images() >= 2]
    if not usable:
        return {}, "mapper found no reconstruction", diagnostics
    best = max(usable, key=lambda model: (model.num_reg_images(), model.num_points3D()))
    diagnostics["posed"] = int(best.num_reg_images())
    diagnostics["observations"] = int(best.compute_num_observations())
    diagnostics["reprojection_px"] = float(best.compute_mean_reprojection_error())
    return _arrays(best, images, ids), None, diagnostics


def _write_cameras(store: Any, request: Request, settings: dict[str, Any]) -> list[int]:
    """Cameras, rigs, frames and images of the database; returns the image id of every frame."""
    height, width = settings["size"]
    known = request.get("intrinsics")
    focal = settings["focal_px"] or settings["focal_factor"] * max(height, width)
    shared = known is None or bool((known == known[0]).all())
    images: list[int] = []
    for frame in range(settings["frames"]):
        if frame == 0 or not shared:
            if known is None:
                model, parameters = "SIMPLE_PINHOLE", [focal, width / 2, height / 2]
            else:
                model, parameters = "PINHOLE", known[frame].tolist()
            camera = pycolmap.Camera(model=model, width=width, height=height, params=parameters)
            camera.has_prior_focal_length = known is not None
            camera.camera_id = store.write_camera(camera)
            rig = pycolmap.Rig()
            rig.add_ref_sensor(camera.sensor_id)
            rig.rig_id = store.write_rig(rig)
        image = pycolmap.Image(name=f"{frame:06d}", camera_id=camera.camera_id)
        image.image_id = store.write_image(image)
        moment = pycolmap.Frame()
        moment.rig_id = rig.rig_id
        moment.add_data_id(image.data_id)
        store.write_frame(moment)
        images.append(image.image_id)
    return images


def _write_points(
    store: Any, images: list[int], request: Request, settings: dict[str, Any]
) -> list[np.ndarray]:
    """Keypoints of every image: the given ones, whose track ids are returned, or SIFT with descriptors."""
    if "pixels" in request:
        ends = np.cumsum(request["counts"])[:-1]
        for image, pixels in zip(images, np.split(request["pixels"], ends), strict=True):
            store.write_keypoints(image, pixels.astype(np.float32))
        return np.split(request["ids"], ends)
    options = pycolmap.FeatureExtractionOptions()
    options.num_threads = settings["threads"]
    options.sift.max_num_features = settings["max_features"]
    extractor = pycolmap.FeatureExtractor.create(options, pycolmap.Device.cpu)
    for image, gray in zip(images, request["gray"], strict=True):
        keypoints, descriptors = extractor.extract_from_uint8_array(np.ascontiguousarray(gray))
        store.write_keypoints(image, pycolmap.keypoints_to_matrix(keypoints))
        store.write_descriptors(image, descriptors)
    return []


def _match(database: Path, ids: list[np.ndarray], images: list[int], settings: dict[str, Any]) -> None:
    """Matches of each frame with its followers, geometrically verified."""
    verification = pycolmap.TwoViewGeometryOptions()
    verification.min_num_inliers = settings["min_matches"]
    verification.ransac.random_seed = settings["seed"]
    verification.ransac.num_threads = settings["threads"]
    if not ids:
        matching, pairing = pycolmap.FeatureMatchingOptions(), pycolmap.SequentialPairingOptions()
        matching.num_threads = pairing.num_threads = settings["threads"]
        pairing.overlap = settings["overlap"]
        pycolmap.match_sequential(database, matching, pairing, verification, pycolmap.Device.cpu)
        return
    with pycolmap.Database.open(database) as store:
        for first, second in _sequential_pairs(len(images), settings["overlap"]):
            _, at_first, at_second = np.intersect1d(ids[first], ids[second], return_indices=True)
            if len(at_first) >= settings["min_matches"]:
                matches = np.stack([at_first, at_second], 1).astype(np.uint32)
                store.write_matches(images[first], images[second], matches)
    verifier = pycolmap.GeometricVerifierOptions()
    verifier.num_threads = settings["threads"]
    pycolmap.geometric_verification(database, verifier, two_view_geometry_options=verification)


def _sequential_pairs(frames: int, overlap: int) -> list[tuple[int, int]]:
    """Each frame with the `overlap` next ones and those 2^k ahead, k < overlap, as pycolmap does."""
    gaps = sorted(set(range(1, overlap + 1)) | {2**k for k in range(overlap)})
    return [(first, first + gap) for first in range(frames) for gap in gaps if first + gap < frames]


def _reconstruct(
    database: Path, folder: Path, fixed_camera: bool, settings: dict[str, Any]
) -> dict[int, Any]:
    if settings["method"] == "global_mapping":
        glomap = pycolmap.GlobalPipelineOptions()
        glomap.random_seed, glomap.num_threads = settings["seed"], settings["threads"]
        glomap.min_num_matches = settings["min_matches"]
        adjustment = glomap.mapper.bundle_adjustment
        adjustment.refine_focal_length = adjustment.refine_extra_params = not fixed_camera
        adjustment.ceres.use_gpu = glomap.mapper.global_positioning.use_gpu = False
        if not fixed_camera:
            calibration = pycolmap.ViewGraphCalibrationOptions()
            calibration.random_seed = settings["seed"]
            pycolmap.calibrate_view_graph(database, calibration)
        return pycolmap.global_mapping(database, folder, folder, glomap)
    growing = pycolmap.IncrementalPipelineOptions()
    growing.random_seed, growing.num_threads = settings["seed"], settings["threads"]
    growing.min_num_matches = settings["min_matches"]
    growing.extract_colors = False
    growing.multiple_models = False
    growing.min_model_size = min(growing.min_model_size, settings["frames"])
    growing.ba_refine_focal_length = growing.ba_refine_extra_params = not fixed_camera
    growing.mapper.abs_pose_refine_focal_length = not fixed_camera
    growing.mapper.abs_pose_refine_extra_params = not fixed_camera
    return pycolmap.incremental_mapping(database, folder, folder, growing)


def _arrays(model: Any, images: list[int], ids: list[np.ndarray]) -> Request:
    """Poses, intrinsics, points and observations of a reconstruction as arrays, in a fixed order."""
    frame_of = {image: frame for frame, image in enumerate(images)}
    c2w, intrinsics = np.full((len(images), 4, 4), np.nan), np.full((len(images), 4), np.nan)
    for image_id in model.reg_image_ids():
        image, frame = model.image(image_id), frame_of[image_id]
        c2w[frame] = np.eye(4)
        c2w[frame, :3] = image.cam_from_world().inverse().matrix()
        camera = image.camera
        intrinsics[frame] = (camera.focal_length_x, camera.focal_length_y,
                             camera.principal_point_x, camera.principal_point_y)
    points, track_id, observations, pixels = [], [], [], []
    for index, point_id in enumerate(sorted(model.points3D)):
        point = model.point3D(point_id)
        points.append(point.xyz)
        seen = sorted((frame_of[e.image_id], e.image_id, e.point2D_idx) for e in point.track.elements)
        track_id.append(_common_id([int(ids[frame][where]) for frame, _, where in seen]) if ids else -1)
        for frame, image_id, where in seen:
            observations.append((index, frame))
            pixels.append(model.image(image_id).points2D[where].xy)
    pairs = np.array(observations, np.int64).reshape(-1, 2)
    return {
        "c2w": c2w, "intrinsics": intrinsics, "points": np.array(points, np.float64).reshape(-1, 3),
        "track_id": np.array(track_id, np.int64), "point_index": pairs[:, 0], "frame_index": pairs[:, 1],
        "pixel": np.array(pixels, np.float64).reshape(-1, 2),
    }


def _common_id(ids: list[int]) -> int:
    """The most frequent id, the smallest of equals: a point may have been merged from several tracks."""
    values, counts = np.unique(ids, return_counts=True)
    return int(values[np.argmax(counts)])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
