"""What a visitor sends: one form with a picture and words, read within limits and never from a path."""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from infer.lens import Image, upright

if TYPE_CHECKING:
    from starlette.requests import Request

_FORMATS = ("JPEG", "PNG", "WEBP")
_WORDS = 64 * 1024
"""Bytes that the form's other fields and its boundaries may take."""
_MB = 1_000_000


class Refused(ValueError):
    """A request that is not granted, with the status of the answer; the message is for the visitor."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


async def read_form(request: Request, image_mb: float) -> tuple[bytes, dict[str, str]]:
    """The picture's bytes and the other fields. Raises Refused as soon as more than the limit was sent."""
    from starlette.datastructures import UploadFile
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect
    from starlette.requests import Request as Limited

    limited = Limited(request.scope, _counted(request.receive, image_mb))
    try:
        async with limited.form(max_files=1, max_fields=8, max_part_size=_WORDS) as form:
            image = form.get("image")
            if not isinstance(image, UploadFile):
                raise Refused(422, "the form lacks its picture: send a file named image")
            data = await image.read()
            return data, {key: value for key, value in form.items() if isinstance(value, str)}
    except ClientDisconnect:
        raise Refused(400, "the form did not come to its end") from None
    except HTTPException as error:
        raise Refused(422, f"the form cannot be read: {error.detail}") from None


def read_picture(data: bytes, megapixels: float) -> Image:
    """A JPEG, PNG or WebP, its size looked at before it is unpacked. Raises Refused."""
    from PIL import Image as Pillow

    too_many = f"allowed are {megapixels:g} million; send a smaller one"
    try:
        with Pillow.open(io.BytesIO(data), formats=_FORMATS) as opened:
            width, height = opened.size
            if width * height > megapixels * _MB:
                raise Refused(413, f"the picture has {width} x {height} pixels, {too_many}")
            return upright(opened)
    except Refused:
        raise
    except Pillow.DecompressionBombError:
        raise Refused(413, f"the picture has far too many pixels, {too_many}") from None
    except Pillow.UnidentifiedImageError:
        raise Refused(415, "the file is no picture that can be read here; send a JPEG, PNG or WebP") from None
    except (OSError, ValueError, SyntaxError, TypeError) as error:  # the last of notes of the wrong type
        raise Refused(415, f"the picture is broken: {error}; send another") from None


def _counted(receive: Callable[[], Awaitable[Any]], image_mb: float) -> Callable[[], Awaitable[Any]]:
    """`receive` of a request whose body may hold a picture of that size and some words."""
    taken = 0

    async def counted() -> Any:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > image_mb * _MB + _WORDS:
            raise Refused(413, f"the picture has more than {image_mb:g} MB, which is allowed; send a smaller "
                               "one")
        return message
    return counted
