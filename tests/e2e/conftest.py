"""The whole product, started once for all tests of this folder, and a real browser to use it with."""

import shutil
from collections.abc import Callable, Iterator

import openai
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.support.product import PASSWORD, Product
from tests.support.services import TEST_DIR

CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    running = Product(TEST_DIR / f"product-{tmp_path_factory.getbasetemp().name}")
    running.start()
    yield running
    status = running.stop()
    left = running.pids()
    assert status == 0, running.output()[-4000:]
    assert left == [], "an orderly stop leaves no process"
    shutil.rmtree(running.var_dir)  # kept, with its logs, when something was wrong


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=CHROMIUM_ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def sign_in(product: Product, browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens a browser window of its own, signed in as the given person, in English unless told otherwise."""
    contexts = []

    def open_window(email: str, *, locale: str = "en", width: int = 1280, scheme: str = "light") -> Page:
        context = browser.new_context(
            base_url=product.url,
            locale=locale,
            viewport={"width": width, "height": 900},
            color_scheme=scheme,  # type: ignore[arg-type]
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.goto("/signin/")
        page.locator("input[name=username], input[name=email]").first.fill(email)
        page.locator("input[name=password]").fill(PASSWORD)
        page.keyboard.press("Enter")
        page.wait_for_url(lambda url: "/signin/" not in url)
        return page

    yield open_window
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def api_key(product: Product) -> str:
    return product.api_key("acme-bank", "end to end")


@pytest.fixture
def client(product: Product, api_key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{product.url}/v1", api_key=api_key, max_retries=0)
