"""Chinese and English read from pictures that are drawn here, alone and as the pages of a scan."""

from __future__ import annotations

import io
from functools import cache
from importlib.resources import files

import pytest
from PIL import Image, ImageDraw, ImageFont, ImageOps

from knowledge.parsing import Limits, Parsed, Refused, parse_content

CHINESE = "第十四条 金融机构应当报告大额交易"
ENGLISH = ("Banks report large payments within five days.", "They keep records for ten years.")


@cache
def picture(*texts: str) -> Image.Image:
    font = ImageFont.truetype(str(files("paperang_p2_fonts_cjk") / "fonts" / "wqy-microhei.ttc"), 36)
    drawn = Image.new("RGB", (1000, 120 * len(texts) + 40), "white")
    draw = ImageDraw.Draw(drawn)
    for number, text in enumerate(texts):
        draw.text((40, 40 + 120 * number), text, font=font, fill="black")
    return drawn


def saved(drawn: Image.Image, kind: str, **more: object) -> bytes:
    out = io.BytesIO()
    drawn.save(out, kind, **more)
    return out.getvalue()


def words(parsed: Parsed) -> str:
    """Without space: whether it is one is a matter of taste to whoever reads a picture."""
    return "".join(parsed.text.split())


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_picture_of_text(kind: str) -> None:
    parsed = parse_content(saved(picture(CHINESE, *ENGLISH), kind), name="scan")
    assert words(parsed) == "".join((CHINESE, *ENGLISH)).replace(" ", "")
    assert parsed.warnings == ("read_from_pictures",) and parsed.media_type == f"image/{kind.lower()}"
    assert parsed.pages == ()


def test_a_scan_is_read_page_by_page() -> None:
    first, second = picture(CHINESE), picture(*ENGLISH)
    parsed = parse_content(saved(first, "PDF", save_all=True, append_images=[second]), name="scan.pdf")
    assert parsed.warnings == ("read_from_pictures",)
    assert [each.number for each in parsed.pages] == [1, 2]
    one, two = ("".join(parsed.text[each.start : each.end].split()) for each in parsed.pages)
    assert one == CHINESE.replace(" ", "") and two == "".join(ENGLISH).replace(" ", "")


def test_pages_beyond_what_is_read_are_named_as_left_out() -> None:
    content = saved(picture(CHINESE), "PDF", save_all=True, append_images=[picture(*ENGLISH)])
    parsed = parse_content(content, name="fax", limits=Limits(read_pages=1))
    assert parsed.warnings == ("read_from_pictures", "pages_left_out")
    assert words(parsed) == CHINESE.replace(" ", "")


def test_transparency_is_white() -> None:
    drawn = picture(ENGLISH[0])
    clear = Image.new("RGBA", drawn.size, "black")
    clear.putalpha(ImageOps.invert(drawn.convert("L")))
    assert words(parse_content(saved(clear, "PNG"), name="x")) == ENGLISH[0].replace(" ", "")


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (saved(Image.new("RGB", (400, 400), "white"), "PNG"), "no_text"),
        (saved(Image.new("1", (20_000, 20_000)), "PNG"), "expands_too_much"),
        (saved(picture(CHINESE), "PNG")[:2000], "corrupt"),
        (b"\x89PNG\r\n\x1a\n and no more", "corrupt"),
    ],
)
def test_refused(content: bytes, code: str) -> None:
    with pytest.raises(Refused, match=code):
        parse_content(content, name="x.png")
