"""Paths and URLs through fsspec, with a sentence where a driver is missing."""

from __future__ import annotations

import fsspec
from fsspec.registry import known_implementations

DRIVERS = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "hf": "huggingface_hub",
           "http": "aiohttp", "https": "aiohttp"}


def filesystem(uri: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system of a path or URL, and the path on it. Raises ValueError naming the missing package."""
    protocol = uri.split("://", 1)[0] if "://" in uri else "file"
    if protocol not in known_implementations and protocol not in ("file", "local", "memory"):
        raise ValueError(f"{uri}: unknown protocol {protocol}://; known ones include s3, gs, https, hf, file")
    try:
        fs, path = fsspec.core.url_to_fs(uri)
    except ImportError:
        if protocol in DRIVERS:
            remedy = f"pip install {DRIVERS[protocol]}"
        else:
            remedy = known_implementations[protocol]["err"]
        raise ValueError(f"{uri}: {protocol}:// needs a package that is not installed: {remedy}") from None
    return fs, path
