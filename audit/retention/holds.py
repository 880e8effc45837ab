"""Holds: what a case needs outlives its day, and nobody outside of the case learns of it.

A held record is a copy: its facts, and its ciphertexts together with the record's own key, sealed under a key of the
case. So it can be opened when the day's keys are destroyed, and its ciphertexts still give the leaf that stands in the
log. The copy is made at once, so no day ever has to wait for a case; the day goes as it would have gone, and to all
outside of the case the record is gone like its neighbours. Two cases may hold one record and know nothing of each other.

The statement of a hold says nothing but a number that stands for it: the hash of what is held and a salt, which lie
with the copies. Releasing needs two people (`deeds`); then the copies go, and with a case's last copy its key.
"""

import hashlib
import json
import os
from base64 import b64decode, b64encode
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import Value
from django.utils.translation import gettext as _

from audit import leaf, output, record, secrecy
from audit.models import AuditChunk, AuditCompletion, AuditModel, AuditRecord
from audit.retention import deeds
from audit.retention.models import Deed, Erased, Hold, Verdict
from audit.retention.policies import clean_reason, database_time
from audit.selectors import RecordView, State, Summary, summary_of
from audit.tree import bundle, statements
from audit.tree.models import Leaf
from tenants import envelope
from tenants.actors import Actor, NotVisible, require
from tenants.changes import change
from tenants.errors import Refused
from tenants.ids import day_of
from tenants.keyring import ciphers
from tenants.models import DataKey, DestroyedKey
from tenants.roles import AUDIT_READ, RETENTION_MANAGE, REVIEW_WORK
from tenants.scope import tenant_scope

HOLD, RELEASE = "hold", "release"
MOST = 500  # Records in one go.


@dataclass(frozen=True, slots=True)
class Held:
    """A held record as those inside of the case see it."""

    summary: Summary
    case_id: UUID
    hold: Hold


@dataclass(frozen=True, slots=True)
class Part:
    """One ciphertext of a record. is_own: sealed under the record's key; else `data` is the text itself."""

    field: str
    sequence: int
    is_own: bool
    data: bytes


@dataclass(frozen=True, slots=True)
class Content:
    """What a hold keeps sealed. key: the record's own, which opens nothing else."""

    key: bytes
    parts: list[Part]


@change
def place(*, actor: Actor, request_ids: Collection[UUID], case_id: UUID, reason: str) -> None:
    """Hold these records for the case; those that it holds already stay as they are.

    Raises NotVisible for records that are not there or not for this actor, and Refused for those that are gone, erased
    or still running. Part of the open transaction, if there is one.
    """
    require(actor, REVIEW_WORK)
    reason = clean_reason(reason)
    wanted = sorted(set(request_ids))
    if len(wanted) > MOST:
        raise Refused("too_many_records", _("Hold at most %(most)d records at once.") % {"most": MOST})
    _lock_case(case_id)
    # A day goes under the same lock: what is copied before is held, and what is gone before is refused.
    for day in sorted({_day(each) for each in wanted}):
        with connection.cursor() as cursor:
            cursor.execute("SELECT audit_lock_day(%s)", [day])
    held = set(
        Hold.objects.filter(case_id=case_id, request_id__in=wanted).values_list("request_id", flat=True)
    )
    fresh = [each for each in wanted if each not in held]
    if not fresh:
        return
    key_day, salt = _key_day(case_id), os.urandom(16)
    made = [_copy(actor, each, case_id, key_day, salt) for each in fresh]
    stated = statements.state(HOLD, {"case": str(case_id), "commitment": commitment(salt, made)})
    for hold in made:
        hold.statement = stated.id
        hold.placed_by, hold.placed_label = actor.user_id, actor.label
        hold.save(force_insert=True)
    record.record_event(
        actor=actor,
        kind="hold.placed",
        subject_id=case_id,
        detail={"records": [str(each) for each in fresh], "reason": reason},
        client_address=actor.address,
        confined_to=case_id,
    )


@change
def request_release(*, actor: Actor, case_id: UUID, reason: str, request_ids: Collection[UUID] = ()) -> Deed:
    """Ask that a case lets go of these records, or of all that it holds. Raises NotVisible and Refused."""
    _require_inside(actor, case_id)
    held = Hold.objects.filter(case_id=case_id).values_list("request_id", flat=True)
    wanted = sorted(set(request_ids) or set(held))
    if not wanted or set(wanted) - set(held):
        raise Refused("not_held", _("The case does not hold that."))
    if deeds.is_open(Deed.Kind.RELEASE, case_id):
        raise Refused("already_asked", _("That is asked for already. Decide it first."))
    deed = deeds.ask(actor, Deed.Kind.RELEASE, case_id, reason=reason, request_ids=wanted)
    _told(actor, "hold.release_requested", case_id, deed, reason)
    return deed


@change
def approve_release(*, actor: Actor, deed_id: UUID, reason: str) -> Verdict:
    """Somebody else agrees; a day later the copies go. Raises NotVisible and Refused."""
    return _decided(actor, deed_id, Verdict.Outcome.APPROVED, "hold.release_approved", reason)


@change
def refuse_release(*, actor: Actor, deed_id: UUID, reason: str) -> Verdict:
    """Raises NotVisible and Refused."""
    return _decided(actor, deed_id, Verdict.Outcome.REFUSED, "hold.release_refused", reason)


@change
def withdraw_release(*, actor: Actor, deed_id: UUID, reason: str) -> Verdict:
    """Call it off before it is done. Raises NotVisible and Refused."""
    return _decided(actor, deed_id, Verdict.Outcome.WITHDRAWN, "hold.release_withdrawn", reason)


def of(actor: Actor, case_id: UUID) -> list[Held]:
    """What a case holds, oldest first. Raises NotVisible for those outside of it."""
    with tenant_scope(actor.tenant_id):
        _require_known(actor, case_id)
        found = Hold.objects.filter(case_id=case_id).defer("sealed").order_by("request_id")
        return [Held(summary_of_hold(hold), case_id, hold) for hold in found]


def releases(actor: Actor, case_id: UUID) -> list[deeds.View]:
    """What was asked for of a case's holds, newest first. Raises NotVisible for those outside of it."""
    with tenant_scope(actor.tenant_id):
        _require_known(actor, case_id)
        found = Deed.objects.filter(kind=Deed.Kind.RELEASE, subject_id=case_id).order_by("-pk")
        return [deeds.view(deed) for deed in found]


def found_release(actor: Actor, deed_id: UUID) -> deeds.View:
    """Raises NotVisible, also for those outside of the case."""
    with tenant_scope(actor.tenant_id):
        deed = deeds.find(Deed.Kind.RELEASE, deed_id)
        _require_known(actor, deed.subject_id)
        return deeds.view(deed)


def known_to(actor: Actor, request_id: UUID) -> Hold | None:
    """The copy of a record in some case that the actor is inside of. Inside the tenant's scope."""
    cases = secrecy.inside(actor)
    return Hold.objects.filter(request_id=request_id, case_id__in=cases).order_by("created").first()


def summary_of_hold(hold: Hold) -> Summary:
    """What is known of a held record without opening it."""
    return summary_of(_record(hold), _completion(hold))


def view_of(hold: Hold) -> RecordView:
    """The copy with its content, without history. Whoever asks has recorded the opening. Inside the tenant's scope."""
    summary = summary_of_hold(hold)
    try:
        texts = _texts(hold)
    except envelope.Tampered:
        return RecordView(summary=summary, state=State.ALTERED)
    except envelope.KeyDestroyed:
        return RecordView(summary=summary, state=State.GONE)
    context = _json(texts[("context", 0)]) if ("context", 0) in texts else {}
    chunks = [texts[place].decode(errors="surrogatepass") for place in sorted(texts) if place[0] == "output"]
    return RecordView(
        summary=summary,
        state=State.INTACT,
        passages=context.get("passages", []),
        attachments=context.get("attachments", []),
        input=_json(texts[("input", 0)]),
        parameters=_json(texts[("parameters", 0)]),
        output=output.joined(part for chunk in chunks for part in output.decode(chunk)),
    )


def open_held(actor: Actor, case_id: UUID, request_id: UUID, *, reason: str) -> RecordView:
    """A held record with its content, after recording within the case that this actor opened it. Raises NotVisible."""
    require(actor, AUDIT_READ)
    reason = clean_reason(reason)
    with tenant_scope(actor.tenant_id):
        _require_known(actor, case_id)
        hold = Hold.objects.filter(case_id=case_id, request_id=request_id).first()
        if hold is None:
            raise NotVisible(HOLD)
        record.record_event(
            actor=actor,
            kind="audit.read",
            subject_id=request_id,
            detail={"record": str(request_id), "reason": reason},
            client_address=actor.address,
            confined_to=case_id,
        )
        return view_of(hold)


def kept(actor: Actor, request_id: UUID) -> bundle.Kept | None:
    """What proves a record that is gone from its day and that a case of the actor's holds. Inside the tenant's scope.

    Its ciphertexts are left out when some of them were sealed before records had keys of their own.
    """
    hold = known_to(actor, request_id)
    if hold is None:
        return None
    try:
        content = _opened(hold)
    except (envelope.Tampered, envelope.KeyDestroyed):
        # Nothing of it opens; what proves the others is not held up by that, and the verifier says what is missing.
        return bundle.Kept(hold.metadata, bytes(hold.ciphertext_digest), None, None)
    is_whole = all(part.is_own for part in content.parts)
    return bundle.Kept(
        metadata=hold.metadata,
        ciphertext_digest=bytes(hold.ciphertext_digest),
        key=content.key if is_whole else None,
        sealed=[part.data for part in _in_order(content)] if is_whole else None,
    )


def evidence(hold: Hold) -> Content:
    """The record's own key and its ciphertexts as they were recorded, to be proven with. Inside the tenant's scope.

    Whoever asks has recorded the reading. Raises Tampered and KeyDestroyed.
    """
    return _opened(hold)


def commitment(salt: bytes, held: Collection[Hold]) -> str:
    """What a statement says of a hold: SHA-256 over the salt and, by record, its leaf and the digest of the copy."""
    listed = sorted(
        [str(hold.request_id), bytes(hold.leaf_digest).hex(), bytes(hold.sealed_digest).hex()]
        for hold in held
    )
    return hashlib.sha256(salt + leaf.canonical(listed)).hexdigest()


def carry_out(tenant_id: UUID) -> int:
    """Do the releases that are decided and whose day of grace is over; how many copies went. Opens the scope."""
    with tenant_scope(tenant_id):
        waiting = deeds.ready(Deed.Kind.RELEASE)
    released = sum(_carry_out(tenant_id, deed) for deed in waiting)
    _destroy_keys(tenant_id)
    return released


def _carry_out(tenant_id: UUID, deed: Deed) -> int:
    with tenant_scope(tenant_id):
        _lock_case(deed.subject_id)
        going = list(
            Hold.objects.filter(
                case_id=deed.subject_id, request_id__in=deed.request_ids, created__lt=deed.created
            )
        )
        if going:
            # With the first salt: it goes with the copies, and the statement stands for whoever noted it before.
            said = commitment(bytes(going[0].salt), going)
            statements.state(RELEASE, {"case": str(deed.subject_id), "commitment": said})
        with connection.cursor() as cursor:
            cursor.execute("SELECT audit_release(%s)", [deed.pk])
            released: int = cursor.fetchone()[0]
    return released


def _destroy_keys(tenant_id: UUID) -> None:
    """Keys of cases of which no copy is left, also where a crash left one."""
    today = database_time().date()
    with tenant_scope(tenant_id):
        keys = DataKey.objects.filter(purpose__startswith="case:", purpose__endswith=":held", day__lt=today)
        for purpose, day in set(keys.values_list("purpose", "day")):
            case_id = UUID(purpose.split(":")[1])
            _lock_case(case_id)
            if not Hold.objects.filter(case_id=case_id, key_day=day).exists():
                envelope.destroy(tenant_id, purpose, day, reason=DestroyedKey.Reason.RELEASED)


def _copy(actor: Actor, request_id: UUID, case_id: UUID, key_day: date, salt: bytes) -> Hold:
    """A hold that is not stored yet."""
    original = AuditRecord.objects.filter(day=_day(request_id), id=request_id)
    found = secrecy.visible(actor, original).first()
    if found is None or Erased.objects.filter(request_id=request_id).exists():
        known = known_to(actor, request_id)
        if known is None:
            raise _why_not(found)
        metadata, leaf_digest, ciphertext_digest = known.metadata, known.leaf_digest, known.ciphertext_digest
        content = _unsealed(known)
    else:
        completion = AuditCompletion.objects.filter(day=found.day, request_id=found.id).first()
        if completion is None:
            raise Refused("still_running", _("This request is still running. Hold it when it has ended."))
        stored = leaf.ciphertexts(day=found.day, request_id=found.id)[2]
        if stored != bytes(completion.ciphertext_digest):
            raise Refused(
                "altered", _("This record was altered, so it proves nothing. Tell your administrator.")
            )
        metadata, leaf_digest = leaf.metadata(found, completion), completion.leaf_digest
        ciphertext_digest = completion.ciphertext_digest
        content = _packed(found)
    sealed = envelope.seal(
        tenant_id=actor.tenant_id,
        purpose=_purpose(case_id),
        day=key_day,
        plaintext=content,
        aad=_bound(case_id, request_id),
    )
    return Hold(
        tenant_id=actor.tenant_id,
        case_id=case_id,
        request_id=request_id,
        day=_day(request_id),
        metadata=metadata,
        ciphertext_digest=bytes(ciphertext_digest),
        leaf_digest=bytes(leaf_digest),
        sealed=sealed,
        sealed_digest=hashlib.sha256(sealed).digest(),
        key_day=key_day,
        salt=salt,
    )


def _why_not(found: AuditRecord | None) -> Exception:
    if found is None:
        return NotVisible(HOLD)
    return Refused("erased", _("Its content was erased on request, so there is nothing left to hold."))


def _packed(found: AuditRecord) -> bytes:
    """A record's own key and ciphertexts, ready to be sealed for a case."""
    handle, sealed = record.handle_of(found), [("input", 0, found.input), ("parameters", 0, found.parameters)]
    if found.context:
        sealed.append(("context", 0, found.context))
    chunks = AuditChunk.objects.filter(day=found.day, request_id=found.id).order_by("seq")
    sealed += chunks.values_list(Value("output"), "seq", "sealed")
    key = envelope.record_key(found.tenant_id, handle.keeping, found.day, found.id)
    parts = []
    for field, sequence, ciphertext in sealed:
        data = bytes(ciphertext)
        is_own = data[:1] == ciphers.OF_RECORD
        if (
            not is_own
        ):  # Of before records had keys of their own: the day's key opens it, and that is not given away.
            data = envelope.open_sealed(
                tenant_id=found.tenant_id,
                purpose=handle.keeping,
                day=found.day,
                sealed=data,
                aad=record.associated(handle, field, sequence),
                record=found.id,
            )
        parts.append([field, sequence, is_own, b64encode(data).decode()])
    return json.dumps({"key": b64encode(key).decode(), "parts": parts}, separators=(",", ":")).encode()


def _opened(hold: Hold) -> Content:
    """Raises Tampered and KeyDestroyed."""
    found = json.loads(_unsealed(hold))
    parts = [
        Part(field, sequence, is_own, b64decode(data)) for field, sequence, is_own, data in found["parts"]
    ]
    return Content(b64decode(found["key"]), parts)


def _texts(hold: Hold) -> dict[tuple[str, int], bytes]:
    """What was sealed, by field and sequence. Raises Tampered and KeyDestroyed."""
    content, handle = _opened(hold), record.handle_of(_record(hold))
    if not _is_intact(hold, content):
        raise envelope.Tampered("the copy is not what was recorded")
    texts = {}
    for part in content.parts:
        bound = record.associated(handle, part.field, part.sequence)
        aad = envelope.associated_data(hold.tenant_id, handle.keeping, bound)
        texts[part.field, part.sequence] = (
            ciphers.decrypt(content.key, part.data, aad, form=ciphers.OF_RECORD) if part.is_own else part.data
        )
    return texts


def _is_intact(hold: Hold, content: Content) -> bool:
    """Whether facts and ciphertexts give the leaf that stands in the log."""
    framed = b"".join(len(part.data).to_bytes(8, "big") + part.data for part in _in_order(content))
    is_whole = all(part.is_own for part in content.parts)
    if is_whole and hashlib.sha256(framed).digest() != bytes(hold.ciphertext_digest):
        return False
    logged = Leaf.objects.filter(request_id=hold.request_id).values_list("hash", flat=True).first()
    found = leaf.digest(_record(hold), _completion(hold))
    return found == bytes(hold.leaf_digest) and (logged is None or bytes(logged) == found)


def _in_order(content: Content) -> list[Part]:
    """As the digest of a record's ciphertexts has them."""
    order = {"context": -2, "input": -1, "parameters": 0}
    return sorted(content.parts, key=lambda part: order.get(part.field, part.sequence))


def _unsealed(hold: Hold) -> bytes:
    return envelope.open_sealed(
        tenant_id=hold.tenant_id,
        purpose=_purpose(hold.case_id),
        day=hold.key_day,
        sealed=bytes(hold.sealed),
        aad=_bound(hold.case_id, hold.request_id),
    )


def _purpose(case_id: UUID) -> str:
    return f"case:{case_id}:held"


def _bound(case_id: UUID, request_id: UUID) -> dict[str, object]:
    return {"case": case_id, "request": request_id, "field": "held"}


def _key_day(case_id: UUID) -> date:
    """Today; or, when that key was destroyed with all that the case held, the first day after."""
    gone = set(DestroyedKey.objects.filter(purpose=_purpose(case_id)).values_list("day", flat=True))
    day = database_time().date()
    while day in gone:
        day += timedelta(days=1)
    return day


def _day(request_id: UUID) -> date:
    try:
        return day_of(request_id)
    except (ValueError, OverflowError) as error:
        raise NotVisible(HOLD) from error


def _lock_case(case_id: UUID) -> None:
    """Until the end of the transaction nobody else changes what the case holds, or destroys its keys."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"audit case {case_id}"])


def _require_known(actor: Actor, case_id: UUID) -> None:
    if case_id not in secrecy.inside(actor):
        raise NotVisible(HOLD)


def _require_inside(actor: Actor, case_id: UUID) -> None:
    require(actor, RETENTION_MANAGE)
    _require_known(actor, case_id)


def _decided(actor: Actor, deed_id: UUID, outcome: Verdict.Outcome, kind: str, reason: str) -> Verdict:
    require(actor, RETENTION_MANAGE)
    deed = deeds.find(Deed.Kind.RELEASE, deed_id)
    _require_known(actor, deed.subject_id)
    verdict = deeds.decide(actor, deed, outcome, reason=reason)
    _told(actor, kind, deed.subject_id, deed, reason)
    return verdict


def _told(actor: Actor, kind: str, case_id: UUID, deed: Deed, reason: str) -> None:
    record.record_event(
        actor=actor,
        kind=kind,
        subject_id=case_id,
        detail={"deed": str(deed.pk), "records": [str(each) for each in deed.request_ids], "reason": reason},
        client_address=actor.address,
        confined_to=case_id,
    )


def _record(hold: Hold) -> AuditRecord:
    facts = _values(AuditRecord, hold.metadata["record"])
    return AuditRecord(**facts, schema=hold.metadata["schema"])


def _completion(hold: Hold) -> AuditCompletion:
    return AuditCompletion(
        tenant_id=hold.tenant_id,
        day=hold.day,
        request_id=hold.request_id,
        ciphertext_digest=bytes(hold.ciphertext_digest),
        leaf_digest=bytes(hold.leaf_digest),
        **_values(AuditCompletion, hold.metadata["completion"]),
    )


def _values(model: type[AuditModel], facts: dict[str, Any]) -> dict[str, Any]:
    """From JSON to what the model's fields hold."""
    fields = {field.attname: field for field in model._meta.local_concrete_fields}
    return {name: fields[name].to_python(value) for name, value in facts.items()}


def _json(text: bytes) -> Any:
    return json.loads(text.decode(errors="surrogatepass"))
