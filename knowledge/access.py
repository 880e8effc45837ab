"""The only way to a base or a document. What is missing and what is forbidden look the same.

All functions need the actor's tenant scope. Of a base, viewers ask, editors fill, owners share and delete. A document is
its base's, unless it is restricted: then it is read by whom it was granted to, of those who may ask the base, and nobody
else learns that there is one.
"""

from __future__ import annotations

from uuid import UUID

from django.db.models import Q, QuerySet

from knowledge.models import BASES, DOCUMENTS, Base, Document
from tenants import access
from tenants.access import Actor, Level, Need, NotVisible

VIEW, CHANGE, DELETE = (BASES.permission(level) for level in (Level.VIEWER, Level.EDITOR, Level.OWNER))
READ, EDIT, OWN = (DOCUMENTS.permission(level) for level in (Level.VIEWER, Level.EDITOR, Level.OWNER))


def visible_bases(actor: Actor, permission: str = VIEW) -> QuerySet[Base]:
    """Those the actor may ask (or do that with), the last changed first."""
    return access.visible_objects(actor, _bases(actor), permission).order_by("-updated", "-pk")


def access_base(actor: Actor, base_id: UUID, permission: str = VIEW) -> Base:
    """The base, if the actor may do that with it. Raises NotVisible."""
    return access.access_object(actor, _bases(actor), permission, pk=base_id)


def visible_documents(actor: Actor, bases: QuerySet[Base] | list[UUID] | None = None) -> QuerySet[Document]:
    """Those the actor may read, of these bases (of all that they may ask)."""
    mine = visible_bases(actor).order_by()
    found = Document.objects.filter(tenant_id=actor.tenant_id, base__in=mine.values("pk"))
    if bases is not None:
        found = found.filter(base__in=bases)
    return found.filter(Q(is_restricted=False) | Q(pk__in=_granted(actor, READ).values("pk")))


def access_document(actor: Actor, document_id: UUID, permission: str = READ) -> Document:
    """The document, if the actor may read it (or do that with it). Raises NotVisible.

    Who may fill the base may change the documents that they may read; who owns it may delete and restrict them. Of a
    restricted one, grants on the document itself may allow more.
    """
    document = visible_documents(actor).filter(pk=document_id).select_related("base").first()
    if document is None:
        raise NotVisible(permission)
    if permission != READ and not _may(actor, document, permission):
        raise NotVisible(permission)
    return document


def need(base_id: UUID) -> Need:
    """What an answer from a base depends on, while it lasts."""
    return Need(Base, base_id, VIEW)


def _may(actor: Actor, document: Document, permission: str) -> bool:
    of_base = {EDIT: CHANGE, OWN: DELETE}[permission]
    return (
        visible_bases(actor, of_base).filter(pk=document.base_id).exists()
        or _granted(actor, permission).filter(pk=document.pk).exists()
    )


def _granted(actor: Actor, permission: str) -> QuerySet[Document]:
    return access.visible_objects(
        actor, Document.objects.filter(tenant_id=actor.tenant_id), permission
    ).order_by()


def _bases(actor: Actor) -> QuerySet[Base]:
    return Base.objects.filter(tenant_id=actor.tenant_id)
