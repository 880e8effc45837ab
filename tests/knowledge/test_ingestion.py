"""From a file to what is found: by the worker's own code, with files that fail, workers that die, and others' turns."""

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, connections

from inference.registry.services import ensure_default_registry, ensure_default_route
from knowledge import bases, documents, selectors, uploads
from knowledge.ingestion import failures, queue, reading, tasks, work
from knowledge.models import Base, Chunk, Posting, State, Vector, Version
from knowledge.parsing import parsed
from knowledge.retrieval.search import Asked, search
from tenants import clock
from tenants.access import Actor
from tenants.scope import tenant_scope
from tests.conftest import Company

pytestmark = pytest.mark.django_db
LAW = "# Reporting\n\nBanks report large payments.\n\n## Records\n\nThey keep records for ten years.\n"


@pytest.fixture
def base(acme: Company) -> Base:
    with tenant_scope(acme.tenant.pk):
        return bases.make_base(actor=acme.actor(acme.curator), name="Rules")


def add(company: Company, base: Base, text: str | bytes = LAW, name: str = "law.md") -> Version:
    content = text.encode() if isinstance(text, str) else text
    with tenant_scope(company.tenant.pk):
        actor = company.actor(company.curator)
        return uploads.upload(actor=actor, base_id=base.pk, name=name, content=content, twice=True)


def again(version: Version) -> Version:
    """As it is now."""
    with tenant_scope(version.tenant_id):
        return Version.objects.get(pk=version.pk)


def found(company: Company, base: Base, words: str) -> list[str]:
    with tenant_scope(company.tenant.pk):
        return [each.text for each in search(company.actor(company.curator), [base], Asked(words))]


def in_state(version: Version) -> tuple[str, str]:
    now = again(version)
    return now.state, now.error_code


def test_a_file_becomes_passages_that_words_find(acme: Company, base: Base) -> None:
    version = add(acme, base)
    tasks.read_documents()
    now = again(version)
    assert (now.state, now.error_code, now.language, now.chunk_count) == ("ready", "", "en", 2)
    assert found(acme, base, "keep records")[0].strip().endswith("ten years.")
    with tenant_scope(acme.tenant.pk):
        text = selectors.text_of(now)
        assert text == LAW
        for chunk in Chunk.objects.filter(version=now).order_by("ordinal"):
            said = work.sealing.unseal(
                chunk.sealed, tenant_id=acme.tenant.pk, base_id=base.pk, row=chunk.pk, field="chunk"
            )
            assert said["text"] == text[chunk.start : chunk.end]
        assert said["headings"] == ["Reporting", "Records"]
        assert b"records" not in bytes(chunk.sealed)


def test_a_passage_of_a_pdf_has_its_page(acme: Company, base: Base) -> None:
    content = (Path(__file__).parent / "data" / "fincen-alert-2023.pdf").read_bytes()
    version = add(acme, base, content, "alert")
    tasks.read_documents()
    now = again(version)
    assert (now.state, now.media_type, now.page_count) == ("ready", "application/pdf", 9)
    with tenant_scope(acme.tenant.pk):
        (best, *_more) = search(
            acme.actor(acme.curator), [base], Asked("methodology of a pig butchering scam")
        )
        assert best.page_from == 2 and "Methodology of a Pig Butchering Scam" in best.headings
        assert [number for number, _start in selectors.pages_of(selectors.layout_of(now))] == list(
            range(1, 10)
        )


def test_each_refusal_has_words() -> None:
    assert failures.SENTENCES.keys() >= parsed.CODES


def test_one_that_fails_holds_up_no_other(acme: Company, base: Base) -> None:
    bad, empty, good = add(acme, base, b"\x00\x01", "x.txt"), add(acme, base, " \n", "e.txt"), add(acme, base)
    tasks.read_documents()
    assert in_state(bad) == ("failed", "unsupported")
    assert in_state(empty) == ("failed", "no_text")
    assert in_state(good) == ("ready", "")


def test_a_file_that_was_altered_is_not_read(acme: Company, base: Base) -> None:
    version = add(acme, base)
    with tenant_scope(acme.tenant.pk):
        piece = version.pieces.get()
        piece.sealed = bytes(piece.sealed)[:-1] + b"x"
        piece.save()
    tasks.read_documents()
    assert in_state(version) == ("failed", "lost")


def test_reading_anew_replaces_what_was_found(acme: Company, base: Base) -> None:
    version = add(acme, base)
    tasks.read_documents()
    with tenant_scope(acme.tenant.pk):
        before = set(Chunk.objects.values_list("pk", flat=True))
        documents.reindex_base(actor=acme.actor(acme.curator), base_id=base.pk)
    assert found(acme, base, "large payments"), "until it is done"
    tasks.read_documents()
    with tenant_scope(acme.tenant.pk):
        assert len(before) == Chunk.objects.count() and not before & set(
            Chunk.objects.values_list("pk", flat=True)
        )
    assert in_state(version) == ("ready", "")


# --- Workers that die, and work that is not wanted any more -------------------------------------------


def claimed(company: Company) -> queue.Claim:
    with tenant_scope(company.tenant.pk):
        claim = queue.claim(company.tenant.pk)
    assert claim is not None
    return claim


def expire(version: Version, **facts: Any) -> None:
    with tenant_scope(version.tenant_id):
        Version.objects.filter(pk=version.pk).update(due=clock.now() - timedelta(seconds=1), **facts)


def test_what_a_dead_worker_left_is_taken_up_by_another(acme: Company, base: Base) -> None:
    version = add(acme, base)
    dead = claimed(acme)
    with tenant_scope(acme.tenant.pk):
        queue.write(dead, state=State.PARSING)
        assert queue.claim(acme.tenant.pk) is None, "while its lease lasts"
    expire(version)
    tasks.read_documents()
    assert again(version).deaths == 1 and in_state(version) == ("ready", "")
    # It was not dead, only slow: what it writes now changes nothing.
    work.run(dead, until=time.monotonic() + 10)
    with tenant_scope(acme.tenant.pk), pytest.raises(queue.Overtaken):
        queue.write(dead, state=State.FAILED)
    assert in_state(version) == ("ready", "")


def test_a_file_that_kills_every_worker_is_given_up(acme: Company, base: Base) -> None:
    version = add(acme, base)
    for _death in range(queue.MOST_DEATHS + 1):
        expire(version, state=State.PARSING)
        claimed(acme)
    expire(version)
    tasks.read_documents()
    assert in_state(version) == ("failed", "died")
    with tenant_scope(acme.tenant.pk):
        documents.reindex(actor=acme.actor(acme.curator), version_id=version.pk)
    tasks.read_documents()
    assert in_state(version) == ("ready", "")


def test_what_is_cancelled_while_it_is_read_leaves_nothing(
    acme: Company, base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = add(acme, base)
    real = reading.read

    def read_and_cancel(*given: Any, is_ours: Callable[[], bool], **more: Any) -> reading.Read:
        assert is_ours()
        with tenant_scope(acme.tenant.pk):
            documents.cancel(actor=acme.actor(acme.curator), version_id=version.pk)
        assert not is_ours()
        return real(*given, is_ours=is_ours, **more)

    monkeypatch.setattr(reading, "read", read_and_cancel)
    tasks.read_documents()
    assert in_state(version) == ("cancelled", "")
    with tenant_scope(acme.tenant.pk):
        assert not Chunk.objects.exists() and not Posting.objects.exists()


def test_a_document_that_is_deleted_while_it_is_read_leaves_nothing(
    acme: Company, base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = add(acme, base)
    real = reading.read

    def read_and_delete(*given: Any, **more: Any) -> reading.Read:
        with tenant_scope(acme.tenant.pk):
            documents.delete_document(actor=acme.actor(acme.curator), document_id=version.document_id)
        return real(*given, **more)

    monkeypatch.setattr(reading, "read", read_and_delete)
    tasks.read_documents()
    with tenant_scope(acme.tenant.pk):
        assert not Version.objects.exists() and not Chunk.objects.exists()


# --- Embeddings ---------------------------------------------------------------------------------------


@pytest.fixture
def with_model(acme: Company, base: Base, settings: Any) -> Base:
    """The base compares by the packaged model, of a server that is away."""
    settings.INFERENCE_URL = "http://127.0.0.1:9"
    with tenant_scope(acme.tenant.pk):
        ensure_default_registry()
        ensure_default_route()
        actor = acme.actor(acme.curator)
        (name,) = bases.embedding_models(actor)
        return bases.change_base(actor=actor, base_id=base.pk, embedding_model=name)


def test_words_find_a_document_while_its_model_is_away(acme: Company, with_model: Base) -> None:
    version = add(acme, with_model)
    tasks.read_documents()
    assert in_state(version) == ("indexing", "embedding_unavailable")
    assert found(acme, with_model, "large payments")
    with tenant_scope(acme.tenant.pk):
        chunks = set(Chunk.objects.values_list("pk", flat=True))
        assert queue.claim(acme.tenant.pk) is None, "not at once again"
    # The base goes back to words: what waited is ready, without being read again.
    with tenant_scope(acme.tenant.pk):
        bases.change_base(actor=acme.actor(acme.curator), base_id=with_model.pk, embedding_model="")
    expire(version)
    tasks.read_documents()
    assert in_state(version) == ("ready", "")
    with tenant_scope(acme.tenant.pk):
        assert set(Chunk.objects.values_list("pk", flat=True)) == chunks


def test_what_is_embedded_already_is_not_embedded_again(
    acme: Company, with_model: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def embed(tenant_id: Any, texts: list[str], *, model: Any) -> list[list[float]]:
        asked.append(len(texts))
        if len(asked) == 2:
            raise work.vectors.EmbeddingUnavailable("away")
        return [[1.0] + [0.0] * 383 for _text in texts]

    monkeypatch.setattr(work.vectors, "embed", embed)
    version = add(acme, with_model, "".join(f"# Title {n}\n\nBanks report.\n\n" for n in range(40)))
    tasks.read_documents()
    now = again(version)
    assert (now.state, now.done, now.total) == ("indexing", 32, 40)
    expire(version)
    tasks.read_documents()
    assert in_state(version) == ("ready", "") and asked == [32, 8, 8]
    with tenant_scope(acme.tenant.pk):
        assert Vector.objects.filter(version=version).count() == 40
        bases.change_base(actor=acme.actor(acme.curator), base_id=with_model.pk, embedding_model="")


# --- Turns --------------------------------------------------------------------------------------------


def test_a_large_import_starves_neither_other_bases_nor_other_tenants(
    acme: Company, north: Company, base: Base
) -> None:
    for number in range(5):
        add(acme, base, f"Rule {number}")
    with tenant_scope(acme.tenant.pk):
        small = bases.make_base(actor=acme.actor(acme.curator), name="Small")
    with tenant_scope(north.tenant.pk):
        theirs = bases.make_base(actor=north.actor(north.curator), name="North")
    late = [add(acme, small), add(north, theirs), add(north, theirs)]
    order = []
    while (claim := work.next_claim()) is not None:
        order.append(claim.version_id)
        work.run(claim, until=time.monotonic() + 10)
    assert len(order) == 8
    assert {version.pk for version in late} <= set(order[:5])


@pytest.mark.django_db(transaction=True)
def test_no_more_workers_than_there_are_places_for_work_at_once(acme: Company, base: Base) -> None:
    add(acme, base)
    done = []

    def elsewhere() -> None:
        try:
            done.append(work.run_a_while())
        finally:
            connections.close_all()

    with connection.cursor() as cursor:
        for number in range(work.AT_ONCE):
            cursor.execute("SELECT pg_advisory_lock(%s)", [work._LOCK + number])
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        cursor.execute("SELECT pg_advisory_unlock_all()")
    assert done == [0] and work.run_a_while() == 1


def test_uploads_that_nobody_goes_on_with_are_forgotten(acme: Company, base: Base) -> None:
    with tenant_scope(acme.tenant.pk):
        actor: Actor = acme.actor(acme.curator)
        old, new = (uploads.begin(actor=actor, base_id=base.pk, name="a", size=1) for _ in range(2))
        uploads.Upload.objects.filter(pk=old.pk).update(touched=clock.now() - timedelta(days=2))
    tasks.forget_uploads()
    with tenant_scope(acme.tenant.pk):
        assert [each.pk for each in uploads.Upload.objects.all()] == [new.pk]
