"""The colours that a workspace can choose can be read: contrast by WCAG 2.2, in light and in dark."""

import re
from pathlib import Path

import pytest
from django.conf import settings

from tenants.models import TenantSettings

LEAST = 4.5
PAIR = re.compile(r"(--[\w-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\);")


def tokens(selector: str) -> dict[str, tuple[str, str]]:
    """The colours of the first block with this selector, as (light, dark)."""
    style = Path(settings.BASE_DIR, "static/css/tokens.css").read_text()
    block = style.partition(f"{selector} {{")[2].partition("}")[0]
    return {name: (light, dark) for name, light, dark in PAIR.findall(block)}


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_the_measure_is_the_standards() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("accent", TenantSettings.Accent.values)
def test_every_colour_can_be_read(accent: str, theme: int) -> None:
    own = tokens(f'[data-accent="{accent}"]')
    assert own or accent == "blue", "blue is the product's own"
    found = {name: pair[theme] for name, pair in {**tokens(":root"), **own}.items()}
    for ground in ("--bg", "--surface", "--surface-2", "--accent-soft"):
        for text in ("--accent", "--accent-strong"):
            assert contrast(found[text], found[ground]) >= LEAST, f"{text} on {ground}"
    for ground in ("--accent", "--accent-strong"):
        assert contrast(found["--accent-ink"], found[ground]) >= LEAST, f"--accent-ink on {ground}"
