"""Flags, review items with their history, queues, sampling plans and watches.

Plain columns hold ids, codes and times. What people wrote (reasons, comments, what a plan draws from) is ciphertext.
People stand here by their ids: history outlives memberships.
"""

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Lower
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from tenants import clock
from tenants.models import TenantModel

INSERT_ONLY = "SELECT, INSERT"


class Source(models.TextChoices):
    """What raised a flag."""

    HAND = "hand", _("By hand")
    SEARCH = "search", _("Saved search")
    SAMPLE = "sample", _("Sample")
    RULE = "rule", _("Rule")


class Severity(models.TextChoices):
    LOW = "low", pgettext_lazy("severity", "Low")
    MEDIUM = "medium", pgettext_lazy("severity", "Medium")
    HIGH = "high", pgettext_lazy("severity", "High")


# As numbers where they are compared and sorted by.
RANKS: dict[str, int] = {Severity.LOW: 1, Severity.MEDIUM: 2, Severity.HIGH: 3}
SEVERITIES = {rank: severity for severity, rank in RANKS.items()}


class State(models.TextChoices):
    """Where an item stands. DECIDED: takes effect in a moment and can still be taken back."""

    OPEN = "open", pgettext_lazy("state of a review", "Open")
    SECOND = "second", _("Waits for a second signature")
    DECIDED = "decided", pgettext_lazy("state of a review", "Decided")
    CLOSED = "closed", pgettext_lazy("state of a review", "Closed")


class Outcome(models.TextChoices):
    DISMISS = "dismiss", _("Dismissed")
    CONFIRM = "confirm", _("Confirmed")
    ESCALATE = "escalate", _("Escalated to a case")


class Deed(models.TextChoices):
    """What can happen to an item."""

    FLAGGED = "flagged", _("Flagged")
    MOVED = "moved", _("Moved to another queue")
    ASSIGNED = "assigned", _("Assigned")
    UNASSIGNED = "unassigned", _("Assignment taken back")
    CLAIMED = "claimed", _("Work begun")
    COMMENTED = "commented", _("Commented")
    DECIDED = "decided", pgettext_lazy("a deed", "Decided")
    WITHDRAWN = "withdrawn", _("Decision taken back")
    APPROVED = "approved", _("Signed by a second person")
    RETURNED = "returned", _("Returned by the second person")
    TOOK_EFFECT = "took_effect", _("Took effect")
    REOPENED = "reopened", _("Reopened")


class Queue(TenantModel):
    """Where items wait. Takes flags of its sources and severities (none named: all); the default one takes the rest.

    roles, and QueueSeat.is_member: who works there; neither: everybody who reviews. hours_*: until an item is due.
    """

    privileges: ClassVar[str] = "SELECT, INSERT, UPDATE"

    name = models.CharField(max_length=80)
    is_default = models.BooleanField(default=False, editable=False)
    position = models.PositiveSmallIntegerField(default=0)
    sources = ArrayField(models.CharField(max_length=10), default=list, blank=True)
    severities = ArrayField(models.CharField(max_length=10), default=list, blank=True)
    roles = ArrayField(models.CharField(max_length=50), default=list, blank=True)
    assigns_in_turn = models.BooleanField(default=False)
    seconds_escalations = models.BooleanField(default=True)
    hours_low = models.PositiveSmallIntegerField(default=120)
    hours_medium = models.PositiveSmallIntegerField(default=72)
    hours_high = models.PositiveSmallIntegerField(default=24)
    created = models.DateTimeField(default=clock.now, editable=False)
    retired = models.DateTimeField(null=True, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                "tenant",
                Lower("name"),
                condition=models.Q(retired=None, is_default=False),
                name="one_review_queue_of_a_name",
            ),
            models.UniqueConstraint(
                fields=["tenant"], condition=models.Q(is_default=True), name="one_default_review_queue"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def hours_for(self, severity: str) -> int:
        return int(getattr(self, f"hours_{severity}"))


class QueueSeat(TenantModel):
    """A person and a queue: whether they are a member by name, and when an item was last given to them in turn."""

    queue = models.ForeignKey(Queue, on_delete=models.CASCADE, related_name="seats")
    user_id = models.UUIDField()
    is_member = models.BooleanField(default=False)
    last_given = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant", "queue", "user_id"], name="one_seat_in_a_review_queue")
        ]

    def __str__(self) -> str:
        return f"{self.user_id} in {self.queue_id}"


class Room(TenantModel):
    """To what the audit's events of a review are confined: one for each queue and person whose records wait there.

    So everybody who works in the queue sees them but that person, with few ids to compare. user_id NULL: of no person.
    """

    privileges: ClassVar[str] = INSERT_ONLY

    queue = models.ForeignKey(Queue, on_delete=models.PROTECT, related_name="+")
    user_id = models.UUIDField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "queue", "user_id"], nulls_distinct=False, name="one_room_of_a_review"
            )
        ]

    def __str__(self) -> str:
        return str(self.pk)


class ReviewItem(TenantModel):
    """A record under review: all its flags, and where it stands. What led there is in ReviewStep.

    request_id, subject_user_id: the record, and whose it is. rank: the severest of its flags (RANKS).
    decided_by_id, outcome, reason_step_id: the decision that stands. takes_effect: when a decision does, while it can be
    taken back. claimed_by_id, claimed_until: who has it open at this moment. turn: grows when a decision could be based
    on less than there is.
    """

    privileges: ClassVar[str] = "SELECT, INSERT, UPDATE"

    request_id = models.UUIDField()
    subject_user_id = models.UUIDField(null=True)
    queue = models.ForeignKey(Queue, on_delete=models.PROTECT, related_name="items")
    room = models.ForeignKey(Room, on_delete=models.PROTECT, related_name="+")
    rank = models.PositiveSmallIntegerField()
    state = models.CharField(max_length=10, choices=State, default=State.OPEN)
    turn = models.PositiveIntegerField(default=1)
    due = models.DateTimeField()
    created = models.DateTimeField(default=clock.now, editable=False)
    opened = models.DateTimeField(default=clock.now, help_text="When it began to wait, the last time.")
    assignee_id = models.UUIDField(null=True)
    claimed_by_id = models.UUIDField(null=True)
    claimed_until = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=10, choices=Outcome, blank=True)
    decided_by_id = models.UUIDField(null=True)
    decided = models.DateTimeField(null=True)
    takes_effect = models.DateTimeField(null=True)
    approved_by_id = models.UUIDField(null=True)
    closed = models.DateTimeField(null=True)
    case_id = models.UUIDField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant", "request_id"], name="one_review_item_a_record"),
            models.CheckConstraint(
                condition=models.Q(decided_by_id=None)
                | models.Q(approved_by_id=None)
                | ~models.Q(approved_by_id=models.F("decided_by_id")),
                name="review_author_is_not_approver",
            ),
            # A case takes further flags without anybody signing them.
            models.CheckConstraint(
                condition=~models.Q(state=State.CLOSED, rank=RANKS[Severity.HIGH])
                | models.Q(approved_by_id__isnull=False)
                | models.Q(outcome=Outcome.ESCALATE),
                name="review_of_high_severity_is_signed",
            ),
            *(
                models.CheckConstraint(
                    condition=models.Q(subject_user_id=None)
                    | models.Q(**{who: None})
                    | ~models.Q(**{who: models.F("subject_user_id")}),
                    name=f"review_{who.removesuffix('_id')}_is_not_subject",
                )
                for who in ("assignee_id", "claimed_by_id", "decided_by_id", "approved_by_id")
            ),
        ]
        indexes = [
            models.Index(fields=["tenant", "queue", "state", "-rank", "due"], name="review_item_waiting"),
            models.Index(fields=["tenant", "assignee_id", "state"], name="review_item_assigned"),
            models.Index(
                fields=["takes_effect"], condition=models.Q(state="decided"), name="review_item_settling"
            ),
        ]

    def __str__(self) -> str:
        return str(self.pk)

    @property
    def severity(self) -> str:
        return SEVERITIES[self.rank]

    def forget_decision(self) -> None:
        """As if it had not been decided, and nobody were at it; its history says otherwise."""
        self.outcome, self.decided_by_id, self.decided, self.takes_effect = "", None, None, None
        self.approved_by_id, self.closed = None, None
        self.claimed_by_id, self.claimed_until = None, None


class Flag(TenantModel):
    """Why a record is under review. One for each record, source and source_id: a rule that strikes twice flags once.

    source_id: the rule, plan or search, or the person who flagged by hand. code: a reason that is no person's words.
    sealed: ciphertext of JSON {"reason", "detail"}.
    """

    privileges: ClassVar[str] = INSERT_ONLY

    item = models.ForeignKey(ReviewItem, on_delete=models.PROTECT, related_name="flags")
    source = models.CharField(max_length=10, choices=Source)
    source_id = models.CharField(max_length=64)
    severity = models.CharField(max_length=10, choices=Severity)
    code = models.CharField(max_length=64, blank=True)
    raised_by_id = models.UUIDField(null=True)
    raised_by = models.CharField(max_length=254)
    created = models.DateTimeField(default=clock.now, editable=False)
    sealed = models.BinaryField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "item", "source", "source_id"], name="one_flag_a_record_and_source"
            )
        ]
        indexes = [
            models.Index(fields=["tenant", "source", "source_id", "created"], name="review_flag_of_source")
        ]

    def __str__(self) -> str:
        return f"{self.source} {self.source_id}"


class ReviewStep(TenantModel):
    """What happened to an item, and who did it; never changed. sealed: ciphertext of the words, NULL for none.

    about_id: whom it concerns, as the one assigned. data: codes and ids.
    """

    privileges: ClassVar[str] = INSERT_ONLY

    item = models.ForeignKey(ReviewItem, on_delete=models.PROTECT, related_name="steps")
    seq = models.PositiveIntegerField()
    deed = models.CharField(max_length=12, choices=Deed)
    actor_id = models.UUIDField(null=True)
    actor = models.CharField(max_length=254)
    about_id = models.UUIDField(null=True)
    outcome = models.CharField(max_length=10, choices=Outcome, blank=True)
    data = models.JSONField(default=dict)
    sealed = models.BinaryField(null=True)
    created = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant", "item", "seq"], name="one_review_step_a_number")
        ]
        indexes = [models.Index(fields=["tenant", "deed", "created"], name="review_step_by_deed")]

    def __str__(self) -> str:
        return f"{self.seq} {self.deed}"


class Per(models.TextChoices):
    """The periods of a sampling plan, in UTC."""

    HOUR = "hour", _("an hour")
    DAY = "day", _("a day")
    WEEK = "week", _("a week")


class Measure(models.TextChoices):
    PERCENT = "percent", _("percent")
    COUNT = "count", _("records")


class Stratum(models.TextChoices):
    NONE = "", _("Of all records together")
    USER = "user", _("Of each person’s records")
    MODEL = "model", _("Of each model’s records")


class SamplePlan(TenantModel):
    """Which share of the records is looked at without a suspicion.

    sealed: ciphertext of JSON: the filters, as a group's id, and the secret that every period's seed comes from.
    counted_from: periods that end later are drawn; moves on when the plan is resumed.
    """

    privileges: ClassVar[str] = "SELECT, INSERT, UPDATE"

    name = models.CharField(max_length=80)
    measure = models.CharField(max_length=10, choices=Measure)
    size = models.DecimalField(max_digits=9, decimal_places=2)
    per = models.CharField(max_length=10, choices=Per)
    stratum = models.CharField(max_length=10, choices=Stratum, blank=True)
    severity = models.CharField(max_length=10, choices=Severity, default=Severity.LOW)
    sealed = models.BinaryField()
    created = models.DateTimeField(default=clock.now, editable=False)
    counted_from = models.DateTimeField(default=clock.now)
    paused = models.DateTimeField(null=True)
    retired = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                "tenant",
                Lower("name"),
                condition=models.Q(retired=None),
                name="one_sample_plan_of_a_name",
            )
        ]

    def __str__(self) -> str:
        return self.name


class SampleRun(TenantModel):
    """One period of a plan as it was drawn; with it anybody can draw again.

    population, picked: the records' ids, 16 bytes each, ascending; the population goes when its records are gone. seed: what they were ordered by. rule: how many were
    to be picked, from which filters, as JSON; sealed, for filters may name people.
    """

    privileges: ClassVar[str] = INSERT_ONLY

    plan = models.ForeignKey(SamplePlan, on_delete=models.PROTECT, related_name="runs")
    since = models.DateTimeField()
    until = models.DateTimeField()
    seed = models.BinaryField(max_length=32)
    population_count = models.PositiveIntegerField()
    population_digest = models.BinaryField(max_length=32)
    population = models.BinaryField()
    strata = models.BinaryField(
        help_text="The number of the stratum of each of the population, 4 bytes each."
    )
    picked_count = models.PositiveIntegerField()
    picked = models.BinaryField()
    rule = models.BinaryField()
    created = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant", "plan", "since"], name="one_sample_run_a_period")
        ]

    def __str__(self) -> str:
        return f"{self.plan_id} {self.since}"


class SampleDone(TenantModel):
    """That every record which a run picked is flagged. missing: those that were gone by then, or were nobody's to see."""

    privileges: ClassVar[str] = INSERT_ONLY

    run = models.OneToOneField(SampleRun, on_delete=models.PROTECT, related_name="done")
    flagged = models.PositiveIntegerField()
    missing = models.PositiveIntegerField()
    created = models.DateTimeField(default=clock.now, editable=False)

    def __str__(self) -> str:
        return str(self.run_id)
