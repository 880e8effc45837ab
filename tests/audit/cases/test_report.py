"""Reports: complete, the same each time, readable in Chinese, and known by their digest."""

import json
import re
from datetime import UTC
from hashlib import sha256
from pathlib import Path
from uuid import UUID

import pypdfium2
import pytest
from django.utils import translation

from audit import tree
from audit.cases import attachments, decisions, work
from audit.cases.models import Case
from audit.cases.report import making, pdf
from audit.models import AuditRecord
from audit.record import handle_of, open_json
from tenants.access import Actor, NotVisible
from tenants.scope import tenant_scope
from tests.audit.cases.conftest import ANSWER, QUESTION, TITLE, ask, open_case
from tests.audit.conftest import generation
from tests.conftest import Company

pytestmark = pytest.mark.django_db(transaction=True)


def make(actor: Actor, case: Case, form: str = "pdf", language: str = "en") -> making.Made:
    with tenant_scope(actor.tenant_id):
        return making.make_report(actor, case.pk, form=form, language=language)


def text_of(content: bytes) -> str:
    document = pypdfium2.PdfDocument(content)
    return "\n".join(page.get_textpage().get_text_range() for page in document)


@pytest.fixture
def closed(officer: Actor, second_officer: Actor, case: Case) -> Case:
    attachments.attach(actor=officer, case_id=case.pk, name="statement.txt", content=b"figures")
    work.add_note(actor=officer, case_id=case.pk, text="Called the branch.")
    decision = decisions.decide(actor=officer, case_id=case.pk, outcome="report", reason="A clear pattern.")
    decisions.sign(
        actor=second_officer, case_id=case.pk, decision_id=decision.id, is_approved=True, reason="I agree."
    )
    tree.extend(officer.tenant_id)
    return case


def test_the_pdf_says_who_what_when_where_why_and_how_and_who_signed(
    officer: Actor, second_officer: Actor, closed: Case, asked: UUID
) -> None:
    text = text_of(make(officer, closed).content)
    for word in (
        "Who",
        "What",
        "When",
        "Where",
        "Why",
        "How",
        "Decision and signatures",
        "Timeline",
        "Proof",
    ):
        assert re.search(rf"^{word}\b", text, re.MULTILINE), word
    for words in (
        closed.number,
        TITLE,
        "member@acme-bank.example",
        QUESTION,
        ANSWER,
        "A clear pattern.",
        "I agree.",
        officer.label,
        second_officer.label,
        "Called the branch.",
        "statement.txt",
        sha256(b"figures").hexdigest()[:40],
        str(asked),
        "Closed, reported",
        "Page 1 of",
    ):
        assert words in text, words


def test_the_place_in_the_log_is_told_as_it_is(officer: Actor, closed: Case, asked: UUID) -> None:
    from audit.tree.selectors import place_of

    with tenant_scope(officer.tenant_id):
        place = place_of(asked)
    assert place is not None and place.checkpoint is not None
    flat = "".join(text_of(make(officer, closed).content).split())
    assert place.leaf.hex() in flat and place.checkpoint.root.hex() in flat
    lines = [json.loads(line) for line in make(officer, closed, "jsonl").content.splitlines()]
    (record,) = [line for line in lines if line["type"] == "record"]
    assert record["proof"]["leaf"] == place.leaf.hex()
    assert record["proof"]["checkpoint"]["size"] == place.checkpoint.size


def test_the_same_case_makes_the_same_bytes_whoever_makes_it(
    officer: Actor, second_officer: Actor, closed: Case
) -> None:
    for form in ("pdf", "jsonl"):
        first = make(officer, closed, form)
        assert make(second_officer, closed, form) == first
    assert make(officer, closed, language="zh-hans").content != make(officer, closed).content


def test_its_digest_stands_in_an_event_confined_to_the_case(officer: Actor, closed: Case) -> None:
    made = make(officer, closed)
    assert made.sha256 == sha256(made.content).hexdigest()
    with tenant_scope(officer.tenant_id):
        event = AuditRecord.objects.filter(kind="audit.export").latest("id")
        detail = open_json(handle_of(event), field="input", sealed=event.input)
    assert (event.confined_to, event.subject_id) == (closed.pk, closed.pk)
    assert (detail["sha256"], detail["form"]) == (made.sha256, "pdf")


def test_the_lines_hold_the_exact_text_and_count_themselves(acme: Company, officer: Actor) -> None:
    odd = "leading  space\n\ttab \u202e turned 😀 \ud83d and 中文"
    case = open_case(officer, ask(acme.actor(acme.curator), question=odd, answer=odd))
    content = make(officer, case, "jsonl").content
    lines = [json.loads(line) for line in content.splitlines()]
    (record,) = [line for line in lines if line["type"] == "record"]
    assert record["input"] == [{"role": "user", "content": odd}]
    assert [part["text"] for part in record["output"]] == [odd]
    assert {"request_id", "user_id", "input", "output", "timestamp"} <= set(record)
    body, end = content.rsplit(b"\n", 2)[0] + b"\n", lines[-1]
    assert (end["lines"], end["sha256"]) == (len(lines) - 1, sha256(body).hexdigest())


def test_what_is_no_number_is_null_for_every_reader(acme: Company, officer: Actor) -> None:
    asked = [{"role": "user", "content": "x", "n": [float("nan"), float("-inf"), 1.5]}]
    handle = generation(acme.actor(acme.member), input=asked, parameters={"temperature": float("inf")})
    content = make(officer, open_case(officer, handle.request_id), "jsonl").content

    def refuse(name: str) -> None:
        raise AssertionError(name)

    lines = [json.loads(line, parse_constant=refuse) for line in content.splitlines()]
    (record,) = [line for line in lines if line["type"] == "record"]
    assert record["input"][0]["n"] == [None, None, 1.5] and record["parameters"] == {"temperature": None}


def test_chinese_really_shows(officer: Actor, acme: Company, tmp_path: Path) -> None:
    """Drawn without any font of the machine's: the ink of the characters is on the page."""
    case = open_case(
        officer,
        ask(acme.actor(acme.curator), question="怎样避开大额申报？", answer="分开存入。"),
        title="柜台分拆存款",
        summary="客户分拆存款",
    )
    content = make(officer, case, language="zh-hans").content
    text = text_of(content)
    assert "聊天 · 192.0.2.7" in text
    assert "柜台分拆存款" in text and "怎样避开大额申报？" in text and "分开存入。" in text
    page = pypdfium2.PdfDocument(content)[0]
    found = page.get_textpage().search("柜台分拆存款")
    place = found.get_next()
    assert place is not None
    index, count = place
    boxes = [page.get_textpage().get_charbox(each) for each in range(index, index + count)]
    left, bottom = min(box[0] for box in boxes), min(box[1] for box in boxes)
    right, top = max(box[2] for box in boxes), max(box[3] for box in boxes)
    width, height = page.get_size()
    picture = page.render(scale=4, crop=(left, bottom, width - right, height - top)).to_pil().convert("L")
    dark = sum(1 for each in picture.getdata() if each < 128) / (picture.width * picture.height)
    assert 0.08 < dark < 0.6, dark
    fonts = re.findall(rb"/FontFile2", content)
    assert fonts, "the typeface is part of the file"


def test_what_has_no_shape_is_written_as_its_code_point() -> None:
    assert pdf.printable("a😀b\u202ec\x00中é\t\n") == "a[U+1F600]b[U+202E]c[U+0000]中é\t\n"


def test_what_people_wrote_is_never_markup(officer: Actor, acme: Company) -> None:
    words = '<para><font size="40">big</font> & <img src="file:///etc/passwd"/> &amp;'
    case = open_case(officer, ask(acme.actor(acme.curator), question=words), title="T", summary=words)
    assert text_of(make(officer, case).content).count('<img src="file:///etc/passwd"/> &amp;') == 2


def test_a_text_of_many_pages_fits(officer: Actor, acme: Company) -> None:
    case = open_case(officer, ask(acme.actor(acme.curator), answer="很长的回答。" * 5000))
    pages = len(pypdfium2.PdfDocument(make(officer, case).content))
    assert pages > 10


def test_only_those_who_may_read_and_export_make_one(officer: Actor, case: Case, colleague: Actor) -> None:
    from dataclasses import replace

    for missing in ("audit.read", "audit.export"):
        with pytest.raises(NotVisible):
            make(replace(officer, permissions=officer.permissions - {missing}), case)
    with pytest.raises(NotVisible):
        make(colleague, case)


def test_times_are_utc_and_the_language_is_the_one_chosen(officer: Actor, closed: Case) -> None:
    with translation.override("zh-hans"):
        text = text_of(make(officer, closed, language="en").content)
    assert "Case report" in text
    assert f"{closed.created.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" in text
