"""Word, slides, spreadsheets and e-mail; and what such files may hold besides words."""

from __future__ import annotations

import datetime
import io
import zipfile
from collections.abc import Callable
from email.message import EmailMessage
from typing import Any

import docx
import openpyxl
import pptx
import pytest
from docx.oxml import OxmlElement

from knowledge.parsing import Limits, Parsed, Refused, parse_content


def saved(document: Any) -> bytes:
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def said(parsed: Parsed) -> list[tuple[str, int, str]]:
    return [(each.kind, each.level, parsed.text[each.start : each.end]) for each in parsed.blocks]


def refusal(content: bytes, name: str = "x.docx", limits: Limits | None = None) -> str:
    with pytest.raises(Refused) as refused:
        parse_content(content, name=name, limits=limits or Limits())
    return refused.value.code


def changed(content: bytes, change: Callable[[str, bytes], bytes], **more: bytes) -> bytes:
    """The archive with its entries changed, and others added."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, change(entry.filename, old.read(entry)))
        for name, data in more.items():
            new.writestr(name, data)
    return out.getvalue()


# --- Word ---------------------------------------------------------------------------------------------


def word() -> Any:
    document = docx.Document()
    document.add_heading("Rules", 1)
    document.add_paragraph("Banks report.")
    document.add_paragraph("one", style="List Bullet")
    table = document.add_table(2, 2)
    for cell, text in zip(table._cells, ["Name", "Limit", "Cash", "10,000"], strict=True):
        cell.text = text
    document.add_heading("第二章 附则", 2)
    return document


def test_word() -> None:
    parsed = parse_content(saved(word()), name="whatever")
    assert parsed.title == "Rules" and parsed.media_type.endswith("wordprocessingml.document")
    assert said(parsed) == [
        ("heading", 1, "Rules"),
        ("paragraph", 0, "Banks report."),
        ("list_item", 0, "one"),
        ("table_row", 1, "Name | Limit"),
        ("table_row", 0, "Cash | 10,000"),
        ("heading", 2, "第二章 附则"),
    ]


def test_word_without_what_it_does_not_show() -> None:
    document = docx.Document()
    paragraph = document.add_paragraph("Seen")
    paragraph.add_run(" and hidden").font.hidden = True
    struck = OxmlElement("w:del")
    struck.append(paragraph.add_run(" and struck out")._r)
    paragraph._p.append(struck)
    inserted = OxmlElement("w:ins")
    inserted.append(paragraph.add_run(", inserted.")._r)
    paragraph._p.append(inserted)
    assert parse_content(saved(document), name="x.docx").text == "Seen, inserted."


def test_an_entity_is_neither_fetched_nor_expanded() -> None:
    def with_entity(name: str, data: bytes) -> bytes:
        if name != "word/document.xml":
            return data
        head, body = data.split(b"?>", 1)
        entity = b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/hostname">]>'
        return head + b"?>" + entity + body.replace(b"Banks report.", b"&e;")

    content = changed(saved(word()), with_entity)
    assert refusal(content) == "corrupt"


def test_the_library_itself_expands_no_entity() -> None:
    """Were the check above away."""
    from docx.oxml.parser import oxml_parser
    from lxml import etree

    source = b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/hostname">]><x>&e;</x>'
    assert not etree.fromstring(source, oxml_parser).text


# --- Slides and sheets --------------------------------------------------------------------------------


def test_slides() -> None:
    presentation = pptx.Presentation()
    for title in ("First", "Second"):
        slide = presentation.slides.add_slide(presentation.slide_layouts[1])
        slide.shapes.title.text = title
        slide.placeholders[1].text = "one\ntwo"
    slide.notes_slide.notes_text_frame.text = "Say it slowly."
    parsed = parse_content(saved(presentation), name="x")
    assert [(each.number, parsed.text[each.start : each.end]) for each in parsed.pages] == [
        (1, "First\n\none\ntwo"),
        (2, "Second\n\none\ntwo\n\nSay it slowly."),
    ]
    assert said(parsed)[:3] == [("heading", 1, "First"), ("list_item", 0, "one"), ("list_item", 0, "two")]


def test_sheets() -> None:
    workbook = openpyxl.Workbook()
    workbook.active.append(["Name", "Limit", "Day"])
    workbook.active.append(["Cash", 0.1, datetime.date(2024, 1, 2)])
    workbook.create_sheet("客户").append(["姓名", "国籍"])
    parsed = parse_content(saved(workbook), name="x")
    assert said(parsed) == [
        ("heading", 1, "Sheet"),
        ("table_row", 1, "Name | Limit | Day"),
        ("table_row", 0, "Cash | 0.1 | 2024-01-02"),
        ("heading", 1, "客户"),
        ("table_row", 1, "姓名 | 国籍"),
    ]


def test_a_sheet_that_says_it_is_large_and_one_that_is() -> None:
    workbook = openpyxl.Workbook()
    workbook.active.append(["Name", "Limit"])
    content = saved(workbook)
    lying = changed(content, lambda name, data: data.replace(b'ref="A1:B1"', b'ref="A1:XFD1048576"'))
    assert lying != content
    limits = Limits(cells=10)
    assert said(parse_content(lying, name="x", limits=limits))[1:] == [("table_row", 1, "Name | Limit")]
    for _row in range(5):
        workbook.active.append(["a", "b"])
    assert refusal(saved(workbook), limits=limits) == "too_large"
    assert refusal(saved(openpyxl.Workbook())) == "no_text"


# --- Archives that are no documents -------------------------------------------------------------------


def same(_name: str, data: bytes) -> bytes:
    return data


def test_archives_that_expand() -> None:
    bomb = changed(saved(word()), same, **{"word/media/x.bin": bytes(40_000_000)})
    assert len(bomb) < 100_000
    assert refusal(bomb) == "expands_too_much", "by its ratio"
    assert refusal(bomb, limits=Limits(ratio=10_000, expanded=30_000_000)) == "expands_too_much"
    assert parse_content(bomb, name="x", limits=Limits(ratio=10_000)).title == "Rules"
    many = changed(saved(word()), same, **{f"word/media/{n}": b"x" for n in range(100)})
    assert refusal(many, limits=Limits(entries=100)) == "expands_too_much"


def test_an_entry_that_says_it_is_small_gives_no_more_than_it_says() -> None:
    """So that what is declared is a bound."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("[Content_Types].xml", b"x" * 1_000_000)
    content = out.getvalue().replace((1_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        assert opened.infolist()[0].file_size == 10
        with pytest.raises(zipfile.BadZipFile):
            opened.read("[Content_Types].xml")


def test_macros_and_passwords() -> None:
    assert refusal(changed(saved(word()), same, **{"word/vbaProject.bin": b"x"})) == "macros"
    assert refusal(changed(saved(openpyxl.Workbook()), same, **{"xl/VBAPROJECT.BIN": b"x"})) == "macros"
    content = bytearray(saved(word()))
    at = 0
    while (at := content.find(b"PK\x01\x02", at)) >= 0:
        content[at + 8] |= 1
        at += 4
    assert refusal(bytes(content)) == "encrypted"


def test_damaged_files() -> None:
    content = saved(word())
    assert refusal(content[: len(content) // 2]) == "corrupt"
    assert (
        refusal(changed(content, lambda name, data: b"<x" if name == "word/document.xml" else data))
        == "corrupt"
    )
    assert refusal(changed(content, lambda name, data: b"" if name.endswith(".rels") else data)) == "corrupt"


# --- E-mail -------------------------------------------------------------------------------------------


def test_mail() -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "a@example.com", "b@example.com", "大额交易报告"
    message["Date"] = "Mon, 01 Jan 2024 00:00:00 +0000"
    message.set_content("Hello\nthere.\n\n- one\n- two\n")
    message.add_alternative("<p>Another text</p>", subtype="html")
    message.add_attachment(b"x", maintype="application", subtype="pdf", filename="report.pdf")
    parsed = parse_content(bytes(message), name="no ending")
    assert (parsed.title, parsed.media_type) == ("大额交易报告", "message/rfc822")
    assert parsed.warnings == ("attachments_left_out",)
    assert said(parsed) == [
        ("heading", 1, "大额交易报告"),
        ("paragraph", 0, "From: a@example.com\nTo: b@example.com\nDate: Mon, 01 Jan 2024 00:00:00 +0000"),
        ("paragraph", 0, "Hello\nthere."),
        ("list_item", 0, "- one"),
        ("list_item", 0, "- two"),
        ("list_item", 0, "report.pdf"),
    ]


def test_mail_of_html_in_gb2312() -> None:
    body = "<html><body><h1>通知</h1><p>请报告。</p></body></html>".encode("gb18030")
    head = b"From: a@example.com\nSubject: x\nMIME-Version: 1.0\nContent-Type: text/html; charset=gb2312\n"
    parsed = parse_content(head + b"Content-Transfer-Encoding: 8bit\n\n" + body, name="x.eml")
    assert [text for _kind, _level, text in said(parsed)][2:] == ["通知", "请报告。"]
