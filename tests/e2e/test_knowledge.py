"""A knowledge base in a browser: made, filled, read where a citation leads, shared; all of it clean and narrow."""

from collections.abc import Callable

import pytest
from playwright.sync_api import FilePayload, Page, expect

from tests.e2e.test_accessibility import violations

CURATOR, MEMBER = "curator@acme-bank.example", "member@acme-bank.example"
LAW = "# Reporting\n\nBanks report large payments within five days.\n"


def file(name: str, content: bytes) -> FilePayload:
    return {"name": name, "mimeType": "application/octet-stream", "buffer": content}


@pytest.mark.timeout(240)
def test_a_curator_fills_a_base_and_a_member_reads_it(sign_in: Callable[..., Page]) -> None:
    page = sign_in(CURATOR, width=320)
    page.goto("/t/acme-bank/knowledge/")
    assert violations(page) == []
    page.get_by_role("link", name="New knowledge base").click()
    page.get_by_label("Name").fill("House rules")
    assert violations(page) == []
    page.get_by_role("button", name="Make the base").click()
    expect(page.get_by_role("heading", name="No document yet")).to_be_visible()
    assert violations(page) == []
    base = page.url
    # One of three megabytes goes in pieces (of little text, which is soon embedded); one of no kind that is read fails by itself.
    large = ("The board meets on Mondays.\n" * 20).encode() + b"\n" * 3_000_000
    files = [file("law.md", LAW.encode()), file("large.txt", large), file("odd.bin", b"\x00\x01\x02")]
    page.locator("#files").set_input_files(files)
    for name, state in (("law.md", "Ready"), ("large.txt", "Ready"), ("odd.bin", "Failed")):
        row = page.get_by_role("row").filter(has=page.get_by_role("link", name=name))
        expect(row.get_by_text(state, exact=True)).to_be_visible(timeout=60_000)
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.locator("#files").set_input_files([file("again.md", LAW.encode())])
    expect(page.get_by_text("The same file is here already, as “law.md”.")).to_be_visible()
    assert violations(page) == []
    page.get_by_role("button", name="Leave it out").click()
    page.get_by_role("link", name="law.md").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("law.md")
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    document = page.url
    start = LAW.index("large")
    source = f"{document}source/?start={start}&end={start + 14}"
    page.goto(source)
    expect(page.locator("mark")).to_have_text("large payments")
    expect(page.locator("mark")).to_be_in_viewport()
    assert violations(page) == []
    page.goto(document)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    assert download.value.suggested_filename == "law.md"
    assert download.value.path().read_text() == LAW

    member = sign_in(MEMBER)
    assert member.goto(source).status == 404  # type: ignore[union-attr]
    page.goto(base)
    page.get_by_role("link", name="Share").click()
    page.get_by_label("Group").select_option("Everyone")
    assert violations(page) == []
    page.get_by_role("button", name="Grant", exact=True).click()
    expect(page.get_by_text("Granted. It counts from now on.")).to_be_visible()
    member.goto(source)
    expect(member.locator("mark")).to_have_text("large payments")
    page.goto(document)
    page.get_by_role("button", name="Restrict").click()
    expect(page.get_by_text("From now on only whom you grant it to reads it.")).to_be_visible()
    assert member.reload().status == 404  # type: ignore[union-attr]
    member.goto(base)
    expect(member.get_by_role("link", name="large.txt")).to_be_visible()
    expect(member.get_by_text("law.md")).to_have_count(0)
    page.get_by_role("link", name="Delete…").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_text("“law.md” was deleted.")).to_be_visible()
