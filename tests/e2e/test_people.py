"""People of a company, in a real browser, against the whole product with the real model."""

import os
import re
import signal
import time
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.support.product import Product

MEMBER = "member@acme-bank.example"
REVIEWER = "reviewer@acme-bank.example"
ADMINISTRATOR = "admin@acme-bank.example"
LONG = "Tell me a long story about a lighthouse keeper and the sea, with many details."
# The model answers this in a few words; without the second sentence it sometimes goes on for a thousand.
SHORT = "What is the capital of France? Answer in one short sentence."

expect.set_options(timeout=15_000)

SignIn = Callable[..., Page]

# On a busy machine with two cores the small model may write as slowly as this allows for.
ANSWER_MS = 90_000


def ask(page: Page, text: str) -> None:
    page.get_by_label("Your question").fill(text)
    page.keyboard.press("Enter")


def answer_of(page: Page) -> str:
    return page.locator(".answer:visible > .prose").last.inner_text()


def wait_for_text(page: Page, characters: int) -> None:
    page.wait_for_function(
        """least => {
            const answers = [...document.querySelectorAll('.answer')].filter(answer => !answer.hidden);
            return (answers.at(-1)?.querySelector(':scope > .prose').innerText ?? '').length > least;
        }""",
        arg=characters,
        timeout=ANSWER_MS,
    )


def wait_for_end(page: Page) -> None:
    expect(page.get_by_role("button", name="Stop")).to_be_hidden(timeout=ANSWER_MS)
    expect(page.locator(".answer.streaming")).to_have_count(0)


def open_newest_record(page: Page, reason: str) -> None:
    page.goto("/t/acme-bank/audit/")
    page.locator("tbody a").first.click()
    page.locator("[name=reason]").fill(reason)
    page.keyboard.press("Enter")
    expect(page.get_by_text(reason).first).to_be_visible()


def test_an_answer_streams_and_is_found_in_the_audit(sign_in: SignIn) -> None:
    page = sign_in(MEMBER)
    ask(page, f"{SHORT} Reference 48151623.")
    wait_for_text(page, 5)
    wait_for_end(page)
    shown = answer_of(page)

    reviewer = sign_in(REVIEWER)
    open_newest_record(reviewer, "Weekly sample")
    expect(reviewer.get_by_text("Reference 48151623.")).to_be_visible()
    assert shown.split("\n")[0] in reviewer.locator("main").inner_text()


def test_opening_a_record_is_recorded(sign_in: SignIn) -> None:
    page = sign_in(MEMBER)
    ask(page, SHORT)
    wait_for_text(page, 5)
    reviewer = sign_in(REVIEWER)
    open_newest_record(reviewer, "First look")
    open_newest_record(reviewer, "Second look")
    expect(reviewer.get_by_text("First look")).to_be_visible()


def test_stop_keeps_what_was_shown(sign_in: SignIn) -> None:
    page = sign_in(MEMBER)
    ask(page, LONG)
    wait_for_text(page, 30)
    page.get_by_role("button", name="Stop").click()
    wait_for_end(page)
    shown = answer_of(page)
    page.wait_for_timeout(1500)
    assert answer_of(page) == shown, "nothing comes after the stop"
    page.reload()
    expect(page.locator(".answer > .prose").last).to_be_visible()
    assert answer_of(page) == shown
    ask(page, "Now say hello.")
    wait_for_text(page, 1)
    page.keyboard.press("Escape")
    wait_for_end(page)


def test_a_reload_in_the_middle_goes_on_without_a_lost_or_repeated_character(sign_in: SignIn) -> None:
    page = sign_in(MEMBER)
    ask(page, LONG)
    wait_for_text(page, 40)
    before = answer_of(page)
    page.reload()
    wait_for_text(page, len(before) // 2)
    second_tab = page.context.new_page()
    second_tab.goto(page.url)
    wait_for_text(second_tab, len(before) + 40)
    second_tab.get_by_role("button", name="Stop").click()
    wait_for_end(page)
    wait_for_end(second_tab)
    resumed, other = answer_of(page), answer_of(second_tab)
    page.reload()
    expect(page.locator(".answer > .prose").last).to_be_visible()
    from_history = answer_of(page)
    assert resumed == from_history
    assert other == from_history
    # The last line may have been in the middle of a mark-up sign when it was read.
    assert from_history.startswith(before[: before.rfind("\n") if "\n" in before else -5])


def test_regenerating_keeps_the_earlier_answer(sign_in: SignIn) -> None:
    page = sign_in(MEMBER)
    ask(page, SHORT)
    wait_for_text(page, 5)
    wait_for_end(page)
    page.get_by_role("button", name=re.compile("again|Regenerate", re.IGNORECASE)).last.click()
    page.wait_for_timeout(500)
    wait_for_end(page)
    expect(page.get_by_text(re.compile(r"2\s*/\s*2")).first).to_be_visible()


def test_the_dashboard_shows_the_request_with_its_figures(sign_in: SignIn) -> None:
    page = sign_in(MEMBER)
    ask(page, SHORT)
    wait_for_text(page, 5)
    wait_for_end(page)
    administrator = sign_in(ADMINISTRATOR)
    administrator.goto("/t/acme-bank/overview/")
    row = administrator.locator("tbody tr", has_text=MEMBER).first
    expect(row).to_contain_text("Completed")
    expect(row).to_contain_text(re.compile(r"\d ms|\d s"))
    expect(administrator.locator(".uplot canvas").first).to_be_visible()
    assert "capital of France" not in administrator.content()


def test_signing_out_in_one_tab_ends_the_chat_in_the_other(sign_in: SignIn) -> None:
    page = sign_in(MEMBER)
    other = page.context.new_page()
    other.goto("/t/acme-bank/chat/")
    expect(other.get_by_text("Connected")).to_be_visible()
    page.evaluate(
        """async () => {
            const token = document.querySelector('[name=csrfmiddlewaretoken]').value;
            await fetch('/signout/', {method: 'POST', headers: {'X-CSRFToken': token}});
        }"""
    )
    expect(other.get_by_text("Connected")).to_be_hidden(timeout=2_000)


def test_the_inference_process_dies_in_the_middle(sign_in: SignIn, product: Product) -> None:
    page = sign_in(MEMBER)
    ask(page, LONG)
    wait_for_text(page, 20)
    os.kill(product.pid_of("inference.server"), signal.SIGKILL)
    killed = time.monotonic()
    expect(page.get_by_text("The model stopped in the middle of this answer").first).to_be_visible(
        timeout=10_000
    )
    conversation = page.url
    reviewer = sign_in(REVIEWER)
    reviewer.goto("/t/acme-bank/audit/")
    expect(reviewer.locator("tbody tr").first).to_contain_text("Interrupted")
    product.wait_until(product.is_ready, 30, "the inference process to be back")
    page.goto(conversation)
    ask(page, SHORT)
    wait_for_text(page, 5)
    assert time.monotonic() - killed < 45, "includes the browser's own steps"


def test_a_neighbour_finds_nothing(sign_in: SignIn) -> None:
    page = sign_in(MEMBER)
    ask(page, SHORT)
    wait_for_text(page, 5)
    assert "/chat/" in page.url
    neighbour = sign_in("member@north-fund.example")
    assert neighbour.goto(page.url).status == 404  # type: ignore[union-attr]
    assert neighbour.goto("/t/acme-bank/chat/").status == 404  # type: ignore[union-attr]


@pytest.mark.parametrize(("locale", "heading"), [("en", "What would you like to know?"), ("zh-CN", "想")])
def test_speaks_the_readers_language(sign_in: SignIn, locale: str, heading: str) -> None:
    page = sign_in(MEMBER, locale=locale)
    page.goto("/t/acme-bank/chat/")
    expect(page.get_by_text(heading).first).to_be_visible()


def test_a_question_in_chinese_is_kept_as_it_is(sign_in: SignIn) -> None:
    page = sign_in(MEMBER, locale="zh-CN")
    page.goto("/t/acme-bank/chat/")
    page.locator("#question").fill("什么是银行？🏦")
    page.keyboard.press("Enter")
    wait_for_text(page, 1)
    page.reload()
    expect(page.get_by_text("什么是银行？🏦").first).to_be_visible()
    page.keyboard.press("Escape")
