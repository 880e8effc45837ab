"""Bases, folders, documents and versions: what changes, what is recorded of it, and who may."""

import datetime
from dataclasses import replace
from typing import Any

import pytest

from audit.models import AuditRecord
from knowledge import access, bases, documents, selectors, uploads
from knowledge.models import Base, Document, Folder, Piece, State, Upload, Version
from tenants.access import Actor, Level, NotVisible, put_grant
from tenants.errors import Refused
from tests.conftest import Company
from tests.knowledge.conftest import add

pytestmark = pytest.mark.django_db
DAY = datetime.date


def kinds() -> list[str]:
    """Of the records, in order."""
    found = AuditRecord.objects.filter(kind__startswith="knowledge.").order_by("pk")
    return [kind.removeprefix("knowledge.") for kind in found.values_list("kind", flat=True)]


def names(actor: Actor) -> list[str]:
    return [documents.name_of(each) for each in access.visible_documents(actor)]


# --- Bases --------------------------------------------------------------------------------------------


def test_a_curator_makes_a_base_that_nobody_else_reaches_until_it_is_shared(
    inside: Company, curator: Actor, member: Actor
) -> None:
    base = bases.make_base(actor=curator, name="  Our   rules ", description="All of them")
    assert selectors.bases_of(curator)[0].name == "Our rules"
    assert not selectors.bases_of(member)
    put_grant(base, inside.member, Level.VIEWER)
    assert [each.description for each in selectors.bases_of(member)] == ["All of them"]
    assert b"rules" not in bytes(Base.objects.get().sealed_name)
    assert kinds() == ["base_created"]


def test_who_may_not_make_bases_finds_nothing(inside: Company, member: Actor) -> None:
    with pytest.raises(NotVisible):
        bases.make_base(actor=member, name="Mine")
    assert not Base.objects.exists()


def test_owners_alone_change_and_delete_a_base(inside: Company, base: Base, curator: Actor) -> None:
    editor = inside.actor(inside.operator)
    put_grant(base, inside.operator, Level.EDITOR)
    with pytest.raises(NotVisible):
        bases.change_base(actor=editor, base_id=base.pk, name="Theirs")
    with pytest.raises(NotVisible):
        bases.delete_base(actor=editor, base_id=base.pk)
    bases.change_base(actor=curator, base_id=base.pk, name="Laws", options={"passages": 3})
    bases.change_base(actor=curator, base_id=base.pk, name="Laws")  # Nothing new, so nothing is recorded.
    assert (selectors.bases_of(editor)[0].name, Base.objects.get().options["passages"]) == ("Laws", 3)
    bases.delete_base(actor=curator, base_id=base.pk)
    assert not Base.objects.exists()
    assert kinds() == ["base_created", "base_changed", "base_deleted"]


def test_an_unknown_model_and_a_number_out_of_bounds_are_refused(base: Base, curator: Actor) -> None:
    for changes, field in (
        ({"embedding_model": "nowhere"}, "embedding_model"),
        ({"options": {"passages": 999}}, "passages"),
        ({"name": " "}, "name"),
    ):
        with pytest.raises(Refused) as refused:
            bases.change_base(actor=curator, base_id=base.pk, **changes)  # type: ignore[arg-type]
        assert refused.value.field == field


def test_folders_stand_in_one_another_and_lose_nothing_when_they_go(base: Base, curator: Actor) -> None:
    at: dict[str, Any] = {"actor": curator, "base_id": base.pk}
    laws = bases.make_folder(**at, name="Laws")
    old = bases.make_folder(**at, name="Old", parent_id=laws.pk)
    document = add(curator, base.pk)
    documents.change_document(actor=curator, document_id=document.pk, folder_id=old.pk)
    assert [place.label for place in selectors.folders_of(base)] == ["Laws", "Laws / Old"]
    with pytest.raises(Refused, match="itself"):
        bases.change_folder(**at, folder_id=laws.pk, parent_id=old.pk)
    with pytest.raises(Refused, match="already"):
        bases.make_folder(**at, name="Laws")
    bases.delete_folder(**at, folder_id=old.pk)
    document.refresh_from_db()
    assert document.folder == laws
    bases.delete_folder(**at, folder_id=laws.pk)
    assert not Folder.objects.exists()
    assert Document.objects.get().folder is None


def test_a_folder_of_another_base_is_none_of_this_one(base: Base, curator: Actor) -> None:
    other = bases.make_base(actor=curator, name="Other")
    folder = bases.make_folder(actor=curator, base_id=other.pk, name="There")
    document = add(curator, base.pk)
    with pytest.raises(NotVisible):
        documents.change_document(actor=curator, document_id=document.pk, folder_id=folder.pk)
    with pytest.raises(NotVisible):
        uploads.upload(actor=curator, base_id=base.pk, name="a", content=b"a", folder_id=folder.pk)


# --- Files --------------------------------------------------------------------------------------------


def test_a_file_is_kept_sealed_in_pieces_and_comes_back_as_it_was(base: Base, curator: Actor) -> None:
    content = bytes(range(256)) * 10_000  # 2.56 MB.
    version = uploads.upload(actor=curator, base_id=base.pk, name="a/b/Figures.bin", content=content)
    assert Piece.objects.count() == 3
    assert b"".join(uploads.content_of(version)) == content
    assert (uploads.file_name_of(version), documents.name_of(version.document)) == ("Figures.bin",) * 2
    assert all(bytes(range(256)) not in bytes(piece.sealed) for piece in Piece.objects.all())
    assert (version.number, version.state, version.size) == (1, State.WAITING, len(content))


def test_whoever_takes_a_file_is_recorded_and_what_was_altered_is_not_given_out(
    base: Base, curator: Actor, member: Actor
) -> None:
    add(curator, base.pk)
    version = Version.objects.get()
    assert uploads.take(actor=member, version_id=version.pk) == ("law.txt", b"Banks report large payments.")
    assert kinds()[-1] == "document_taken"
    Piece.objects.filter(version=version).delete()
    with pytest.raises(Refused, match="not given out"):
        uploads.take(actor=member, version_id=version.pk)


def test_an_upload_in_pieces_goes_on_where_it_broke_off(base: Base, curator: Actor) -> None:
    content = b"x" * uploads.PIECE_BYTES + b"the end"
    upload = uploads.begin(actor=curator, base_id=base.pk, name="long.txt", size=len(content))
    piece, rest = content[: uploads.PIECE_BYTES], content[uploads.PIECE_BYTES :]
    assert uploads.add_piece(actor=curator, upload_id=upload.pk, offset=0, content=piece) == len(piece)
    with pytest.raises(uploads.WrongPlace) as wrong:
        uploads.add_piece(actor=curator, upload_id=upload.pk, offset=0, content=piece)
    assert wrong.value.received == len(piece)
    with pytest.raises(Refused, match="whole"):
        uploads.finish(actor=curator, upload_id=upload.pk)
    uploads.add_piece(actor=curator, upload_id=upload.pk, offset=len(piece), content=rest)
    version = uploads.finish(actor=curator, upload_id=upload.pk)
    assert b"".join(uploads.content_of(version)) == content
    assert version.media_type == "text/plain"
    assert not Upload.objects.exists()


def test_an_upload_is_of_whoever_began_it(inside: Company, base: Base, curator: Actor) -> None:
    upload = uploads.begin(actor=curator, base_id=base.pk, name="a.txt", size=1)
    put_grant(base, inside.operator, Level.EDITOR)
    with pytest.raises(NotVisible):
        uploads.add_piece(actor=inside.actor(inside.operator), upload_id=upload.pk, offset=0, content=b"a")
    uploads.drop(actor=curator, upload_id=upload.pk)
    assert not Upload.objects.exists()


def test_viewers_bring_nothing_into_a_base(base: Base, member: Actor) -> None:
    with pytest.raises(NotVisible):
        uploads.begin(actor=member, base_id=base.pk, name="a.txt", size=1)
    with pytest.raises(NotVisible):
        add(member, base.pk)


@pytest.mark.parametrize("size", [0, 2_000_001])
def test_files_that_are_empty_or_too_large_are_refused(
    base: Base, curator: Actor, settings: Any, size: int
) -> None:
    settings.KNOWLEDGE_FILE_BYTES = 2_000_000
    with pytest.raises(Refused):
        uploads.begin(actor=curator, base_id=base.pk, name="a.txt", size=size)
    with pytest.raises(Refused):
        uploads.upload(actor=curator, base_id=base.pk, name="a.txt", content=b"a" * size)


def test_the_same_file_again_is_reported_with_the_document_that_has_it(base: Base, curator: Actor) -> None:
    first = add(curator, base.pk, "law.txt")
    with pytest.raises(uploads.Duplicate) as duplicate:
        add(curator, base.pk, "copy.txt")
    assert (duplicate.value.name, duplicate.value.document_id) == ("law.txt", first.pk)
    content = b"Banks report large payments."
    upload = uploads.begin(actor=curator, base_id=base.pk, name="copy.txt", size=len(content))
    uploads.add_piece(actor=curator, upload_id=upload.pk, offset=0, content=content)
    with pytest.raises(uploads.Duplicate):
        uploads.finish(actor=curator, upload_id=upload.pk)
    uploads.finish(actor=curator, upload_id=upload.pk, twice=True)
    assert sorted(names(curator)) == ["copy.txt", "law.txt"]


def test_a_duplicate_of_what_one_may_not_read_is_not_told(
    inside: Company, base: Base, curator: Actor
) -> None:
    secret = add(curator, base.pk)
    documents.restrict(actor=curator, document_id=secret.pk)
    put_grant(base, inside.operator, Level.EDITOR)
    add(inside.actor(inside.operator), base.pk, "mine.txt")
    assert names(inside.actor(inside.operator)) == ["mine.txt"]


# --- Documents ----------------------------------------------------------------------------------------


def test_documents_are_renamed_and_tagged(base: Base, curator: Actor) -> None:
    document = add(curator, base.pk)
    documents.change_document(
        actor=curator, document_id=document.pk, name="The law", tags=["aml", "aml", " bank  secrecy "]
    )
    row = selectors.listed(list(selectors.documents_in(curator, base)))[0]
    assert (row.name, row.tags) == ("The law", ["aml", "bank secrecy"])
    found = selectors.documents_in(curator, base)
    assert selectors.matching(found, ["LAW"]) == [document.pk] == selectors.matching(found, tag="aml")
    assert not selectors.matching(found, ["order"]) and not selectors.matching(found, tag="law")
    assert kinds()[-1] == "document_changed"


def test_a_version_that_begins_on_a_day_ends_the_one_before(base: Base, curator: Actor) -> None:
    document = add(curator, base.pk, "2006.txt")
    later = uploads.upload(
        actor=curator,
        base_id=base.pk,
        name="2024.txt",
        content=b"Anew.",
        document_id=document.pk,
        valid_from=DAY(2025, 1, 1),
    )
    newest, first = selectors.versions_of(document)
    assert (newest.pk, newest.number, first.valid_until) == (later.pk, 2, DAY(2025, 1, 1))
    documents.set_validity(actor=curator, version_id=first.pk, valid_from=DAY(2007, 1, 1), valid_until=None)
    assert Version.objects.get(pk=first.pk).valid_until is None
    with pytest.raises(Refused, match="after"):
        documents.set_validity(
            actor=curator, version_id=first.pk, valid_from=DAY(2007, 1, 1), valid_until=DAY(2007, 1, 1)
        )
    documents.delete_version(actor=curator, version_id=later.pk)
    with pytest.raises(Refused, match="only"):
        documents.delete_version(actor=curator, version_id=first.pk)
    assert kinds() == [
        "base_created",
        "document_added",
        "version_added",
        "version_validity_set",
        "version_deleted",
    ]


def test_a_restricted_document_is_there_for_those_alone_to_whom_it_was_granted(
    inside: Company, base: Base, curator: Actor, member: Actor
) -> None:
    document = add(curator, base.pk)
    assert names(member) == ["law.txt"]
    documents.restrict(actor=curator, document_id=document.pk)
    assert (names(curator), names(member)) == (["law.txt"], [])
    (listed,) = selectors.bases_of(member)
    assert (listed.documents, selectors.bases_of(curator)[0].documents) == (0, 1)
    assert not selectors.matching(selectors.documents_in(member, base), ["law"])
    with pytest.raises(NotVisible):
        access.access_document(member, document.pk)
    put_grant(document, inside.member, Level.VIEWER)
    assert names(member) == ["law.txt"]
    documents.unrestrict(actor=curator, document_id=document.pk)
    assert names(inside.actor(inside.operator)) == ["law.txt"]
    assert kinds()[-2:] == ["document_restricted", "document_opened"]


def test_viewers_change_nothing(base: Base, curator: Actor, member: Actor) -> None:
    document = add(curator, base.pk)
    version = Version.objects.get()
    for deed in (
        lambda: documents.change_document(actor=member, document_id=document.pk, name="x"),
        lambda: documents.restrict(actor=member, document_id=document.pk),
        lambda: documents.delete_document(actor=member, document_id=document.pk),
        lambda: documents.reindex(actor=member, version_id=version.pk),
        lambda: documents.cancel(actor=member, version_id=version.pk),
        lambda: documents.delete_version(actor=member, version_id=version.pk),
        lambda: documents.reindex_base(actor=member, base_id=base.pk),
        lambda: bases.make_folder(actor=member, base_id=base.pk, name="x"),
    ):
        with pytest.raises(NotVisible):
            deed()
    assert kinds() == ["base_created", "document_added"]


def test_another_tenant_finds_none_of_it(north: Company, base: Base, curator: Actor) -> None:
    document, theirs = add(curator, base.pk), replace(curator, tenant_id=north.tenant.pk)
    assert not access.visible_bases(theirs).exists() and not access.visible_documents(theirs).exists()
    for found in (
        lambda: access.access_base(theirs, base.pk),
        lambda: access.access_document(theirs, document.pk),
    ):
        with pytest.raises(NotVisible):
            found()


def test_names_stand_in_the_sealed_part_of_records_alone(base: Base, curator: Actor) -> None:
    document = add(curator, base.pk, "Merger with Zenith.txt")
    record = AuditRecord.objects.get(kind="knowledge.document_added")
    assert record.subject_id == document.pk
    plain = {name: str(value) for name, value in vars(record).items()}
    assert not any("Zenith" in value for value in plain.values())


def test_a_try_again_and_a_cancellation_fit_the_state(base: Base, curator: Actor) -> None:
    add(curator, base.pk)
    version = Version.objects.get()
    with pytest.raises(Refused, match="already"):
        documents.reindex(actor=curator, version_id=version.pk)
    documents.cancel(actor=curator, version_id=version.pk)
    with pytest.raises(Refused, match="any more"):
        documents.cancel(actor=curator, version_id=version.pk)
    documents.reindex(actor=curator, version_id=version.pk)
    again = Version.objects.get()
    assert (again.state, again.attempt) == (State.WAITING, version.attempt + 2)
