"""The second person's signature: what is severe, or becomes a case, takes effect only when another agrees.

Author ≠ approver, checked under the item's lock and once more by the database.
"""

from uuid import UUID

from django.db.models import QuerySet
from django.utils.translation import gettext as _

from audit.review import access, flags, rules, steps, work
from audit.review.deeds import deed
from audit.review.models import Deed, ReviewItem, State
from tenants.access import Actor
from tenants.errors import Refused


def waiting_for(actor: Actor) -> QuerySet[ReviewItem]:
    """The decisions that this person could sign, the most urgent first. Inside the tenant's scope."""
    found = access.items_of(actor).filter(state=State.SECOND).exclude(decided_by_id=actor.user_id)
    return found.order_by("-rank", "due", "pk")


@deed
def approve(*, actor: Actor, item_id: UUID, comment: str = "", seen_turn: int | None = None) -> ReviewItem:
    """Sign another's decision, which takes effect with that."""
    item = _signable(actor, item_id, Deed.APPROVED, seen_turn)
    comment = flags.clean_words(comment, "comment", required=False)
    item.approved_by_id = actor.user_id
    work.close(actor, item)
    steps.add(actor, item, Deed.APPROVED, words=comment, about_id=item.decided_by_id, outcome=item.outcome)
    return item


@deed
def give_back(*, actor: Actor, item_id: UUID, comment: str, seen_turn: int | None = None) -> ReviewItem:
    """Return another's decision to them with a comment; the item is open again."""
    item = _signable(actor, item_id, Deed.RETURNED, seen_turn)
    comment = flags.clean_words(comment, "comment")
    author, outcome = item.decided_by_id, item.outcome
    work.back_to_open(item, assignee_id=author)
    steps.add(actor, item, Deed.RETURNED, words=comment, about_id=author, outcome=outcome)
    return item


def _signable(actor: Actor, item_id: UUID, what: str, seen_turn: int | None) -> ReviewItem:
    item = access.item_of(actor, item_id, lock=True)
    if item.state != State.SECOND or (item.state, what) not in rules.NEXT:
        raise work.conflict(actor, item, _("This waits for no signature any more."))
    work.refuse_stale(actor, item, seen_turn)
    if item.decided_by_id == actor.user_id:
        raise Refused("own_decision", _("This is your own decision: somebody else has to sign it."))
    return item
