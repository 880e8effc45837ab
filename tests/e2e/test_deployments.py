"""A deployment in a browser: made, watched as it becomes ready, killed, stopped; clean, narrow and by keyboard."""

import json
import os
import re
import signal
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.test_accessibility import violations
from tests.support.product import Product

PLATFORM = "platform@custos.example"
READY_MS = 120_000


def listed(product: Product, name: str) -> dict[str, Any]:
    found = json.loads(product.command("deployments", "list", "--json"))["deployments"]
    return next(row for row in found if row["deployment"] == name)


def fits(page: Page) -> bool:
    return page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.timeout(400)
def test_a_version_is_deployed_watched_killed_and_stopped(
    product: Product, sign_in: Callable[..., Page]
) -> None:
    made = json.loads(
        product.command(
            "models", "import", "version:smollm2-135m-instruct@1", "--precision", "float32", "--json"
        )
    )
    product.command("models", "stage", made["version"], "staged", "--reason", "To try it")
    page = sign_in(PLATFORM, width=320)
    page.goto("/platform/deployments/")
    assert violations(page) == [] and fits(page)
    expect(page.get_by_role("row").filter(has_text="embedded-embedder")).to_contain_text("Ready")
    page.get_by_role("link", name="Deploy a version").click()
    assert violations(page) == [] and fits(page)
    page.get_by_label("Name", exact=True).fill("small")
    page.get_by_label("Version", exact=True).select_option(
        label=f"{made['version']} · float32 · about 1,339 MB"
    )
    page.get_by_label("Memory for context, MB").fill("64")
    page.get_by_role("button", name="Deploy", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("small")

    instances = page.get_by_role("group", name="Instances")
    expect(instances.get_by_role("row").filter(has_text="#1")).to_contain_text("Ready", timeout=READY_MS)
    expect(page.get_by_role("link", name="Stop…")).to_be_visible()
    assert violations(page) == [] and fits(page)

    (first,) = [row for row in listed(product, "small")["instances"] if row["state"] == "ready"]
    os.kill(first["pid"], signal.SIGKILL)
    ended = page.locator("#deployment-ended")
    expect(ended).to_contain_text("The process ended by itself: killed by SIGKILL.")
    expect(ended).to_contain_text("is ready after")
    expect(instances.get_by_role("row").filter(has_text="#2")).to_contain_text("Ready", timeout=READY_MS)
    assert violations(page) == [] and fits(page)

    page.get_by_role("link", name="Stop…").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("heading")).to_have_text("Stop small?")
    dialog.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("None is running")).to_be_visible(timeout=30_000)
    expect(page.get_by_role("link", name="Start…")).to_be_visible()
    assert listed(product, "small")["state"] == "stopped"


def test_an_upstream_that_does_not_answer_says_so_before_it_is_connected(
    product: Product, sign_in: Callable[..., Page]
) -> None:
    page = sign_in(PLATFORM, locale="zh-CN", scheme="dark", width=320)
    page.goto("/platform/deployments/upstream/")
    assert violations(page) == [] and fits(page)
    page.locator("#id_name").fill("theirs")
    page.locator("#id_base_url").fill("http://127.0.0.1:9")
    page.locator("button[name=try]").click()
    expect(page.get_by_role("alert")).to_contain_text(re.compile("ConnectError|not answer"))
    assert violations(page) == [] and fits(page)
    page.goto("/platform/deployments/")
    expect(page.get_by_role("link", name="theirs")).to_have_count(0)
