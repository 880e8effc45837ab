"""axe-core on every page, in both themes, and at the narrowest width."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.product import Product
from tests.support.services import REPOSITORY

AXE = REPOSITORY / "node_modules" / "axe-core" / "axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]

PAGES = {
    "member@acme-bank.example": [
        "/t/acme-bank/chat/",
        "/t/acme-bank/no-such-page/",
        "/account/",
        "/account/password/",
        "/account/authenticator/",
        "/account/passkeys/add/",
    ],
    "reviewer@acme-bank.example": ["/t/acme-bank/audit/", "/t/acme-bank/audit/saved/"],
    "officer@acme-bank.example": [
        "/t/acme-bank/audit/review/",
        "/t/acme-bank/audit/review/queues/new/",
        "/t/acme-bank/audit/review/samples/new/",
        "/t/acme-bank/audit/review/figures/",
        "/t/acme-bank/audit/cases/new/",
        "/t/acme-bank/audit/retention/?rehearse=yes",
        "/t/acme-bank/audit/retention/erasures/",
        "/t/acme-bank/audit/proof/",
        "/t/acme-bank/audit/keys/",
        "/t/acme-bank/audit/readers/",
        "/t/acme-bank/audit/readers/rules/",
    ],
    "admin@acme-bank.example": [
        "/t/acme-bank/administration/people/",
        "/t/acme-bank/administration/people/import/",
        "/t/acme-bank/administration/invitations/new/",
        "/t/acme-bank/administration/groups/",
        "/t/acme-bank/administration/roles/",
        "/t/acme-bank/administration/access/",
        "/t/acme-bank/administration/keys/",
        "/t/acme-bank/administration/keys/new/",
        "/t/acme-bank/administration/keys/accounts/",
        "/t/acme-bank/administration/quotas/",
        "/t/acme-bank/administration/usage/",
        "/t/acme-bank/administration/sign-in/",
        "/t/acme-bank/administration/sign-in/add/",
        "/t/acme-bank/administration/settings/",
        "/t/acme-bank/overview/",
    ],
    "platform@custos.example": [
        "/platform/",
        "/platform/deployments/",
        "/platform/deployments/new/",
        "/platform/deployments/upstream/",
        "/platform/rollouts/",
        "/platform/rollouts/new/",
        "/platform/monitoring/",
        "/platform/monitoring/span/",
        "/platform/alerts/",
        "/platform/alerts/history/",
        "/platform/alerts/rules/",
        "/platform/alerts/rules/new/",
        "/platform/alerts/channels/",
        "/platform/alerts/channels/new/webhook/",
        "/platform/tenants/",
        "/platform/tenants/acme-bank/",
    ],
}


def violations(page: Page) -> list[str]:
    page.evaluate(AXE.read_text())
    found = page.evaluate("rules => axe.run({runOnly: rules})", RULES)["violations"]
    return [
        f"{each['id']}: {node['html'][:160]} {node['failureSummary']}"
        for each in found
        for node in each["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_sign_in_page_is_clean(product: Product, browser: Browser, scheme: str) -> None:
    context = browser.new_context(base_url=product.url, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    for path in ("/signin/", "/signin/sso/", "/signin/forgotten/", "/signin/forgotten/0-x/"):
        page.goto(path)
        assert violations(page) == [], path
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("email", PAGES)
def test_pages_are_clean(sign_in: Callable[..., Page], email: str, scheme: str) -> None:
    page = sign_in(email, scheme=scheme)
    for path in PAGES[email]:
        page.goto(path)
        page.wait_for_timeout(300)
        assert violations(page) == [], f"{path} in {scheme}"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_conversation_and_its_record_are_clean(sign_in: Callable[..., Page], scheme: str) -> None:
    page = sign_in("member@acme-bank.example", scheme=scheme)
    page.get_by_label("Your question").fill("Write a Python function that adds two numbers.")
    page.keyboard.press("Enter")
    expect(page.locator(".answer .prose").last).not_to_be_empty(timeout=60_000)
    page.wait_for_timeout(1500)
    page.keyboard.press("Escape")
    expect(page.locator(".answer.streaming")).to_have_count(0, timeout=20_000)
    assert violations(page) == []
    reviewer = sign_in("reviewer@acme-bank.example", scheme=scheme)
    reviewer.goto("/t/acme-bank/audit/")
    reviewer.locator("tbody a").first.click()
    assert violations(reviewer) == []
    reviewer.locator("[name=reason]").fill("Accessibility")
    reviewer.keyboard.press("Enter")
    expect(reviewer.get_by_text("Accessibility").first).to_be_visible()
    assert violations(reviewer) == []


@pytest.mark.parametrize("email", PAGES)
def test_nothing_is_wider_than_a_narrow_screen(sign_in: Callable[..., Page], email: str) -> None:
    page = sign_in(email, width=320)
    for path in PAGES[email]:
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), path
