"""When a rule holds. Conditions are a JSON object with these names and no others; all of them must hold.

channels, languages, tasks, weekdays, groups: lists of which one must be so. least_tokens, most_tokens: of the prompt, as
estimated. from_hour, to_hour: in the installation's time zone, over midnight too. difficulty_below: of `difficulty`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any
from uuid import UUID

from django.utils import timezone
from django.utils.translation import gettext as _

from inference.routing.ask import LANGUAGES, TASKS, Ask
from tenants.errors import Refused

CHANNELS = ("chat", "api")
GROUPS_MOST = 50
TOKENS_MOST = 10_000_000

_LISTS: dict[str, Callable[[Any], bool]] = {
    "channels": lambda value: value in CHANNELS,
    "languages": lambda value: value in LANGUAGES,
    "tasks": lambda value: value in TASKS,
    "weekdays": lambda value: _is_whole(value, 0, 6),
    "groups": lambda value: _is_id(value),
}
_NUMBERS: dict[str, Callable[[Any], bool]] = {
    "least_tokens": lambda value: _is_whole(value, 0, TOKENS_MOST),
    "most_tokens": lambda value: _is_whole(value, 0, TOKENS_MOST),
    "from_hour": lambda value: _is_whole(value, 0, 23),
    "to_hour": lambda value: _is_whole(value, 1, 24),
    "difficulty_below": lambda value: isinstance(value, float | int) and 0 <= value <= 1,
}


def cleaned(value: Mapping[str, Any]) -> dict[str, Any]:
    """The conditions as they are kept: known names, known values, nothing that says nothing. Raises Refused."""
    found: dict[str, Any] = {}
    for name, each in value.items():
        if each in (None, "", []):
            continue
        if name in _LISTS:
            is_good = isinstance(each, list) and len(each) <= GROUPS_MOST and all(map(_LISTS[name], each))
            each = sorted(set(each), key=str) if is_good else each
        else:
            is_good = name in _NUMBERS and not isinstance(each, bool) and _NUMBERS[name](each)
        if not is_good:
            raise Refused("condition_invalid", _("This condition cannot be understood."), name)
        found[name] = each
    if found.get("least_tokens", 0) > found.get("most_tokens", TOKENS_MOST):
        message = _("No prompt is at least this long and at most that long. Change one of the two.")
        raise Refused("condition_invalid", message, "most_tokens")
    if ("from_hour" in found) != ("to_hour" in found):
        message = _("Enter both hours, or neither.")
        raise Refused("condition_invalid", message, "to_hour" if "from_hour" in found else "from_hour")
    return found


def hold(conditions: Mapping[str, Any], ask: Ask, groups: Callable[[], Collection[UUID]]) -> bool:
    """Whether all hold of a request. groups: those of whoever asks, fetched only where a condition is about them.

    Who asks for a class by name has decided about the difficulty themselves.
    """
    at = timezone.localtime(ask.at)
    least, most = conditions.get("least_tokens", 0), conditions.get("most_tokens", TOKENS_MOST)
    return (
        _among(conditions, "channels", ask.channel)
        and _among(conditions, "languages", ask.language)
        and ("tasks" not in conditions or not ask.tasks.isdisjoint(conditions["tasks"]))
        and _among(conditions, "weekdays", at.weekday())
        and _in_hours(conditions, at.hour)
        and least <= ask.tokens <= most
        and (bool(ask.wanted) or ask.difficulty < conditions.get("difficulty_below", 2))
        and (
            "groups" not in conditions
            or not {str(each) for each in groups()}.isdisjoint(conditions["groups"])
        )
    )


def _among(conditions: Mapping[str, Any], name: str, value: Any) -> bool:
    return name not in conditions or value in conditions[name]


def _in_hours(conditions: Mapping[str, Any], hour: int) -> bool:
    if "from_hour" not in conditions:
        return True
    since, until = conditions["from_hour"], conditions["to_hour"]
    return since <= hour < until if since < until else hour >= since or hour < until


def _is_whole(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_id(value: Any) -> bool:
    try:
        return isinstance(value, str) and str(UUID(value)) == value
    except ValueError:
        return False
