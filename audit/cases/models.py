"""The tables of cases. Insert-only: what is so now is what was written last, and what was before stays.

Plain columns hold ids, codes, dates and sizes. Titles, summaries, notes, reasons, names of files and files are
ciphertext under the key of their case. People stand here by their ids, without foreign keys: neither an error nor the
deletion of an account may tell that there is a case.
"""

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from tenants import clock
from tenants.models import TenantModel


class Status(models.TextChoices):
    OPEN = "open", pgettext_lazy("state of a case", "Open")
    UNDER_REVIEW = "under_review", _("Under review")
    AWAITING = "awaiting_signature", _("Waits for the second signature")
    REPORTED = "closed_reported", _("Closed, reported")
    NOT_REPORTED = "closed_not_reported", _("Closed, not reported")
    REOPENED = "reopened", _("Reopened")


CLOSED = (Status.REPORTED, Status.NOT_REPORTED)


class Severity(models.TextChoices):
    LOW = "low", pgettext_lazy("severity", "Low")
    MEDIUM = "medium", pgettext_lazy("severity", "Medium")
    HIGH = "high", pgettext_lazy("severity", "High")
    CRITICAL = "critical", pgettext_lazy("severity", "Critical")


class Typology(models.TextChoices):
    """What kind of matter it is; sealed with the title."""

    STRUCTURING = "structuring", _("Structuring below a threshold")
    PASS_THROUGH = "pass_through", _("Pass-through or mule account")
    SHELLS = "shells", _("Shell companies and hidden ownership")
    TRADE = "trade", _("Trade-based laundering")
    VIRTUAL_ASSETS = "virtual_assets", _("Virtual assets")
    SANCTIONS = "sanctions", _("Sanctions evasion")
    TERRORISM = "terrorism", _("Terrorist financing")
    FRAUD = "fraud", _("Fraud or exploitation")
    CORRUPTION = "corruption", _("Bribery or corruption")
    STAFF = "staff", _("Misconduct of staff")
    LEAK = "leak", _("Leak of confidential data")
    OTHER = "other", pgettext_lazy("kind of a case", "Other")


class MemberRole(models.TextChoices):
    LEAD = "lead", pgettext_lazy("role in a case", "Lead")
    MEMBER = "member", pgettext_lazy("role in a case", "Member")
    APPROVER = "approver", pgettext_lazy("role in a case", "Approver")


class Outcome(models.TextChoices):
    REPORT = "report", _("Report to the authority")
    NO_REPORT = "no_report", _("No report")


class DeadlineState(models.TextChoices):
    OPEN = "open", pgettext_lazy("state of a deadline", "Open")
    MET = "met", _("Met")
    DROPPED = "dropped", _("Dropped")


class Deed(models.TextChoices):
    """What can happen to a case; the words stand in its timeline."""

    OPENED = "opened", _("Case opened")
    CHANGED = "changed", _("Details changed")
    RECORDS_LINKED = "records_linked", _("Records joined the case")
    RECORD_UNLINKED = "record_unlinked", _("Record taken out of the case")
    NOTED = "noted", _("Note written")
    FILE_ADDED = "file_added", _("File attached")
    MEMBER_SET = "member_set", _("Member put in or given a role")
    MEMBER_REMOVED = "member_removed", _("Member taken out")
    DEADLINE_SET = "deadline_set", _("Deadline set")
    DEADLINE_CLOSED = "deadline_closed", _("Deadline met or dropped")
    REMINDED = "reminded", _("Reminder of a deadline")
    REVIEW_STARTED = "review_started", _("Review started")
    DECIDED = "decided", _("Decision taken")
    WITHDRAWN = "withdrawn", _("Decision withdrawn")
    SENT_BACK = "sent_back", _("Decision sent back")
    SIGNED = "signed", _("Decision signed by a second person")
    REOPENED = "reopened", _("Case reopened")


class Looked(models.TextChoices):
    """How somebody came to see something of a case."""

    LISTED = "listed", _("Saw it in the list")
    VIEWED = "viewed", _("Opened the case")
    FILE = "file", _("Downloaded a file")
    REPORT = "report", _("Made a report")
    BUNDLE = "bundle", _("Exported with proof")
    TABLE = "table", _("Exported in a list of cases")


class Lost(models.TextChoices):
    """Why what was written is not shown."""

    ALTERED = "altered", _("This was altered in the database, so it is not shown.")
    DESTROYED = "destroyed", _("The key of this was destroyed, so nobody can read it any more.")


class Case(TenantModel):
    """number: the year and random digits, so that no number says how many others there are."""

    privileges: ClassVar[str] = "SELECT, INSERT"

    number = models.CharField(max_length=11)
    opened_by_id = models.UUIDField(null=True)
    created = models.DateTimeField(default=clock.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "number"], name="one_case_of_a_number")]

    def __str__(self) -> str:
        return self.number


class OfCase(TenantModel):
    """The base of what a deed writes: `seq` is the deed's place in the case's timeline, `author_id` who did it."""

    privileges: ClassVar[str] = "SELECT, INSERT"

    case = models.ForeignKey(Case, on_delete=models.CASCADE, related_name="+")
    seq = models.IntegerField()
    author_id = models.UUIDField(null=True)
    created = models.DateTimeField(default=clock.now)

    class Meta:
        abstract = True


class CaseEvent(OfCase):
    """The timeline. `sealed`: {"by": who, …} as the deed has it. Two deeds cannot take one place."""

    kind = models.CharField(max_length=20, choices=Deed)
    sealed = models.BinaryField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["case", "seq"], name="one_deed_at_a_place_of_a_case")]

    def __str__(self) -> str:
        return f"{self.case_id} {self.seq} {self.kind}"


class CaseVersion(OfCase):
    """Where the case stands. `sealed`: {"title", "summary", "typology"}."""

    status = models.CharField(max_length=20, choices=Status)
    severity = models.CharField(max_length=10, choices=Severity)
    owner_id = models.UUIDField(null=True)
    sealed = models.BinaryField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["case", "seq"], name="one_version_a_deed_of_a_case")]

    def __str__(self) -> str:
        return f"{self.case_id} {self.seq} {self.status}"


class CaseMember(OfCase):
    """role: "" when the person was taken out."""

    user_id = models.UUIDField()
    role = models.CharField(max_length=10, choices=MemberRole, blank=True)

    class Meta:
        indexes = [models.Index(fields=["tenant", "user_id"])]

    def __str__(self) -> str:
        return f"{self.case_id} {self.user_id} {self.role}"


class CaseRecord(OfCase):
    """A record that joined (or left) the case. subjects: the people whose record it is; for good, also when it left."""

    request_id = models.UUIDField()
    is_linked = models.BooleanField()
    subjects = ArrayField(models.UUIDField(), default=list)
    sealed = models.BinaryField(help_text="Why: {“reason”}.")

    class Meta:
        indexes = [
            models.Index(fields=["case", "request_id"]),
            GinIndex(fields=["subjects"], name="audit_cases_subjects"),
        ]

    def __str__(self) -> str:
        return f"{self.case_id} {self.request_id}"


class CaseDeadline(OfCase):
    """A state of a deadline; `deadline_id` names it through all of them. `sealed`: {"label", "reason"}."""

    deadline_id = models.UUIDField()
    due = models.DateTimeField()
    state = models.CharField(max_length=10, choices=DeadlineState)
    sealed = models.BinaryField()

    def __str__(self) -> str:
        return f"{self.case_id} {self.due}"


class CaseFile(OfCase):
    """An attachment: `facts` is ciphertext of {"name", "media_type", "sha256"}, `content` of the file."""

    size = models.BigIntegerField()
    facts = models.BinaryField()
    content = models.BinaryField()

    def __str__(self) -> str:
        return f"{self.case_id} {self.size} bytes"


class CaseDecision(OfCase):
    """What somebody decided, before the second person has signed. `sealed`: {"outcome", "reason", "by"}."""

    sealed = models.BinaryField()

    def __str__(self) -> str:
        return f"{self.case_id} {self.seq}"


class CaseSignature(OfCase):
    """What the second person says to a decision, once. A trigger refuses that of whoever took it. `sealed`: {"reason", "by"}."""

    decision = models.ForeignKey(CaseDecision, on_delete=models.CASCADE, related_name="+")
    is_approved = models.BooleanField()
    sealed = models.BinaryField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["decision"], name="one_signature_a_decision")]

    def __str__(self) -> str:
        return f"{self.decision_id} {self.is_approved}"


class CaseReading(TenantModel):
    """Who saw something of a case. about: the file, where it was one."""

    privileges: ClassVar[str] = "SELECT, INSERT"

    case = models.ForeignKey(Case, on_delete=models.CASCADE, related_name="+")
    user_id = models.UUIDField(null=True)
    how = models.CharField(max_length=10, choices=Looked)
    about = models.UUIDField(null=True)
    sealed = models.BinaryField(help_text="{“by”: who, …}")
    created = models.DateTimeField(default=clock.now)

    class Meta:
        indexes = [models.Index(fields=["case", "user_id", "created"])]

    def __str__(self) -> str:
        return f"{self.case_id} {self.how}"


class CaseReminder(TenantModel):
    """That people were reminded of a deadline, once for each number of days before it."""

    privileges: ClassVar[str] = "SELECT, INSERT"

    case = models.ForeignKey(Case, on_delete=models.CASCADE, related_name="+")
    deadline_id = models.UUIDField()
    due = models.DateTimeField()
    days = models.SmallIntegerField()
    created = models.DateTimeField(default=clock.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["deadline_id", "due", "days"], name="one_reminder_a_threshold")
        ]

    def __str__(self) -> str:
        return f"{self.deadline_id} {self.days}"
