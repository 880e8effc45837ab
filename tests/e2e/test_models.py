"""The registry of models in a browser: another precision, a comparison, an upload in pieces; all of it clean and narrow."""

import json
import re
import shutil
from collections.abc import Callable

import pytest
from playwright.sync_api import FilePayload, Page, expect

from tests.e2e.test_accessibility import violations
from tests.registry.conftest import CONFIG, TEMPLATE, safetensors
from tests.support.product import Product

PLATFORM = "platform@custos.example"
CARD = "# Tiny\n\nA *small* one.\n\n<script>alert(1)</script>\n"


def files() -> list[FilePayload]:
    contents = {
        "model.safetensors": safetensors((2048, 2048)),  # Eight pieces.
        "config.json": json.dumps(CONFIG).encode(),
        "tokenizer.json": b"{}",
        "chat_template.jinja": TEMPLATE.encode(),
        "README.md": CARD.encode(),
    }
    return [
        {"name": name, "mimeType": "application/octet-stream", "buffer": content}
        for name, content in contents.items()
    ]


@pytest.mark.timeout(240)
def test_a_model_is_uploaded_and_shows_its_card(product: Product, sign_in: Callable[..., Page]) -> None:
    page = sign_in(PLATFORM, width=320)
    page.goto("/platform/models/import/?from=upload")
    assert violations(page) == []
    page.get_by_label("Name", exact=True).fill("tiny")
    page.get_by_role("button", name="Choose the files").click()
    assert violations(page) == []
    # One that is refused stops nothing: the right files are chosen next.
    evil: FilePayload = {"name": "model.bin", "mimeType": "application/octet-stream", "buffer": b"\x80\x04."}
    page.get_by_label("Files of the model").set_input_files([evil])
    expect(page.get_by_role("alert")).to_contain_text("is pickled")
    page.get_by_label("Files of the model").set_input_files(files())
    link = page.get_by_role("link", name="tiny@1")
    expect(link).to_be_visible(timeout=60_000)
    assert violations(page) == []
    link.click()
    expect(page.get_by_role("heading", name="Tiny", exact=True)).to_be_visible()
    expect(page.locator(".prose em")).to_have_text("small")
    expect(page.locator(".prose script")).to_have_count(0)
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    shutil.rmtree(product.var_dir / "models" / "store")  # Which runs share, as they do what is compiled.


@pytest.mark.timeout(240)
def test_the_default_gets_an_int8_version_that_is_staged_and_compared(sign_in: Callable[..., Page]) -> None:
    page = sign_in(PLATFORM)
    page.goto("/platform/models/")
    page.get_by_role("link", name="smollm2-135m-instruct@1").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("smollm2-135m-instruct@1")
    assert violations(page) == []
    page.get_by_label("Precision", exact=True).select_option("int8")
    page.get_by_role("button", name="Register a version").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile(r"^smollm2-135m-instruct@[2-9]$"))
    page.get_by_role("link", name="Stage…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Reason").fill("To be tried")
    dialog.get_by_role("button", name="Stage").click()
    expect(page.get_by_text("To be tried")).to_be_visible()
    page.get_by_role("button", name="Compare", exact=True).click()
    row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="Precision"))
    expect(row).to_contain_text("Differs")
    assert violations(page) == []
    page.set_viewport_size({"width": 320, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
