"""What scripts add to the administration's pages: ticking rows, questions as dialogs, the palette, a guard."""

from collections.abc import Callable

from playwright.sync_api import Page, expect

PEOPLE = "/t/acme-bank/administration/people/"


def test_rows_are_ticked_and_a_question_is_asked_in_place(sign_in: Callable[..., Page]) -> None:
    page = sign_in("admin@acme-bank.example")
    page.goto(PEOPLE)
    bar = page.locator("[data-bulk]")
    expect(bar).to_be_hidden()
    page.get_by_label("Select all on this page").check()
    expect(bar).to_contain_text("7 selected")  # all of the demonstration's people but oneself
    page.get_by_label("Select all on this page").uncheck()
    page.get_by_label("Select curator@acme-bank.example").check()
    page.get_by_role("button", name="Disable…").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Disable curator@acme-bank.example?")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    page.get_by_role("button", name="Disable…").click()
    dialog.get_by_role("button", name="Disable", exact=True).click()
    expect(page.get_by_role("status").filter(has_text="1 person was disabled.")).to_be_visible()
    page.get_by_label("Select curator@acme-bank.example").check()
    page.get_by_role("button", name="Enable…").click()
    dialog.get_by_role("button", name="Enable", exact=True).click()
    expect(page.get_by_text("1 person was enabled.")).to_be_visible()


def test_what_was_typed_is_not_left_without_a_word(sign_in: Callable[..., Page]) -> None:
    page = sign_in("admin@acme-bank.example")
    page.goto("/t/acme-bank/administration/groups/new/")
    page.get_by_label("Name", exact=True).fill("Half a group")
    asked: list[str] = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    page.get_by_role("link", name="People", exact=True).click()
    page.wait_for_url(f"**{PEOPLE}")
    assert asked == ["beforeunload"]


def test_the_palette_finds_tabs_and_people(sign_in: Callable[..., Page]) -> None:
    page = sign_in("admin@acme-bank.example")
    page.keyboard.press("Control+k")
    search = page.get_by_role("combobox", name="Search")
    search.fill("invitat")
    expect(page.get_by_role("option")).to_have_text(["Invitations"])
    search.fill("reviewer@")
    expect(page.get_by_role("option", name="reviewer@acme-bank.example")).to_be_visible()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("reviewer@acme-bank.example")
