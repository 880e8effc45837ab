"""Chinese and English read from pictures, by models that are part of the rapidocr wheel. Nothing is downloaded."""

from __future__ import annotations

import io
import logging
from functools import cache
from typing import Any

from knowledge.parsing import lines
from knowledge.parsing.builder import Builder
from knowledge.parsing.lines import Line
from knowledge.parsing.parsed import Limits, Parsed, Refused

_SURE = 0.5  # From which confidence on a line is taken.
_SAME_LINE = 0.5  # Of a line's height: what lies closer than this stands beside it.
_MEDIA_TYPES = {
    "JPEG": "image/jpeg",
    "TIFF": "image/tiff",
    "BMP": "image/bmp",
    "GIF": "image/gif",
    "WEBP": "image/webp",
}


def read_picture(content: bytes, limits: Limits) -> Parsed:
    """A picture; of one with several frames, as fax machines make them, each is a page."""
    import numpy
    from PIL import Image, ImageOps, UnidentifiedImageError

    Image.MAX_IMAGE_PIXELS = None  # Our own limit is lower, and no warning.
    try:
        picture = Image.open(io.BytesIO(content), formats=("PNG", *_MEDIA_TYPES))
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError):
        raise Refused("corrupt") from None
    if picture.width * picture.height > limits.pixels:
        raise Refused("expands_too_much")
    builder = Builder(limits)
    builder.warn("read_from_pictures")
    frames = 1 if picture.format in ("GIF", "WEBP", "PNG") else getattr(picture, "n_frames", 1)
    for number in range(min(frames, limits.read_pages)):
        picture.seek(number)
        if picture.width * picture.height > limits.pixels:
            raise Refused("expands_too_much")
        seen = numpy.asarray(_on_white(ImageOps.exif_transpose(picture)))
        if frames > 1:
            builder.begin_page()
        found = lines_of(seen)
        lines.add_lines(builder, found, lines.body_size([found]))
    if frames > limits.read_pages:
        builder.warn("pages_left_out")
    return builder.done(_MEDIA_TYPES.get(str(picture.format), "image/png"))


def lines_of(picture: Any) -> list[Line]:
    """picture: height x width x 3, as bytes. The lines from top to bottom, those beside each other from left to right."""
    found = _engine()(picture[:, :, ::-1])  # It expects blue first.
    if found.boxes is None or found.txts is None:
        return []
    boxes = [_box(points) for points in found.boxes]
    read = [
        (box, str(text))
        for box, text, sure in zip(boxes, found.txts, found.scores, strict=True)
        if sure >= _SURE and str(text).strip()
    ]
    return _in_order(read)


Box = tuple[float, float, float, float]  # left, top, right, bottom


def _box(points: Any) -> Box:
    across, down = [float(each[0]) for each in points], [float(each[1]) for each in points]
    return min(across), min(down), max(across), max(down)


def _in_order(read: list[tuple[Box, str]]) -> list[Line]:
    rows: list[list[tuple[Box, str]]] = []
    for box, text in sorted(read, key=lambda each: each[0][1]):
        height = box[3] - box[1]
        if rows and box[1] - rows[-1][0][0][1] < _SAME_LINE * height:
            rows[-1].append((box, text))
        else:
            rows.append([(box, text)])
    found: list[Line] = []
    bottom: float | None = None
    for row in rows:
        row.sort(key=lambda each: each[0][0])
        top, low = min(box[1] for box, _text in row), max(box[3] for box, _text in row)
        height = low - top
        is_apart = bottom is not None and top - bottom > height
        # Boxes are drawn generously, so their heights tell no headings: size is left out.
        found.append(
            Line(" ".join(text for _box, text in row), width=row[-1][0][2] - row[0][0][0], is_apart=is_apart)
        )
        bottom = low
    return found


def _on_white(picture: Any) -> Any:
    """Without transparency, which is black once it is left out."""
    from PIL import Image

    if picture.mode not in ("RGBA", "LA", "PA", "P"):
        return picture.convert("RGB")
    seen = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen).convert("RGB")


@cache
def _engine() -> Any:
    from rapidocr import RapidOCR

    logging.getLogger("RapidOCR").setLevel(logging.CRITICAL)
    return RapidOCR(
        params={
            "Global.log_level": "critical",
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )
