"""A record has a key of its own, which opens it and nothing else."""

from datetime import timedelta
from uuid import uuid4

import pytest

from audit import record
from audit.models import AuditChunk, AuditRecord
from tenants import clock, envelope
from tenants.keyring import ciphers
from tenants.scope import tenant_scope
from tests.audit.conftest import id_at
from tests.conftest import Company
from tests.keys.conftest import days_ago
from tests.keys.test_providers import _begin

pytestmark = pytest.mark.django_db(transaction=True)

PLACES = [("input", 0), ("parameters", 0), ("context", 0), ("output", 1), ("output", 2)]


def _key(handle: record.Handle) -> bytes:
    return envelope.record_key(handle.tenant_id, handle.keeping, handle.day, handle.request_id)


def test_it_opens_all_of_its_record_and_nothing_of_another(acme: Company) -> None:
    one, other = _begin(acme.actor(acme.member)), _begin(acme.actor(acme.member))
    for handle in (one, other):
        record.append(handle, seq=1, text="an answer")
    with tenant_scope(acme.tenant.pk):
        key = _key(one)
        for handle in (one, other):
            row = AuditRecord.objects.get(id=handle.request_id)
            chunk = AuditChunk.objects.get(request_id=handle.request_id)
            fields = [("input", 0, row.input), ("parameters", 0, row.parameters), ("output", 1, chunk.sealed)]
            for field, sequence, sealed in fields:
                bound = envelope.associated_data(
                    handle.tenant_id, handle.keeping, record.associated(handle, field, sequence)
                )
                if handle is one:
                    assert ciphers.decrypt(key, bytes(sealed), bound, form=ciphers.OF_RECORD)
                else:
                    with pytest.raises(envelope.Tampered):
                        ciphers.decrypt(key, bytes(sealed), bound, form=ciphers.OF_RECORD)


def test_keys_of_records_and_of_the_index_differ(acme: Company) -> None:
    handle = _begin(acme.actor(acme.member))
    with tenant_scope(acme.tenant.pk):
        where = (handle.tenant_id, handle.keeping, handle.day)
        keys = {
            envelope.record_key(*where, handle.request_id),
            envelope.record_key(*where, uuid4()),
            envelope.index_key(*where),
        }
    assert len(keys) == 3 and {len(key) for key in keys} == {32}


def test_neither_is_made_for_a_day_without_content(acme: Company) -> None:
    handle = record.Handle(acme.tenant.pk, uuid4())
    with tenant_scope(acme.tenant.pk):
        day = days_ago(3)
        for ask in (
            lambda: envelope.index_key(acme.tenant.pk, "audit", day),
            lambda: envelope.record_key(acme.tenant.pk, "audit", day, handle.request_id),
        ):
            with pytest.raises(envelope.KeyDestroyed):
                ask()


def test_content_of_before_records_had_keys_still_opens(acme: Company) -> None:
    handle = _begin(acme.actor(acme.member))
    aad = record.associated(handle, "output", 1)
    with tenant_scope(acme.tenant.pk):
        old = envelope.seal(
            tenant_id=handle.tenant_id, purpose=handle.keeping, day=handle.day, plaintext=b"words", aad=aad
        )
        assert old[:1] == ciphers.PLAIN
        assert record.open_output(handle, seq=1, sealed=old) == "words"


def test_bytes_are_not_taken_for_the_other_format(acme: Company) -> None:
    handle = _begin(acme.actor(acme.member))
    sealed = record.append(handle, seq=1, text="words")
    assert sealed[:1] == ciphers.OF_RECORD
    with pytest.raises(envelope.Tampered):
        record.open_output(handle, seq=1, sealed=ciphers.PLAIN + sealed[1:])


def test_no_ciphertext_opens_anywhere_but_where_it_belongs(acme: Company, north: Company) -> None:
    """Every one of several records, fields, places in a sequence, days and tenants, tried at every other."""
    sealed = {}
    for company in (acme, north):
        for ago in (0, 1):
            for _ in range(2):
                handle = record.Handle(company.tenant.pk, id_at(clock.now() - timedelta(days=ago)))
                with tenant_scope(company.tenant.pk):
                    for field, sequence in PLACES:
                        cipher = record._cipher(handle, create=True)
                        sealed[(handle, field, sequence)] = cipher.seal(
                            b"words", record.associated(handle, field, sequence)
                        )
    opened = 0
    for handle, field, sequence in sealed:
        cipher, aad = record._cipher(handle), record.associated(handle, field, sequence)
        for place, content in sealed.items():
            if place == (handle, field, sequence):
                assert cipher.open(content, aad) == b"words"
                opened += 1
            else:
                with pytest.raises(envelope.Tampered):
                    cipher.open(content, aad)
    assert opened == len(sealed) == 40
