"""Bases and documents made straight into the tables, for what is read and asked of them."""

from __future__ import annotations

import datetime
from typing import Any

from knowledge import sealing
from knowledge.models import Base, Chunk, Document, State, Version
from knowledge.retrieval import index
from tenants import access
from tenants.access import Level
from tenants.models import User
from tenants.scope import tenant_scope
from tests.conftest import Company


def make_base(company: Company, owner: User | None = None, *, name: str = "Rules", **fields: Any) -> Base:
    owner = owner or company.curator
    with tenant_scope(company.tenant.pk):
        base = Base(tenant=company.tenant, owner=owner, **fields)
        base.sealed_name = sealing.seal(
            name, tenant_id=company.tenant.pk, base_id=base.pk, row=base.pk, field="name"
        )
        base.save(force_insert=True)
        access.put_grant(base, owner, Level.OWNER)
    return base


def make_document(
    base: Base,
    passages: list[str],
    *,
    name: str = "Text",
    of: Document | None = None,
    valid_from: datetime.date | None = None,
    valid_until: datetime.date | None = None,
    language: str = "en",
    **fields: Any,
) -> Document:
    """A document whose text is these passages, indexed by words; a further version of it with `of`."""
    place: dict[str, Any] = {"tenant_id": base.tenant_id, "base_id": base.pk}
    with tenant_scope(base.tenant_id):
        document = of
        if document is None:
            document = Document(tenant_id=base.tenant_id, base=base, owner=base.owner, **fields)
            document.sealed_name = sealing.seal(name, row=document.pk, field="name", **place)
            document.save(force_insert=True)
            if document.is_restricted:
                access.put_grant(document, base.owner, Level.OWNER)
        text = "\n\n".join(passages)
        version = Version(
            tenant_id=base.tenant_id,
            base=base,
            document=document,
            number=document.versions.count() + 1,
            size=len(text),
            digest=sealing.digest_of(base, text.encode()),
            valid_from=valid_from,
            valid_until=valid_until,
            state=State.READY,
            chunk_count=len(passages),
            characters=len(text),
            language=language,
        )
        version.sealed_file_name = sealing.seal(f"{name}.txt", row=version.pk, field="file_name", **place)
        version.sealed_text = sealing.seal(text, row=version.pk, field="text", **place)
        version.save(force_insert=True)
        chunks, start = [], 0
        for ordinal, passage in enumerate(passages):
            chunk = Chunk(
                tenant_id=base.tenant_id,
                version=version,
                ordinal=ordinal,
                start=start,
                end=start + len(passage),
                language=language,
            )
            content = {"text": passage, "headings": []}
            chunk.sealed = sealing.seal(content, row=chunk.pk, field="chunk", **place)
            chunks.append((chunk, passage))
            start += len(passage) + 2
        Chunk.objects.bulk_create(chunk for chunk, _text in chunks)
        index.add(version, chunks)
        version.save(update_fields=["lengths"])
    return document
