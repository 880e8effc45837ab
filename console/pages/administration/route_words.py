"""Routes in words: what a rule's conditions say, and why a deployment was chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext_lazy

from console.pages import labels
from tenants.models import Group

LANGUAGES: dict[str, str | Promise] = {
    "zh": gettext_lazy("Chinese"),
    "en": gettext_lazy("English"),
    "other": gettext_lazy("Another language"),
}
TASKS: dict[str, str | Promise] = {
    "code": gettext_lazy("Programs"),
    "maths": gettext_lazy("Mathematics"),
    "translation": gettext_lazy("Translation"),
    "summary": gettext_lazy("Summaries"),
    "tools": gettext_lazy("Tools are offered"),
    "json": gettext_lazy("The answer is to be JSON"),
}
WEEKDAYS: tuple[str | Promise, ...] = (
    gettext_lazy("Monday"),
    gettext_lazy("Tuesday"),
    gettext_lazy("Wednesday"),
    gettext_lazy("Thursday"),
    gettext_lazy("Friday"),
    gettext_lazy("Saturday"),
    gettext_lazy("Sunday"),
)
CLASSES: dict[str, str | Promise] = {
    "": pgettext_lazy("class of a rule", "None"),
    "precise": pgettext_lazy("class of a rule", "Precise"),
    "fast": pgettext_lazy("class of a rule", "Fast"),
}


def condition_lines(conditions: Mapping[str, Any]) -> list[str]:
    """Each condition of a rule as a line."""
    found = []
    for name, words in _LISTS.items():
        if name in conditions:
            found.append(", ".join(words(conditions[name])))
    least, most = conditions.get("least_tokens"), conditions.get("most_tokens")
    if least is not None:
        found.append(_("From %(count)s tokens") % {"count": least})
    if most is not None:
        found.append(_("Up to %(count)s tokens") % {"count": most})
    if "from_hour" in conditions:
        hours = {"since": conditions["from_hour"], "until": conditions["to_hour"]}
        found.append(_("From %(since)s:00 to %(until)s:00") % hours)
    if "difficulty_below" in conditions:
        found.append(_("Difficulty below %(most)s") % {"most": conditions["difficulty_below"]})
    return found


def _groups(ids: list[str]) -> list[str]:
    names = dict(Group.objects.filter(pk__in=[UUID(each) for each in ids]).values_list("pk", "name"))
    return [names.get(UUID(each), _("a group that is gone")) for each in ids]


_LISTS: dict[str, Callable[[list[Any]], list[str]]] = {
    "groups": _groups,
    "channels": lambda codes: [str(labels.CHANNELS[code]) for code in codes],
    "languages": lambda codes: [str(LANGUAGES[code]) for code in codes],
    "tasks": lambda codes: [str(TASKS[code]) for code in codes],
    "weekdays": lambda codes: [str(WEEKDAYS[code]) for code in codes],
}
