"""Uploaded pictures: any upload is decoded and drawn anew, by a process with tight limits.

Image decoders are where crafted files strike. The decoding process (redraw.py) has no more than seconds of CPU, a
bounded memory, no files to write and nothing to read but the upload; what it returns is WebP of our own making.
"""

import subprocess
import sys
from typing import Literal

from django.core.files.uploadedfile import UploadedFile
from django.utils.translation import gettext as _

from console.environment import BASE_DIR
from tenants.errors import Refused

MOST_BYTES = 1024 * 1024
MOST_SECONDS = 10.0


def redrawn(upload: bytes, *, pixels: int, shape: Literal["square", "whole"] = "square") -> bytes:
    """WebP: the middle of the picture, `pixels` square, or the whole of it within such a square.

    Raises Refused for what is no picture, or too much of one.
    """
    _refuse_large(len(upload))
    command = [sys.executable, "-I", str(BASE_DIR / "console/redraw.py"), str(pixels), shape]
    try:
        done = subprocess.run(
            command, input=upload, capture_output=True, timeout=MOST_SECONDS, check=False, env={}, cwd="/"
        )
    except subprocess.TimeoutExpired:
        raise _unreadable() from None
    if done.returncode != 0 or not done.stdout.startswith(b"RIFF"):
        raise _unreadable()
    return done.stdout


def read(upload: UploadedFile) -> bytes:
    """The bytes of an upload that is not too large; what is, is not even read. Raises Refused."""
    _refuse_large(upload.size or 0)
    return upload.read()


def _refuse_large(size: int) -> None:
    if size > MOST_BYTES:
        message = _("The picture is larger than 1 MB. Choose a smaller one.")
        raise Refused("picture_too_large", message, "picture")


def _unreadable() -> Refused:
    message = _("This picture cannot be read. Choose a PNG, JPEG or WebP of at most 25 megapixels.")
    return Refused("picture_unreadable", message, "picture")
