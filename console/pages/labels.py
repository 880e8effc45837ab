"""Words, shapes and colours for states that the records name by code."""

from typing import NamedTuple

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from tenants.roles import Role


class State(NamedTuple):
    tone: str  # A class of .chip: "ok", "warn", "bad", "busy" or "" for neutral.
    icon: str  # A symbol of the icon sprite.
    label: str | Promise


STATES: dict[str, State] = {
    "running": State("busy", "s-busy", _("Running")),
    "completed": State("ok", "s-ok", _("Completed")),
    "stopped": State("", "s-stop", _("Stopped")),
    "disconnected": State("warn", "s-off", _("Disconnected")),
    "interrupted": State("warn", "s-warn", _("Interrupted")),
    "timed_out": State("warn", "s-time", _("Timed out")),
    "failed": State("bad", "s-bad", _("Failed")),
    "refused": State("bad", "s-no", _("Refused")),
}

MEMBER_STATES: dict[str, State] = {
    "active": State("ok", "s-ok", _("Active")),
    "disabled": State("", "s-no", _("Disabled")),
}

CHANNELS: dict[str, str | Promise] = {"chat": _("Chat"), "api": _("API")}

ROUTE_REASONS: dict[str, str | Promise] = {
    "default": pgettext_lazy("why a route was taken", "default"),
    "named": pgettext_lazy("why a route was taken", "asked for by name"),
}


def state(name: str) -> State:
    """The look of a status; one that has no look yet is shown by its code."""
    return STATES.get(name) or State("", "s-off", name or "–")


def role(name: str) -> str:
    return str(dict(Role.choices).get(name, name))
