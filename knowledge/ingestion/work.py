"""The work on one version: read its file, cut it, index its words, embed its passages.

A step is written when it is done and only while the version is still this worker's, so a death costs one step, and a
cancellation stops the next one. Words find a document as soon as they are indexed, before and without its embeddings.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import connection

from knowledge import parsing, sealing, uploads
from knowledge.ingestion import queue, reading
from knowledge.ingestion.queue import Claim, Overtaken
from knowledge.models import Base, Chunk, State, Vector, Version
from knowledge.retrieval import index, vectors
from tenants import clock
from tenants.envelope import KeyDestroyed, Tampered
from tenants.ids import uuid7
from tenants.models import Tenant
from tenants.scope import tenant_scope

logger = logging.getLogger(__name__)

A_WHILE_S = 20.0
AT_ONCE = 2  # Workers of the whole installation, that other work goes on beside them.
TRY_AGAIN = timedelta(seconds=30)
_LOCK = 0x646F6373  # The first of AT_ONCE numbers, the same for all workers.
_INSERT_AT_ONCE = 500


def run_a_while(seconds: float = A_WHILE_S) -> int:
    """Work on what waits, turn by turn, until nothing does or the time is over; how many turns. 0 where others do it."""
    turns, until = 0, time.monotonic() + seconds
    with _slot() as is_ours:
        while is_ours and time.monotonic() < until and (claim := next_claim()) is not None:
            run(claim, until=until)
            turns += 1
    return turns


def next_claim() -> Claim | None:
    """Of the tenant that was served longest ago; see `queue.claim` for which of its versions."""
    served: list[tuple[Any, UUID]] = []
    now = clock.now()
    for tenant_id in Tenant.objects.filter(status=Tenant.Status.ACTIVE).values_list("pk", flat=True):
        with tenant_scope(tenant_id):
            if queue.waiting(now).exists():
                last = queue.last_served()
                served.append((last.timestamp() if last else 0.0, tenant_id))
    for _last, tenant_id in sorted(served):
        with tenant_scope(tenant_id):
            claim = queue.claim(tenant_id)
        if claim is not None:
            return claim
    return None


def run(claim: Claim, *, until: float) -> None:
    """Work on a claimed version; how it ended is in its row. until: of time.monotonic, for what can be gone on with."""
    try:
        with tenant_scope(claim.tenant_id):
            version = queue.mine(claim).defer("sealed_text", "sealed_layout").first()
        if version is None:
            return
        if version.deaths > queue.MOST_DEATHS:
            raise reading.Unreadable("died")
        if version.state != State.INDEXING:
            _read(claim, version)
        _embed(claim, until)
    except (Overtaken, parsing.Stopped):
        return
    except reading.Unreadable as error:
        _end(claim, State.FAILED, error.code)
    except (Tampered, KeyDestroyed):
        _end(claim, State.FAILED, "lost")
    except Exception:
        logger.exception("reading the version %s failed", claim.version_id)
        _end(claim, State.FAILED, "unexpected")


def drop_abandoned() -> None:
    for tenant_id in Tenant.objects.values_list("pk", flat=True):
        with tenant_scope(tenant_id):
            uploads.drop_abandoned()


@contextmanager
def _slot() -> Iterator[bool]:
    """Whether one of the places for this work is ours until the end."""
    with connection.cursor() as cursor:
        for number in range(_LOCK, _LOCK + AT_ONCE):
            cursor.execute("SELECT pg_try_advisory_lock(%s)", [number])
            if cursor.fetchone()[0]:
                break
        else:
            yield False
            return
    try:
        yield True
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [number])


# --- Read, cut, index ---------------------------------------------------------------------------------


def _read(claim: Claim, version: Version) -> None:
    with tenant_scope(claim.tenant_id):
        queue.write(claim, state=State.PARSING, done=0, total=0, error_code="")
    with tenant_scope(claim.tenant_id):
        name, content = uploads.file_name_of(version), b"".join(uploads.content_of(version))
    found = reading.read(content, name, is_ours=lambda: _go_on(claim))
    if len(found.passages) > index.MOST_CHUNKS:
        raise reading.Unreadable("too_many_passages")
    with tenant_scope(claim.tenant_id):
        facts = _store(version, found)
        # At the end: until then the row is not locked, so that a cancellation need not wait for all of this.
        queue.write(claim, state=State.INDEXING, done=0, total=len(found.passages), **facts)


def _store(version: Version, found: reading.Read) -> dict[str, Any]:
    """Passages and words, in place of what was found before; what is to be written of the version."""
    Chunk.objects.filter(version=version).delete()
    place: dict[str, Any] = {"tenant_id": version.tenant_id, "base_id": version.base_id}
    chunks = [_chunk(version, ordinal, each, place) for ordinal, each in enumerate(found.passages)]
    Chunk.objects.bulk_create(chunks, batch_size=_INSERT_AT_ONCE)
    texts = [each.searched for each in found.passages]
    index.add(version, list(zip(chunks, texts, strict=True)))
    return {
        "sealed_text": sealing.seal(found.text, row=version.pk, field="text", **place),
        "sealed_layout": sealing.seal(found.layout, row=version.pk, field="layout", **place),
        "lengths": version.lengths,
        "media_type": found.media_type or version.media_type,
        "language": found.language,
        "characters": len(found.text),
        "chunk_count": len(chunks),
        "page_count": found.page_count,
    }


def _chunk(version: Version, ordinal: int, passage: reading.Passage, place: dict[str, Any]) -> Chunk:
    key = uuid7()
    said = {"text": passage.text, "headings": list(passage.headings)}
    return Chunk(
        pk=key,
        tenant_id=version.tenant_id,
        version=version,
        ordinal=ordinal,
        start=passage.start,
        end=passage.end,
        page_from=passage.page_from,
        page_to=passage.page_to,
        language=passage.language,
        sealed=sealing.seal(said, row=key, field="chunk", **place),
    )


def _go_on(claim: Claim) -> bool:
    """Whether the version is still ours; renews the lease."""
    try:
        with tenant_scope(claim.tenant_id):
            queue.write(claim)
    except Overtaken:
        return False
    return True


# --- Embed --------------------------------------------------------------------------------------------


def _embed(claim: Claim, until: float) -> None:
    """Embed what has no vector of the base's model yet, for as long as there is time; then the version is ready."""
    try:
        with tenant_scope(claim.tenant_id):
            base = Base.objects.get(pk=claim.base_id)
            model = vectors.model_of(base)
        if model is not None and not _embed_all(claim, model, until):
            return
    except vectors.EmbeddingUnavailable:
        _end(claim, State.INDEXING, "embedding_unavailable", due=clock.now() + TRY_AGAIN)
    else:
        _end(claim, State.READY)


def _embed_all(claim: Claim, model: vectors.Model, until: float) -> bool:
    """Whether it came to the end; else the version waits for its next turn."""
    left = _without_vector(claim, model)
    for start in range(0, len(left), vectors.BATCH):
        if time.monotonic() >= until:
            with tenant_scope(claim.tenant_id):
                queue.write(claim, due=clock.now())
            return False
        _embed_batch(claim, left[start : start + vectors.BATCH], model)
    return True


def _without_vector(claim: Claim, model: vectors.Model) -> list[UUID]:
    """The passages that are to be embedded yet, in order."""
    with tenant_scope(claim.tenant_id):
        have = Vector.objects.filter(version_id=claim.version_id, model=model.label).values("chunk_id")
        chunks = Chunk.objects.filter(version_id=claim.version_id).exclude(pk__in=have).order_by("ordinal")
        return [pk for pk, language in chunks.values_list("pk", "language") if model.reads(language)]


def _embed_batch(claim: Claim, chunk_ids: Sequence[UUID], model: vectors.Model) -> None:
    place: dict[str, Any] = {"tenant_id": claim.tenant_id, "base_id": claim.base_id}
    with tenant_scope(claim.tenant_id):
        queue.write(claim, error_code="")
        chunks = list(Chunk.objects.filter(pk__in=chunk_ids).order_by("ordinal"))
        said = [sealing.unseal(each.sealed, row=each.pk, field="chunk", **place) for each in chunks]
    texts = [reading.searched(each["headings"], each["text"]) for each in said]
    found = vectors.embed(claim.tenant_id, texts, model=model)
    with tenant_scope(claim.tenant_id):
        queue.write(claim)
        version = Version.objects.only("base_id", "chunk_count", "tenant_id").get(pk=claim.version_id)
        vectors.store(version, chunks, found, model=model)
        done = Vector.objects.filter(version=version, model=model.label).count()
        queue.write(claim, done=done, total=version.chunk_count)


def _end(claim: Claim, state: State, error_code: str = "", **facts: Any) -> None:
    try:
        with tenant_scope(claim.tenant_id):
            queue.write(claim, state=state, error_code=error_code, **facts)
    except Overtaken:
        return
