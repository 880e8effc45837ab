"""What became of records that are not in their day any more: held by a case, gone under retention, erased.

Those inside of a case find what it holds. To everybody else a held record is gone like its neighbours. That there was
such a record is known from its leaf, which stays; only of requests is that told, for events may belong to a case.
"""

from uuid import UUID

from audit.record import GENERATION, Keeping
from audit.retention import holds
from audit.retention.models import Erased, Tombstone
from audit.selectors import RecordView, State, Summary
from audit.tree.models import Leaf
from tenants.actors import Actor
from tenants.ids import time_of


def find(actor: Actor, request_id: UUID) -> Summary | None:
    hold = holds.known_to(actor, request_id)
    if hold is not None:
        return holds.summary_of_hold(hold)
    return _stub(request_id) if _leaf(request_id) else None


def open(actor: Actor, request_id: UUID) -> RecordView | None:
    hold = holds.known_to(actor, request_id)
    if hold is not None:
        return holds.view_of(hold)
    if is_erased(request_id) or (leaf := _leaf(request_id)) is None:
        return None
    # A row that no tombstone speaks of did not go under retention: somebody took it away.
    went = Tombstone.objects.filter(keeping=leaf.keeping, day=leaf.day).exclude(finished=None).exists()
    return RecordView(summary=_stub(request_id), state=State.GONE if went else State.ALTERED)


def is_erased(request_id: UUID) -> bool:
    return Erased.objects.filter(request_id=request_id).exists()


def _leaf(request_id: UUID) -> Leaf | None:
    return Leaf.objects.filter(request_id=request_id, keeping=Keeping.REQUESTS).first()


def _stub(request_id: UUID) -> Summary:
    """All that is left: an id, and the time in it."""
    return Summary(
        id=request_id,
        created=time_of(request_id),
        kind=GENERATION,
        channel="",
        user_label="",
        user_id=None,
        api_key_id=None,
        session_ref="",
        model="",
        model_version="",
        adapter="",
        deployment="",
        route="",
        route_reason="",
        client_address="",
        conversation_id=None,
        subject_id=None,
        completion=None,
        is_gone=True,
    )
