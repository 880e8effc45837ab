"""Questions over the demonstration's knowledge bases in a browser: passages, citations, an honest no, a reload."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.test_accessibility import violations

MEMBER = "member@acme-bank.example"
WRITTEN = 120_000  # Milliseconds: the packaged model reads several passages first.


def choose(page: Page, base: str) -> None:
    page.locator("[data-knowledge] summary").click()
    page.get_by_label(base).check()
    page.keyboard.press("Escape")


def ask(page: Page, text: str) -> None:
    page.locator("#question").fill(text)
    page.keyboard.press("Enter")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_citation_leads_to_the_marked_line(sign_in: Callable[..., Page], scheme: str) -> None:
    page = sign_in(MEMBER, scheme=scheme)
    page.goto("/t/acme-bank/chat/")
    choose(page, "AML guidance")
    ask(page, "What do scammers call slaughtering a victim in pig butchering?")
    first = page.locator(".source").first
    expect(first).to_be_visible(timeout=30_000)
    answer = page.locator(".message.answer")
    expect(answer.get_by_role("button", name="Answer again")).to_be_visible(timeout=WRITTEN)
    assert violations(page) == []
    first.locator("summary").click()
    assert violations(page) == []
    quoted = first.locator("blockquote").inner_text()
    first.get_by_role("link", name="Open in the document").click()
    expect(page.locator("mark").first).to_be_in_viewport()
    assert page.locator("mark").first.inner_text().split()[0] in quoted


@pytest.mark.timeout(300)
def test_what_is_not_there_is_said_and_can_be_asked_without(sign_in: Callable[..., Page]) -> None:
    page = sign_in(MEMBER)
    page.goto("/t/acme-bank/chat/")
    choose(page, "AML guidance")
    ask(page, "Which planets have rings of ice?")
    expect(
        page.locator(".message.answer").get_by_text("These documents do not seem to hold an answer")
    ).to_be_visible(timeout=30_000)
    assert violations(page) == []
    page.get_by_role("button", name="Ask without the documents").click()
    expect(page.get_by_text("Answer 2 of 2")).to_be_attached(timeout=WRITTEN)
    expect(page.locator(".sources:visible")).to_have_count(0)


@pytest.mark.timeout(300)
def test_in_chinese_on_a_phone_a_reload_in_mid_answer_loses_nothing(sign_in: Callable[..., Page]) -> None:
    page = sign_in(MEMBER, locale="zh-CN", width=390)
    page.goto("/t/acme-bank/chat/")
    choose(page, "反洗钱法规")
    ask(page, "客户身份资料在业务关系结束后应当至少保存多少年？")
    expect(page.locator(".source").first).to_be_visible(timeout=30_000)
    page.reload()
    expect(page.locator(".source").first).to_be_visible()
    expect(page.locator("[data-knowledge-label]")).to_have_text("反洗钱法规")
    expect(page.get_by_role("button", name="重新生成")).to_be_visible(timeout=WRITTEN)
    # The law of 2024 holds, not the one that it replaced.
    page.locator(".source summary").first.click()
    expect(page.locator(".source blockquote").first).to_contain_text("十年")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert violations(page) == []
