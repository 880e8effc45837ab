"""What is read of bases and documents, by whoever may. Inside the tenant's scope; raises NotVisible.

Counts, filters and words are of what the actor may read alone, so a restricted document is not even counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db.models import Count, OuterRef, Q, QuerySet, Subquery

from knowledge import access, bases, documents, sealing
from knowledge.models import Base, Document, Folder, State, Version
from tenants.access import Actor

MOST_SEARCHED = 20_000  # Documents whose names are opened to be compared with words.


@dataclass(frozen=True, slots=True)
class ListedBase:
    """A base in a list; counts: documents by the state of their newest version."""

    base: Base
    name: str
    description: str
    counts: dict[str, int]

    @property
    def documents(self) -> int:
        return sum(self.counts.values())

    @property
    def ready(self) -> int:
        return self.counts.get(State.READY, 0)

    @property
    def failed(self) -> int:
        return self.counts.get(State.FAILED, 0)

    @property
    def at_work(self) -> int:
        return sum(self.counts.get(state, 0) for state in (State.WAITING, State.PARSING, State.INDEXING))


@dataclass(frozen=True, slots=True)
class ListedDocument:
    """A document in a list with its newest version."""

    document: Document
    name: str
    tags: list[str]
    version: Version


@dataclass(frozen=True, slots=True)
class Place:
    """A folder with its name and those that it stands in, the outermost first."""

    folder: Folder
    name: str
    path: tuple[str, ...] = field(default=())

    @property
    def label(self) -> str:
        return " / ".join((*self.path, self.name))


def bases_of(actor: Actor, words: Sequence[str] = ()) -> list[ListedBase]:
    """Those that the actor may ask, the last changed first."""
    found = list(access.visible_bases(actor).select_related("owner"))
    counts = _counts(actor, found)
    listed = [_listed(base, counts.get(base.pk, {})) for base in found]
    return [each for each in listed if _has(words, each.name, each.description)]


def one_base(actor: Actor, base_id: UUID, permission: str = access.VIEW) -> ListedBase:
    base = access.access_base(actor, base_id, permission)
    return _listed(base, _counts(actor, [base]).get(base.pk, {}))


def may(actor: Actor, base: Base, permission: str) -> bool:
    return access.visible_bases(actor, permission).filter(pk=base.pk).exists()


def documents_in(actor: Actor, base: Base) -> QuerySet[Document]:
    """Those of the base that the actor may read, each with `state`, `size` and `number` of its newest version."""
    newest = Version.objects.filter(document=OuterRef("pk")).order_by("-number")
    columns: dict[str, Any] = {
        name: Subquery(newest.values(name)[:1]) for name in ("state", "size", "number", "media_type")
    }
    columns["version_id"] = Subquery(newest.values("pk")[:1])
    return access.visible_documents(actor, [base.pk]).annotate(**columns).order_by("-updated", "-pk")


def in_state(found: QuerySet[Document], state: str) -> QuerySet[Document]:
    """Those of `documents_in` whose newest version is in this state."""
    return found.alias(is_wanted=Q(state=state)).filter(is_wanted=True)


def listed(found: Sequence[Document]) -> list[ListedDocument]:
    """Documents of `documents_in`, opened."""
    ids = [document.version_id for document in found]  # type: ignore[attr-defined]
    versions = Version.objects.defer("sealed_text", "sealed_layout", "lengths").in_bulk(ids)
    return [
        ListedDocument(
            document,
            documents.name_of(document),
            documents.tags_of(document),
            versions[document.version_id],  # type: ignore[attr-defined]
        )
        for document in found
        if document.version_id in versions  # type: ignore[attr-defined]
    ]


def matching(found: QuerySet[Document], words: Sequence[str] = (), tag: str = "") -> list[UUID]:
    """The ids of those whose name or tags have all the words, and the tag."""
    ids = []
    for document in found[:MOST_SEARCHED]:
        name, tags = documents.name_of(document), documents.tags_of(document)
        if _has(words, name, *tags) and (not tag or tag in tags):
            ids.append(document.pk)
    return ids


def by_name(found: QuerySet[Document], *, reverse: bool = False) -> list[Document]:
    """In the order of their names, which the database cannot read."""
    return sorted(found[:MOST_SEARCHED], key=lambda each: documents.name_of(each).casefold(), reverse=reverse)


def versions_of(document: Document) -> list[Version]:
    """The newest first, without their texts."""
    found = Version.objects.filter(document=document).defer("sealed_text", "sealed_layout", "lengths")
    return list(found.select_related("created_by").order_by("-number"))


def text_of(version: Version) -> str:
    """The whole text that passages index into; "" until it was read. Raises envelope.Tampered, envelope.KeyDestroyed."""
    return _unsealed(version, "text") or ""


def layout_of(version: Version) -> dict[str, Any]:
    """{"blocks", "pages", "title", "warnings"} of a version; {} until it was read."""
    return _unsealed(version, "layout") or {}


def pages_of(layout: dict[str, Any]) -> list[tuple[int, int]]:
    """(number, the character with which it begins) of each page, in order."""
    return [(page["number"], page["start"]) for page in layout.get("pages", [])]


def folders_of(base: Base) -> list[Place]:
    """All folders of a base, each before those that stand in it, by name."""
    below: dict[UUID | None, list[tuple[str, Folder]]] = {}
    for folder in Folder.objects.filter(base=base):
        below.setdefault(folder.parent_id, []).append((bases.name_of_folder(folder), folder))
    found: list[Place] = []

    def walk(parent: UUID | None, path: tuple[str, ...]) -> None:
        for name, folder in sorted(below.get(parent, []), key=lambda each: each[0].casefold()):
            found.append(Place(folder, name, path))
            walk(folder.pk, (*path, name))

    walk(None, ())
    return found


def _counts(actor: Actor, found: Sequence[Base]) -> dict[UUID, dict[str, int]]:
    """By base and state of the newest version, of what the actor may read."""
    readable = access.visible_documents(actor, [base.pk for base in found])
    counts: dict[UUID, dict[str, int]] = {}
    for base_id, state, count in _by_state(readable):
        counts.setdefault(base_id, {})[state] = count
    return counts


def _by_state(readable: QuerySet[Document]) -> list[tuple[UUID, str, int]]:
    newest = Version.objects.filter(document=OuterRef("pk")).order_by("-number").values("state")[:1]
    rows = readable.annotate(state=Subquery(newest)).order_by().values_list("base_id", "state")
    return list(rows.annotate(count=Count("pk")))


def _listed(base: Base, counts: dict[str, int]) -> ListedBase:
    return ListedBase(base, sealing.name_of(base), bases.description_of(base), counts)


def _has(words: Sequence[str], *texts: str) -> bool:
    said = " ".join(texts).casefold()
    return all(word.casefold() in said for word in words)


def _unsealed(version: Version, name: str) -> Any:
    sealed = Version.objects.filter(pk=version.pk).values_list(f"sealed_{name}", flat=True).first()
    place: dict[str, Any] = {"tenant_id": version.tenant_id, "base_id": version.base_id}
    return sealing.unseal(sealed or b"", row=version.pk, field=name, **place)
