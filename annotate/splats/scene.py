"""Splats as the 3DGS trainers store them in .ply, text or binary, and as they are drawn."""

from __future__ import annotations

import io
import logging
import re
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

log = logging.getLogger(__name__)

_TYPES = {"char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2",
          "ushort": "u2", "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
          "float": "f4", "float32": "f4", "double": "f8", "float64": "f8"}
_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
_REQUIRED = ("x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", "opacity", "scale_0", "scale_1", "scale_2",
             "rot_0", "rot_1", "rot_2", "rot_3")
_REST_OF_DEGREE = {0: 0, 1: 9, 2: 24, 3: 45}
_MOST_HEADER = 1 << 16
_MOST_BROKEN = 0.01  # share of splats with values that are no numbers
_END = b"end_header\n"


class SceneError(ValueError):
    """A scene that cannot be used; `code` is short enough to count, the message is a sentence."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class NotWanted(SceneError):
    """A path that is left out: nothing is wrong, but it shows too little."""


@dataclass(frozen=True)
class Splats:
    """N Gaussians, float32 or float64: what 3DGS's activations make of the stored numbers.

    means (N, 3) in units of the scene; rotations (N, 4) unit quaternions w x y z, axes of the Gaussian to the
    world; scales (N, 3), 1 sigma along these axes; opacities (N,) in (0, 1); sh (N, K, 3) with
    K = (degree + 1)^2. `metres_per_unit` is None where the scene states no unit.
    """

    means: np.ndarray
    rotations: np.ndarray
    scales: np.ndarray
    opacities: np.ndarray
    sh: np.ndarray
    metres_per_unit: float | None = None

    def __len__(self) -> int:
        return len(self.means)


class Header(NamedTuple):
    """What the start of a .ply says: N, names and types of the columns, size of the header in bytes."""

    order: str
    splats: int
    names: list[str]
    dtype: np.dtype
    size: int
    metres_per_unit: float | None


def read_splats(data: bytes | memoryview, where: str) -> Splats:
    """Splats of a .ply as 3DGS, gsplat, nerfstudio and the FCGS decoder write it.

    The unit is stated by a header line `comment metres_per_unit 0.37`. Splats with values that are no numbers
    are left out and counted in the log. Raises SceneError for a file of another kind (a mesh, a plain point
    cloud, a compressed scene), a truncated one, and one in which more than 1 % of the splats are broken.
    """
    header = read_header(data, where)
    found = _values(data, header, where)
    rest = sorted((n for n in header.names if n.startswith("f_rest_")), key=lambda n: int(n[7:]))

    def columns(names: list[str]) -> np.ndarray:
        return np.stack([found[name] for name in names], -1).astype(np.float32)

    # Stored by colour, then by function; the constant one apart.
    dc = columns(["f_dc_0", "f_dc_1", "f_dc_2"])[..., None]
    sh = dc if not rest else np.concatenate([dc, columns(rest).reshape(header.splats, 3, -1)], -1)
    sh = sh.swapaxes(1, 2)
    means, log_scales = columns(["x", "y", "z"]), columns(["scale_0", "scale_1", "scale_2"])
    quaternions = columns(["rot_0", "rot_1", "rot_2", "rot_3"])
    logits = columns(["opacity"])[:, 0]
    with np.errstate(over="ignore", invalid="ignore"):
        scales, lengths = np.exp(log_scales), np.linalg.norm(quaternions, axis=1)
        opacities = 1 / (1 + np.exp(-logits))
        flat = np.concatenate([means, scales, sh.reshape(header.splats, -1), opacities[:, None]], 1)
        whole = np.isfinite(flat).all(1) & (lengths > 1e-12) & np.isfinite(lengths)
    broken = header.splats - int(whole.sum())
    if broken > _MOST_BROKEN * header.splats:
        raise SceneError("bad_scene", f"{where}: {broken} of {header.splats} splats hold values that are no "
                         "numbers; allowed: 1 %. Export the scene again")
    if broken:
        log.warning("%s: %d of %d splats hold values that are no numbers and are left out", where, broken,
                    header.splats)
    return Splats(means[whole], (quaternions / lengths[:, None].clip(1e-12))[whole], scales[whole],
                  opacities[whole], np.ascontiguousarray(sh[whole]), header.metres_per_unit)


def read_header(data: bytes | memoryview, where: str) -> Header:
    """From the first bytes of a file. Raises SceneError."""
    start = bytes(data[:_MOST_HEADER]).replace(b"\r\n", b"\n")
    shift = bytes(data[:_MOST_HEADER]).partition(b"end_header")[0].count(b"\r\n")
    shift += bytes(data[:_MOST_HEADER]).partition(b"end_header")[2].startswith(b"\r\n")
    if not start.startswith(b"ply\n") or _END not in start:
        raise SceneError("bad_scene", f"{where}: not a .ply file: it does not start with ply ... end_header")
    text = start[:start.index(_END)].decode("ascii", "replace")
    size = len(text) + len(_END) + shift
    form = re.search(r"^format (\S+) 1\.0$", text, re.MULTILINE)
    if form is None or form[1] not in _ORDERS:
        raise SceneError("bad_scene", f"{where}: a .ply of unknown format; allowed: {', '.join(_ORDERS)} 1.0")
    elements = re.split(r"^element ", text, flags=re.MULTILINE)[1:]
    if any(element.startswith(("chunk ", "sh ")) for element in elements):
        raise SceneError("bad_scene", f"{where}: a compressed scene (SuperSplat's); export it as an "
                         "uncompressed .ply")
    if not elements or not elements[0].startswith("vertex "):
        raise SceneError("bad_scene", f"{where}: its first element is not vertex; expected splats as 3DGS "
                         "writes them")
    first, *lines = elements[0].strip().splitlines()
    properties = [line.split() for line in lines if line.startswith("property ")]
    unknown = [" ".join(p[1:]) for p in properties if len(p) != 3 or p[1] not in _TYPES]
    if unknown or not first.split()[1].isdecimal():
        raise SceneError("bad_scene", f"{where}: cannot read {', '.join(unknown) or first} in its header")
    names = [p[2] for p in properties]
    _check_names(names, where)
    stated = re.search(r"^comment metres_per_unit[ :=]+(\S+)$", text, re.MULTILINE)
    order = _ORDERS[form[1]]
    dtype = np.dtype([(name, order + _TYPES[p[1]]) for name, p in zip(names, properties)])
    count = int(first.split()[1])
    if not count:
        raise SceneError("bad_scene", f"{where}: holds no splats")
    return Header(form[1], count, names, dtype, size, _unit(stated[1], where) if stated else None)


def _check_names(names: list[str], where: str) -> None:
    missing = [name for name in _REQUIRED if name not in names]
    if missing:
        kind = " (a point cloud or mesh, not splats)" if "red" in names or "f_dc_0" in missing else ""
        raise SceneError("bad_scene", f"{where}: no {', '.join(missing)}{kind}; expected the properties of "
                         "3DGS: x y z f_dc_0-2 f_rest_* opacity scale_0-2 rot_0-3")
    rest = [name for name in names if name.startswith("f_rest_")]
    if len(rest) not in _REST_OF_DEGREE.values() or set(rest) != {f"f_rest_{k}" for k in range(len(rest))}:
        raise SceneError("bad_scene", f"{where}: {len(rest)} properties f_rest_*; allowed: 0, 9, 24 or 45, "
                         "for colours of degree 0 to 3")


def _unit(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < np.inf:
        raise SceneError("bad_scene", f"{where}: comment metres_per_unit {text}; expected a number above 0")
    return value


def _values(data: bytes | memoryview, header: Header, where: str) -> np.ndarray:
    """(N,) structured, as stored."""
    if header.order == "ascii":
        lines = bytes(data[header.size:]).decode("ascii", "replace")
        try:
            table = np.loadtxt(io.StringIO(lines), np.float64, max_rows=header.splats, ndmin=2)
        except ValueError as error:
            raise SceneError("bad_scene", f"{where}: {error}") from None
        found, wide = table.shape
        if wide != len(header.names) and found:
            raise SceneError("bad_scene", f"{where}: {wide} numbers a line, its header names "
                             f"{len(header.names)}")
        if found == header.splats:
            values = np.empty(found, [(name, "f8") for name in header.names])
            for index, name in enumerate(header.names):
                values[name] = table[:, index]
            return values
    else:
        found = (len(data) - header.size) // header.dtype.itemsize
        if found >= header.splats:
            return np.frombuffer(data, header.dtype, header.splats, header.size)
    raise SceneError("bad_scene", f"{where}: truncated: {max(found, 0)} of {header.splats} splats are there")


def write_splats(splats: Splats, text: bool = False) -> bytes:
    """The .ply that `read_splats` reads back: binary little-endian, or text."""
    count, basis = len(splats), splats.sh.shape[1]
    rest = 3 * (basis - 1)
    names = ["x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", *(f"f_rest_{k}" for k in range(rest)), "opacity",
             "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
    opacities = np.asarray(splats.opacities, np.float64)
    table = np.concatenate([
        splats.means, splats.sh[:, 0], splats.sh[:, 1:].swapaxes(1, 2).reshape(count, rest),
        (np.log(opacities) - np.log1p(-opacities))[:, None], np.log(splats.scales), splats.rotations], 1)
    unit = [f"comment metres_per_unit {splats.metres_per_unit!r}"] if splats.metres_per_unit else []
    form = "ascii" if text else "binary_little_endian"
    head = ["ply", f"format {form} 1.0", *unit, f"element vertex {count}",
            *(f"property float {name}" for name in names), "end_header", ""]
    buffer = io.BytesIO()
    buffer.write("\n".join(head).encode())
    if text:
        np.savetxt(buffer, table, "%.9g")
    else:
        buffer.write(table.astype("<f4").tobytes())
    return buffer.getvalue()
