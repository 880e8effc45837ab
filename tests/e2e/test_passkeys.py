"""Passkeys in a real browser with a virtual authenticator: made, used alone, and used as a second step."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.product import PASSWORD, Product

PERSON = "operator@north-fund.example"


@pytest.fixture
def page(product: Product, browser: Browser) -> Iterator[Page]:
    # A passkey belongs to a host name, which a bare number is not.
    context = browser.new_context(base_url=product.url.replace("127.0.0.1", "localhost"), locale="en")
    page = context.new_page()
    page.set_default_timeout(20_000)
    devtools = context.new_cdp_session(page)
    devtools.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    devtools.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    yield page
    context.close()


def sign_in(page: Page) -> None:
    page.goto("/signin/")
    page.get_by_label("E-mail address").fill(PERSON)
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")


def sign_out(page: Page) -> None:
    page.goto("/account/")
    page.locator(".sidebar-foot summary").click()
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/signin/**")


def test_a_passkey_is_made_and_signs_in_alone_and_as_a_second_step(page: Page) -> None:
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    sign_in(page)
    page.wait_for_url("**/t/north-fund/**")
    page.goto("/account/passkeys/add/")
    page.get_by_label("Name").fill("Work laptop")
    page.get_by_role("button", name="Make the passkey").click()
    expect(page.get_by_role("heading", name="Recovery codes")).to_be_visible()
    page.goto("/account/")
    expect(page.get_by_text("Work laptop").first).to_be_visible()

    sign_out(page)
    page.get_by_role("button", name="Sign in with a passkey").click()
    page.wait_for_url("**/t/north-fund/**")

    sign_out(page)
    sign_in(page)
    expect(page.get_by_role("heading", name="Second step")).to_be_visible()
    page.get_by_role("button", name="Use a passkey").click()
    page.wait_for_url("**/t/north-fund/**")

    page.goto("/account/")
    page.get_by_role("link", name="Remove Work laptop").click()
    page.get_by_role("button", name="Remove the passkey").click()
    expect(page.get_by_text("The passkey is removed.")).to_be_visible()
    sign_out(page)
    page.get_by_role("button", name="Sign in with a passkey").click()
    expect(page.locator(".notice.error, [data-passkey-error]:visible").first).to_be_visible()
    assert problems == []
