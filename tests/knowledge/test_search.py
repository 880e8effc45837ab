"""What is found, and by whom."""

from __future__ import annotations

import datetime
import math
from collections import Counter

import pytest
from django.db import connection

from knowledge.models import Base, Posting, Version
from knowledge.retrieval import index, lexical
from knowledge.retrieval.readable import readable
from knowledge.retrieval.search import Asked, Passage, search
from knowledge.retrieval.terms import asked_terms, terms_of
from tenants import access
from tenants.access import Level
from tenants.models import User
from tenants.scope import tenant_scope
from tests.conftest import Company
from tests.support.knowledge import make_base, make_document

pytestmark = pytest.mark.django_db(transaction=True)

TEXTS = [
    "A bank keeps records of a customer's identity for ten years.",
    "Suspicious transactions are reported to the analysis centre within five days.",
    "金融机构应当保存客户身份资料和交易记录至少十年。",
    "Branches report monthly figures of cash transactions above fifty thousand.",
]


def found(company: Company, user: User, base: Base, text: str, **given: object) -> list[Passage]:
    actor = company.actor(user)
    with tenant_scope(actor.tenant_id):
        return search(actor, [base], Asked(text, **given))  # type: ignore[arg-type]


def test_the_passage_that_says_it_comes_first(acme: Company) -> None:
    base = make_base(acme)
    make_document(base, TEXTS, name="Handbook")
    first = found(acme, acme.curator, base, "Who gets reports of a suspicious transaction?")[0]
    assert (first.text, first.document, first.ordinal) == (TEXTS[1], "Handbook", 1)
    assert first.scores.words_rank == 1


def test_chinese_is_found_by_its_words(acme: Company) -> None:
    base = make_base(acme)
    make_document(base, TEXTS)
    assert found(acme, acme.curator, base, "客户资料要保存多少年？")[0].text == TEXTS[2]


def test_scores_are_bm25(acme: Company) -> None:
    """Against the formula, worked out over the texts of two documents and two bases."""
    bases = [make_base(acme), make_base(acme, name="More")]
    make_document(bases[0], TEXTS[:2])
    make_document(bases[0], TEXTS[2:])
    make_document(bases[1], ["Transactions of five days are reported."])
    texts = [*TEXTS, "Transactions of five days are reported."]
    query = "report transactions within five days"
    actor = acme.actor(acme.curator)
    with tenant_scope(actor.tenant_id):
        got = lexical.search(actor.tenant_id, readable(actor, bases), query, most=10)
    expected = sorted((score for score in _bm25(texts, query) if score), reverse=True)
    assert [hit.score for hit in got] == pytest.approx(expected, rel=1e-5)


def _bm25(texts: list[str], query: str) -> list[float]:
    counts: list[Counter[str]] = [terms_of(text) for text in texts]
    mean = sum(each.total() for each in counts) / len(counts)
    scores = []
    for each in counts:
        score = 0.0
        for term in asked_terms(query):
            having = sum(term in other for other in counts)
            rarity = math.log(1 + (len(texts) - having + 0.5) / (having + 0.5))
            burden = 1 - lexical.B + lexical.B * each.total() / mean
            score += rarity * each[term] * (lexical.K1 + 1) / (each[term] + lexical.K1 * burden)
        scores.append(score)
    return scores


def test_what_may_not_be_read_is_not_found_and_changes_nothing(acme: Company) -> None:
    base = make_base(acme)
    make_document(base, TEXTS)
    with tenant_scope(acme.tenant.pk):
        access.put_grant(base, acme.member, Level.VIEWER)
    before = found(acme, acme.member, base, "suspicious transactions")
    secret = make_document(base, ["Suspicious transactions of Mr Canary."] * 5, is_restricted=True)
    after = found(acme, acme.member, base, "suspicious transactions")
    assert [(each.text, each.scores) for each in after] == [(each.text, each.scores) for each in before]
    assert "Canary" in found(acme, acme.curator, base, "suspicious transactions of Canary")[0].text
    with tenant_scope(acme.tenant.pk):
        access.put_grant(secret, acme.member, Level.VIEWER)
    assert "Canary" in found(acme, acme.member, base, "Canary")[0].text


def test_a_base_that_was_not_shared_gives_nothing(acme: Company) -> None:
    base = make_base(acme)
    make_document(base, TEXTS)
    assert found(acme, acme.member, base, "suspicious transactions") == []


def test_another_tenant_finds_nothing_even_when_handed_the_base(acme: Company, north: Company) -> None:
    base = make_base(acme)
    make_document(base, TEXTS)
    assert found(north, north.curator, base, "suspicious transactions") == []


def test_the_version_of_the_day_answers(acme: Company) -> None:
    base = make_base(acme)
    turn = datetime.date(2025, 1, 1)
    law = make_document(base, ["Records are kept for five years."], name="Law", valid_until=turn)
    make_document(base, ["Records are kept for ten years."], of=law, valid_from=turn)
    now, then = (
        found(acme, acme.curator, base, "How long are records kept?", at=day)
        for day in (None, datetime.date(2024, 12, 31))
    )
    assert [(each.text, each.is_superseded) for each in now] == [("Records are kept for ten years.", False)]
    assert [(each.text, each.is_superseded) for each in then] == [("Records are kept for five years.", True)]


def test_the_last_version_answers_among_those_that_hold(acme: Company) -> None:
    base = make_base(acme)
    law = make_document(base, ["Records are kept for five years."])
    make_document(base, ["Records are kept for ten years."], of=law)
    assert [each.version for each in found(acme, acme.curator, base, "records kept")] == [2]


def test_indexing_again_replaces_and_removing_forgets(acme: Company) -> None:
    base = make_base(acme)
    document = make_document(base, TEXTS)
    with tenant_scope(acme.tenant.pk):
        version = document.versions.get()
        before = Posting.objects.filter(version=version).count()
        chunks = [(chunk, TEXTS[chunk.ordinal]) for chunk in version.chunks.all()]
        index.add(version, chunks)
        assert Posting.objects.filter(version=version).count() == before
        index.remove(version)
        version.save()
        assert not Posting.objects.filter(version=version).exists()
    assert found(acme, acme.curator, base, "suspicious") == []


def test_the_index_holds_no_word(acme: Company) -> None:
    base = make_base(acme)
    make_document(base, ["The canaryword sings."])
    with tenant_scope(acme.tenant.pk), connection.cursor() as cursor:
        for table in ("knowledge_posting", "knowledge_chunk", "knowledge_version", "knowledge_document"):
            cursor.execute(f"SELECT t::text FROM {table} t")
            rows = "".join(row[0] for row in cursor.fetchall())
            assert rows and "canaryword" not in rows and b"canaryword".hex() not in rows


def test_a_question_of_nothing_finds_nothing(acme: Company) -> None:
    base = make_base(acme)
    make_document(base, TEXTS)
    assert found(acme, acme.curator, base, "?!") == []
    with tenant_scope(acme.tenant.pk):
        assert Version.objects.count() == 1
