"""Imaging quality: the proxy without weights, and scorers in processes of their own."""

import stat
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipelines.evaluation.quality import NAME, proxy_score, windows
from pipelines.evaluation.scorer import QualityConfig, score

PYIQA = """
import numpy as np
from PIL import Image
__version__ = "0.1"
class Mean:
    lower_better = False
    def __call__(self, a, b=None):
        first = np.asarray(Image.open(a), float)
        return first.mean() if b is None else abs(first - np.asarray(Image.open(b), float)).mean()
def create_metric(name, device):
    assert name in ("musiq-spaq", "lpips") and str(device) == "cpu"
    return Mean()
"""
VBENCH = """
import json
from pathlib import Path
import av
class VBench:
    def __init__(self, device, info, out):
        self.out = out
    def evaluate(self, videos_path, name, dimension_list, mode, **others):
        assert mode == "custom_input"
        found = []
        for path in sorted(Path(videos_path).glob("*.mp4")):
            with av.open(str(path)) as file:
                mean = sum(f.to_ndarray(format="rgb24").mean() for f in file.decode(video=0))
            found.append({"video_path": str(path), "video_results": float(mean)})
        Path(self.out, name + "_eval_results.json").write_text(json.dumps({dimension_list[0]: [0, found]}))
"""


@pytest.fixture
def pictures() -> list[np.ndarray]:
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    picture = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX)
    return [picture, np.full_like(picture, 100)]


def test_the_proxy_falls_with_blur_with_noise_and_with_contrast(pictures: list[np.ndarray]) -> None:
    sharp = pictures[0]
    noise = np.random.default_rng(1).normal(0, 12, sharp.shape)
    worse = [cv2.GaussianBlur(sharp, (0, 0), 3), np.clip(sharp + noise, 0, 255).astype(np.uint8), sharp // 4]
    assert 0 < max(map(proxy_score, worse)) < 0.8 * proxy_score(sharp) < 80
    blurs = [proxy_score(cv2.GaussianBlur(sharp, (0, 0), s)) for s in (1, 2, 4, 8)]
    assert blurs == sorted(blurs, reverse=True)
    assert proxy_score(pictures[1]) == 0


def test_edges_alone_are_no_noise() -> None:
    steps = np.kron(np.indices((8, 8)).sum(0) % 2, np.ones((20, 20))).astype(np.uint8) * 200
    picture = np.repeat(steps[..., None], 3, 2)
    noisy = np.clip(picture + np.random.default_rng(0).normal(0, 8, picture.shape), 0, 255).astype(np.uint8)
    assert proxy_score(noisy) < 0.6 * proxy_score(picture)


@pytest.mark.parametrize(("frames", "count"), [(961, 20), (97, 20), (25, 12), (2, 1)])
def test_the_two_windows_are_alike_and_apart(frames: int, count: int) -> None:
    first, last = windows(frames, 16.0, 10.0, 20)
    assert len(first) == len(last) == count and first[0] == 0 and last[-1] == frames - 1
    assert max(first) < min(last) and max(first) < 160


def test_without_a_scorer_the_proxy_is_named(pictures: list[np.ndarray]) -> None:
    found = score(pictures[:1], pictures[1:], [], QualityConfig())
    assert found.scorer == NAME and "proxy" in NAME
    assert found.first == proxy_score(pictures[0]) and found.last == 0 and found.lpips is None


def test_the_proxy_beside_lpips_is_not_called_pyiqas(pictures: list[np.ndarray], tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("""#!/bin/sh
echo '{"version": "pyiqa 0.1", "pictures": [], "pairs": [0.5]}' > "$3"
""")
    python.chmod(0o755)
    found = score(pictures[:1], pictures[1:], [(pictures[0], pictures[1])],
                  QualityConfig(python=str(python), lpips=True))
    assert found.scorer == NAME and found.lpips == 0.5 and found.first == proxy_score(pictures[0])


def test_scorers_run_in_an_environment_of_their_own(
    pictures: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stand-ins for the two libraries, whose own weights are not here, on the path of the child alone."""
    for name, text in (("pyiqa", PYIQA), ("vbench", VBENCH)):
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    config = QualityConfig(scorer="pyiqa", python=sys.executable, lpips=True)
    config.check()
    found = score(pictures[:1], pictures[1:], [(pictures[0], pictures[1])], config)
    assert found.scorer == "pyiqa: musiq-spaq (pyiqa 0.1)"
    assert found.first == pytest.approx(pictures[0].mean()) and found.last == pytest.approx(100)
    assert found.lpips == pytest.approx(np.abs(pictures[0] - 100.0).mean())
    found = score([pictures[1]] * 3, [pictures[1]] * 2, [], QualityConfig("vbench", sys.executable))
    assert found.scorer == "vbench: imaging_quality (vbench)"
    assert found.first == pytest.approx(300, abs=6) and found.last == pytest.approx(200, abs=4)


@pytest.mark.parametrize(("settings", "message"), [
    ({"scorer": "pyiqa"}, r"quality.python is missing: pyiqa needs .*python -m venv scorers && .* pyiqa"),
    ({"scorer": "vbench", "python": sys.executable}, r"has no vbench; python -m venv"),
    ({"lpips": True, "python": "/nowhere/python"}, r"quality.python=/nowhere/python: cannot be run"),
    ({"scorer": "dover"}, r"quality.scorer=dover, allowed proxy, pyiqa, vbench"),
    ({"pictures": 0}, r"quality.pictures=0"),
    ({"scorer": "vbench", "lpips": True}, r"vbench has no LPIPS"),
])
def test_what_is_missing_is_said_before_any_work_with_how_to_install_it(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        QualityConfig(**settings).check()


def test_a_scorer_that_breaks_is_quoted(pictures: list[np.ndarray], tmp_path: Path) -> None:
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho CUDA out of memory >&2\nexit 3\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    with pytest.raises(RuntimeError, match=r"pyiqa: its process ended with code 3: CUDA out of memory"):
        score(pictures, pictures, [], QualityConfig(scorer="pyiqa", python=str(script)))
