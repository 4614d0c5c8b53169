"""Reading scenes: what goes in comes out, and everything else is refused with a reason."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotate.splats.scene import SceneError, Splats, read_header, read_splats, write_splats


def some(count: int, degree: int, seed: int = 0, unit: float | None = None) -> Splats:
    rng = np.random.default_rng(seed)
    rotations = rng.normal(size=(count, 4))
    rotations /= np.linalg.norm(rotations, axis=1, keepdims=True)
    arrays = (rng.normal(0, 3, (count, 3)), rotations, np.exp(rng.normal(-3, 1, (count, 3))),
              rng.uniform(0.02, 0.98, count), rng.normal(0, 0.5, (count, (degree + 1) ** 2, 3)))
    return Splats(*(a.astype(np.float32) for a in arrays), metres_per_unit=unit)


@given(st.integers(1, 7), st.integers(0, 3), st.booleans(), st.sampled_from([None, 0.37]))
def test_a_scene_written_and_read_is_the_same(
    count: int, degree: int, text: bool, unit: float | None,
) -> None:
    splats = some(count, degree, unit=unit)
    found = read_splats(write_splats(splats, text), "scene.ply")
    for name in ("means", "rotations", "scales", "opacities", "sh"):
        np.testing.assert_allclose(getattr(found, name), getattr(splats, name), rtol=2e-5, atol=2e-6)
    assert found.metres_per_unit == unit


def test_the_columns_are_those_of_3dgs() -> None:
    """Written out by hand: coefficients by colour then function, log scales, logits, quaternion w first."""
    columns = {
        "x": 1, "y": 2, "z": 3, "nx": 0, "ny": 0, "nz": 0, "f_dc_0": 10, "f_dc_1": 20, "f_dc_2": 30,
        "f_rest_0": 11, "f_rest_1": 12, "f_rest_2": 13, "f_rest_3": 21, "f_rest_4": 22, "f_rest_5": 23,
        "f_rest_6": 31, "f_rest_7": 32, "f_rest_8": 33, "opacity": 0, "scale_0": 0, "scale_1": np.log(2),
        "scale_2": np.log(3), "rot_0": 2, "rot_1": 0, "rot_2": 0, "rot_3": 0}
    properties = [f"property float {name}" for name in columns]
    head = ["ply", "format ascii 1.0", "element vertex 1", *properties, "end_header"]
    row = columns.values()
    found = read_splats("\r\n".join([*head, " ".join(map(str, row)), ""]).encode(), "scene.ply")
    assert found.means.tolist() == [[1, 2, 3]] and found.opacities.tolist() == [0.5]
    np.testing.assert_allclose(found.scales, [[1, 2, 3]], rtol=1e-6)
    assert found.rotations.tolist() == [[1, 0, 0, 0]]
    assert found.sh[0].tolist() == [[10, 20, 30], [11, 21, 31], [12, 22, 32], [13, 23, 33]]


def test_big_endian_is_read_too() -> None:
    data = write_splats(some(5, 2))
    at = data.index(b"end_header\n") + len(b"end_header\n")
    swapped = np.frombuffer(data[at:], "<f4").astype(">f4").tobytes()
    other = data[:at].replace(b"little", b"big") + swapped
    assert (read_splats(other, "a").sh == read_splats(data, "b").sh).all()


def test_splats_that_are_no_numbers_are_left_out_and_many_of_them_refused(caplog) -> None:
    splats = some(300, 0)
    splats.means[7, 1] = np.nan
    splats.rotations[9] = 0
    assert len(read_splats(write_splats(splats), "scene.ply")) == 298
    assert "2 of 300 splats" in caplog.text
    splats.means[:10] = np.inf
    with pytest.raises(SceneError, match=r"scene\.ply: 10 of 300 splats hold values that are no numbers"):
        read_splats(write_splats(splats), "scene.ply")


HEAD = b"ply\nformat ascii 1.0\n"


@pytest.mark.parametrize(("data", "reason"), [
    (b"solid teapot", "not a .ply file"),
    (b"ply\nformat binary_middle_endian 1.0\nelement vertex 1\nend_header\n", "unknown format"),
    (HEAD + b"element chunk 4\nproperty float min_x\nelement vertex 9\nend_header\n", "compressed scene"),
    (HEAD + b"element face 4\nproperty list uchar int i\nend_header\n", "first element is not vertex"),
    (HEAD + b"element vertex 1\nproperty float x\nproperty float y\nproperty float z\nproperty uchar red\n"
     b"end_header\n0 0 0 1\n", "point cloud or mesh"),
    (HEAD + b"element vertex 1\nproperty list uchar int x\nend_header\n", "cannot read list uchar int x"),
    (write_splats(some(4, 1))[:-1], "truncated: 3 of 4 splats"),
    (write_splats(some(4, 1), text=True)[:-250], "truncated|numbers a line|columns"),
    (write_splats(some(4, 1)).replace(b"f_rest_8", b"f_rest_9"), "9 properties f_rest"),
    (write_splats(some(1, 0, unit=2.0)).replace(b"unit 2.0", b"unit two"), "metres_per_unit two"),
])
def test_other_files_are_refused_with_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(SceneError, match=reason):
        read_splats(data, "scene.ply")


def test_a_header_is_read_from_the_first_bytes() -> None:
    data = write_splats(some(500, 3, unit=0.5))
    header = read_header(data[:4096], "scene.ply")
    assert (header.splats, header.metres_per_unit) == (500, 0.5)
