"""Triage by the keyboard alone: flag, open, decide, take back, comment; the pages read well to axe-core too."""

import re
from collections.abc import Callable

import openai
import pytest
from playwright.sync_api import Page, expect

from tests.e2e.test_accessibility import violations

REVIEW = "/t/acme-bank/audit/review/"
MODEL = "smollm2-135m-instruct"


@pytest.fixture
def flagged(sign_in: Callable[..., Page], client: openai.OpenAI) -> Page:
    """A reviewer's window on the queue, with two records in it."""
    for question in ("Who owns the harbour?", "Who owns the mill?"):
        client.completions.create(model=MODEL, prompt=question, max_tokens=4)
    page = sign_in("reviewer@acme-bank.example")
    page.goto("/t/acme-bank/audit/")
    for number in (0, 1):
        page.locator("input[name=selected]").nth(number).check()
    page.get_by_role("button", name="Flag", exact=True).click()
    page.get_by_label("Why should somebody look at this?").fill("A look.")
    page.get_by_role("button", name="Flag", exact=True).click()
    expect(page.get_by_text(re.compile("records? (was|were) flagged"))).to_be_visible()
    page.goto(REVIEW)
    return page


def test_a_record_is_decided_without_a_mouse(flagged: Page) -> None:
    page = flagged
    page.get_by_role("button", name="Work through the list").click()
    expect(page.get_by_role("heading", name="Asked")).to_be_visible()
    first = page.url
    page.keyboard.press("j")
    page.wait_for_url(lambda url: url != first)
    page.keyboard.press("k")
    page.wait_for_url(first)
    page.keyboard.press("m")
    page.keyboard.type("dismiss is a word here, not a key")
    expect(page.locator("#comment")).to_have_value("dismiss is a word here, not a key")
    page.keyboard.press("Escape")
    page.keyboard.press("d")
    expect(page.locator("#text")).to_be_focused()
    page.keyboard.type("Nothing in it.")
    page.keyboard.press("Control+Enter")
    page.wait_for_url(lambda url: url != first)
    expect(page.get_by_text("Your last decision: Dismissed.")).to_be_visible()
    page.keyboard.press("z")
    expect(page.get_by_text("The decision is taken back.")).to_be_visible()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("Dismiss, confirm or escalate")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pages_are_clean(flagged: Page, sign_in: Callable[..., Page], scheme: str) -> None:
    address = flagged.locator("a.cover").first.get_attribute("href") or ""
    page = sign_in("officer@acme-bank.example", scheme=scheme, width=320)
    for path in ("", address, "queues/", "queues/new/", "samples/", "samples/new/", "figures/"):
        page.goto(path if path.startswith("/") else f"{REVIEW}{path}")
        if path == address:
            page.get_by_role("button", name="Record and open").click()
            expect(page.get_by_role("heading", name="Asked")).to_be_visible()
        assert violations(page) == [], path
        assert page.evaluate("document.documentElement.scrollWidth") <= 320, path
