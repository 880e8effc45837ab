"""A recorded conversation as turns to be read: who speaks, in the active language, and what was said to the letter."""

from typing import Any, NamedTuple

from django.utils.translation import gettext as _


class Turn(NamedTuple):
    role: str
    text: str


def of_message(message: dict[str, Any]) -> list[Turn]:
    """One message of a chat, with what an earlier answer thought and called as turns of their own."""
    roles = {
        "system": _("System"),
        "user": _("Question"),
        "assistant": _("Earlier answer"),
        "tool": _("Result of a tool"),
    }
    role = roles.get(message.get("role", ""), message.get("role", ""))
    thought, said = message.get("reasoning_content"), message.get("content")
    calls = [call["function"] for call in message.get("tool_calls") or []]
    reasoning = _("Reasoning")
    return [
        *([Turn(f"{role} · {reasoning}", thought)] if thought else []),
        *([Turn(role, said or "")] if said or not calls else []),
        *(Turn(f"{role} · {called(call['name'])}", call["arguments"]) for call in calls),
    ]


def called(name: str) -> str:
    """The role under which a call of a tool is read."""
    return _("Call of %(function)s") % {"function": name}
