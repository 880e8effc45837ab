"""What was asked and answered, turn by turn, exactly as it is recorded."""

from typing import Any

from django.utils.translation import gettext as _

from audit.cases.models import Lost
from audit.output import Kind, Part
from audit.selectors import RecordView
from audit.turns import Turn, called, of_message


def turns(view: RecordView) -> list[Turn]:
    """Question and answer of an opened record, with what the model was given beside them; in the active language."""
    return [
        *_asked(view.input),
        *(
            Turn(_("Passage of %(document)s") % {"document": each.get("document", "")}, each.get("text", ""))
            for each in view.passages
        ),
        *(
            Turn(_("Attachment %(name)s") % {"name": each.get("name", "")}, each.get("text", ""))
            for each in view.attachments
        ),
        *(_answered(part) for part in view.output),
    ]


def channel(code: str) -> str:
    """What a request came by, in the active language."""
    known = {"chat": _("Chat"), "api": _("API")}
    return known.get(code, code)


def lost(why: str) -> str:
    """Why what was written is not shown, in words; "" where it is."""
    return str(dict(Lost.choices)[why]) if why else ""


def _asked(asked: Any) -> list[Turn]:
    if isinstance(asked, list) and asked and all(isinstance(each, int) for each in asked):
        return [Turn(_("Prompt"), str(asked))]
    if isinstance(asked, list):
        return [
            turn for each in asked for turn in (of_message(each) if isinstance(each, dict) else _asked(each))
        ]
    return [Turn(_("Prompt"), asked or "")]


def _answered(part: Part) -> Turn:
    kinds = {
        Kind.TEXT: _("Answer"),
        Kind.REASONING: f"{_('Answer')} · {_('Reasoning')}",
        Kind.TOOL_CALL: f"{_('Answer')} · {called(part.name)}",
    }
    number = f" {part.choice + 1}" if part.choice else ""
    return Turn(kinds[part.kind] + number, part.text)
