"""The forms of cases. What is wrong with an entry, the services say; the forms bring it into shape."""

from datetime import UTC, datetime, time
from typing import Any
from uuid import UUID

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext_lazy

from audit.cases import deeds, work
from audit.cases.models import DeadlineState, MemberRole, Outcome, Severity, Typology
from audit.cases.opening import DAYS_TO_REPORT
from audit.cases.selectors import CaseView, Member
from console.pages.administration.forms import PageForm


def _words(label: Any, *, most: int = deeds.MOST_TEXT, rows: int = 3, **more: Any) -> forms.CharField:
    """Several lines. Their end is cut by no form: what is too long is refused with the words still there."""
    return forms.CharField(
        label=label, max_length=most, widget=forms.Textarea(attrs={"rows": rows, "maxlength": most}), **more
    )


class DetailsForm(PageForm):
    title = forms.CharField(label=pgettext_lazy("of a case", "Title"), max_length=deeds.MOST_TITLE)
    summary = _words(gettext_lazy("Summary: who, what, when, where, why and how"), rows=6, required=False)
    typology = forms.ChoiceField(
        label=pgettext_lazy("of a case", "Kind"), choices=Typology.choices, initial=Typology.OTHER
    )
    severity = forms.ChoiceField(
        label=pgettext_lazy("of a case", "Severity"), choices=Severity.choices, initial=Severity.MEDIUM
    )


class OpenForm(DetailsForm):
    """`reason` is asked for where records come with it."""

    reason = _words(gettext_lazy("Why do these records belong to the case?"), rows=2)
    days_to_report = forms.IntegerField(
        label=gettext_lazy("Days to report"),
        initial=DAYS_TO_REPORT,
        min_value=1,
        max_value=3650,
        required=False,
        help_text=gettext_lazy("You are reminded seven, three and one days before. Empty: no deadline yet."),
    )

    def __init__(self, *args: Any, has_records: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not has_records:
            del self.fields["reason"]


class ChangeForm(DetailsForm):
    """expected: the version that was looked at."""

    owner_id = forms.TypedChoiceField(
        label=pgettext_lazy("of a case", "Owner"), coerce=UUID, empty_value=None, required=False
    )
    expected = forms.CharField(widget=forms.HiddenInput)

    def __init__(self, *args: Any, view: CaseView, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        leads = [(str(each.user_id), each.label) for each in view.members if each.role == MemberRole.LEAD]
        owner = (str(view.version.owner_id or ""), view.owner or _("Nobody"))
        field = self.fields["owner_id"]
        assert isinstance(field, forms.TypedChoiceField)
        field.choices = list(dict([owner, *leads]).items())
        if not view.may_lead:
            field.choices = [owner]


class JoinForm(PageForm):
    """Which case the records join, and why."""

    case_id = forms.TypedChoiceField(
        label=gettext_lazy("Case"),
        coerce=UUID,
        widget=forms.RadioSelect,
        error_messages={"required": gettext_lazy("Choose a case, or open a new one.")},
    )
    reason = _words(gettext_lazy("Why do these records belong to the case?"), rows=2)

    def __init__(self, *args: Any, cases: list[tuple[Any, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["case_id"]
        assert isinstance(field, forms.TypedChoiceField)
        field.choices = [(str(case.pk), f"{case.number} · {title}") for case, title in cases]


class RecordForm(PageForm):
    """A record by its id, as it stands on its page."""

    request_id = forms.UUIDField(
        label=gettext_lazy("Request id"),
        error_messages={"invalid": gettext_lazy("This is no request id. Copy it from the record’s page.")},
    )
    reason = _words(gettext_lazy("Why does it belong to the case?"), rows=2)


class ReasonForm(PageForm):
    reason = _words(gettext_lazy("Reason"))


class NoteForm(PageForm):
    text = _words(gettext_lazy("Note"), most=work.MOST_NOTE)


class FileForm(PageForm):
    file = forms.FileField(
        label=gettext_lazy("File"),
        error_messages={
            "required": gettext_lazy("Choose a file of at most 10 MB."),
            "empty": gettext_lazy("This file is empty. Choose another."),
        },
    )


class MemberForm(PageForm):
    user_id = forms.TypedChoiceField(
        label=gettext_lazy("Person"),
        coerce=UUID,
        error_messages={"invalid_choice": gettext_lazy("This person cannot be put in. Choose another.")},
    )
    role = forms.ChoiceField(
        label=pgettext_lazy("role in a case", "Role"), choices=MemberRole.choices, initial=MemberRole.MEMBER
    )

    def __init__(self, *args: Any, candidates: list[Member], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["user_id"]
        assert isinstance(field, forms.TypedChoiceField)
        field.choices = [("", _("Choose…")), *((str(each.user_id), each.label) for each in candidates)]


class DeadlineForm(PageForm):
    """The end of a day, UTC."""

    label = forms.CharField(label=gettext_lazy("What is due"), max_length=work.MOST_LABEL)
    due = forms.DateField(
        label=gettext_lazy("On"), widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"})
    )
    deadline_id = forms.UUIDField(required=False, widget=forms.HiddenInput)

    def clean_due(self) -> datetime:
        return datetime.combine(self.cleaned_data["due"], time(23, 59, 59), tzinfo=UTC)


class DeadlineEndForm(PageForm):
    deadline_id = forms.UUIDField(widget=forms.HiddenInput)
    state = forms.ChoiceField(
        choices=[(each.value, each.label) for each in (DeadlineState.MET, DeadlineState.DROPPED)]
    )
    reason = forms.CharField(
        label=gettext_lazy("Reason"),
        required=False,
        max_length=1000,
        help_text=gettext_lazy("Needed when it is dropped."),
    )


class DecisionForm(PageForm):
    outcome = forms.ChoiceField(
        label=gettext_lazy("What is to be done?"),
        choices=Outcome.choices,
        widget=forms.RadioSelect,
        error_messages={"required": gettext_lazy("Choose what is to be done.")},
    )
    reason = _words(
        gettext_lazy("Reason"), error_messages={"required": gettext_lazy("Give the reason of the decision.")}
    )
    expected = forms.CharField(widget=forms.HiddenInput)


class SignatureForm(PageForm):
    decision_id = forms.UUIDField(widget=forms.HiddenInput)
    verdict = forms.ChoiceField(
        label=gettext_lazy("Your signature"),
        choices=[
            ("approve", gettext_lazy("I sign this decision")),
            ("return", gettext_lazy("I send it back")),
        ],
        widget=forms.RadioSelect,
        error_messages={"required": gettext_lazy("Choose whether you sign it.")},
    )
    reason = _words(gettext_lazy("Reason"))


class NothingForm(PageForm):
    """An action that asks for nothing more."""
