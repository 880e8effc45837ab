"""A process of its own: reads a picture from standard input, writes it to standard output as WebP.

Run by console.pictures as a script, alone and with nothing but its input. Ends with a status other than 0 when
the input is no picture, or wants more than the limits.
"""

import io
import resource
import sys

CPU_S = 5
MEMORY = 1024 * 1024 * 1024
OUTPUT = 1024 * 1024
MOST_PIXELS = 25_000_000
FORMATS = ("PNG", "JPEG", "WEBP")


def limit() -> None:
    """Bound what this process may use from here on."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (OUTPUT, OUTPUT))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def redraw(upload: bytes, pixels: int, shape: str) -> bytes:
    from PIL import Image, ImageOps

    Image.MAX_IMAGE_PIXELS = MOST_PIXELS
    with Image.open(io.BytesIO(upload), formats=FORMATS) as picture:
        if picture.width * picture.height > MOST_PIXELS:
            raise ValueError("too many pixels")
        picture.seek(0)
        # Turned as the camera was held; what else the file says about place and device goes.
        upright = ImageOps.exif_transpose(picture)
        has_gaps = upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info
        drawn = upright.convert("RGBA" if has_gaps else "RGB")
    if shape == "square":
        drawn = ImageOps.fit(drawn, (pixels, pixels))
    else:
        drawn.thumbnail((pixels, pixels))
    drawn.info.clear()
    output = io.BytesIO()
    drawn.save(output, "WEBP", quality=85, method=4)
    return output.getvalue()


if __name__ == "__main__":
    sys.path[:] = [entry for entry in sys.path if entry]
    upload = sys.stdin.buffer.read()

    limit()
    sys.stdout.buffer.write(redraw(upload, int(sys.argv[1]), sys.argv[2]))
