"""Pictures from strangers: what is read, and what is refused before it is unpacked."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image as Pillow

from infer.serve.upload import Refused, read_picture


def packed(kind: str, **options: object) -> bytes:
    y, x = np.mgrid[:20, :30]
    pixels = np.stack([8 * x, 12 * y, 0 * x], -1).astype(np.uint8)
    buffer = io.BytesIO()
    Pillow.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def png_of(width: int, height: int) -> bytes:
    """A small file that says it is large."""
    def part(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(99))
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", pixels) + part(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_pictures_of_three_kinds_are_read(kind: str) -> None:
    assert read_picture(packed(kind), 1.0).size == (20, 30)


def test_a_picture_is_turned_as_its_camera_was_held_and_says_its_lens() -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8769)[0xA405] = 28
    found = read_picture(packed("JPEG", exif=exif), 1.0)
    assert found.size == (30, 20) and found.focal_35mm == 28


@pytest.mark.parametrize(("data", "status", "says"), [
    (b"", 415, "the file is no picture that can be read here; send a JPEG, PNG or WebP"),
    (b"GIF89a" + bytes(40), 415, "no picture that can be read here"),
    (b"/etc/passwd", 415, "no picture that can be read here"),
    (packed("TIFF"), 415, "no picture that can be read here"),
    (packed("PNG")[:-40], 415, "the picture is broken"),
    (packed("JPEG")[:300], 415, "the picture is broken"),
    (png_of(3000, 2000), 413, "has 3000 x 2000 pixels, allowed are 2 million; send a smaller one"),
    (png_of(200_000, 200_000), 413, "the picture has far too many pixels, allowed are 2 million"),
    (png_of(30, 20), 415, "the picture is broken"),
])
def test_anything_else_is_refused_in_one_sentence(data: bytes, status: int, says: str) -> None:
    with pytest.raises(Refused, match=says) as refused:
        read_picture(data, 2.0)
    assert refused.value.status == status
    assert "\n" not in str(refused.value)
