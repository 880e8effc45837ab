"""Small pieces that templates share: icons, states, times, numbers, the sidebar."""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

from django import template
from django.template.defaultfilters import floatformat
from django.templatetags.static import static
from django.utils.formats import number_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from audit.search import snippets
from audit.search.query import Phrase, Prefix, Word
from audit.selectors import RecordView
from console.pages import branding as brand
from console.pages import labels, navigation, strings, tabs
from console.pages.administration.areas import AREAS as ADMINISTRATION
from console.pages.audit.areas import AREAS as AUDIT
from tenants.quotas import selectors as quotas

register = template.Library()


@register.simple_tag
def icon(name: str) -> SafeString:
    """A decorative icon from the sprite; the words beside it carry the meaning."""
    return format_html(
        '<svg class="icon" aria-hidden="true" focusable="false"><use href="{}#{}"></use></svg>',
        static("img/icons.svg"),
        name,
    )


@register.simple_tag
def state(name: str) -> SafeString:
    """How a request ended, as shape, word and colour."""
    return look(labels.state(name))


@register.simple_tag
def look(state: labels.State) -> SafeString:
    """A state as shape, word and colour."""
    return format_html('<span class="chip {}">{}{}</span>', state.tone, icon(state.icon), state.label)


@register.filter
def initials(name: str) -> str:
    """One or two letters that stand for somebody: of the first and the last word, or of the address."""
    words = name.partition("@")[0].replace(".", " ").replace("-", " ").split() or ["?"]
    if not words[0][0].isascii():
        return words[0][0]  # A Chinese family name.
    return "".join(word[0] for word in dict.fromkeys((words[0], words[-1]))).upper()


@register.simple_tag
def channel(name: str) -> str:
    return str(labels.CHANNELS.get(name, name))


@register.simple_tag
def moment(when: datetime | None, *, seconds: bool = True, day: bool = False) -> SafeString:
    """A time: in UTC without scripts, in the reader's own zone with them, and then in UTC on hover.

    day: only which one; the time of it on hover.
    """
    if when is None:
        return SafeString("–")
    utc = when.astimezone(UTC)
    whole = f"{utc:%Y-%m-%d %H:%M:%S}" if seconds else f"{utc:%Y-%m-%d %H:%M}"
    precision = "days" if day else "seconds" if seconds else "minutes"
    shown = f"{utc:%Y-%m-%d}" if day else f"{whole} UTC"
    return format_html(
        '<time datetime="{}" title="{} UTC" data-local="{}">{}</time>',
        utc.isoformat(),
        whole,
        precision,
        shown,
    )


@register.filter
def measure(value: float | str | None, unit: str = "") -> str:
    """A figure with its unit, or a dash where there is none. More than a second is told in seconds."""
    # A template gives "" for a figure of a completion that is not there yet.
    if value is None or isinstance(value, str):
        return "–"
    if unit == "ms" and value >= 1000:
        return f"{floatformat(value / 1000, 2)} s"
    shown = floatformat(value, "-1g")
    return f"{shown} {unit}" if unit else shown


@register.filter
def given_beside(view: RecordView) -> list[tuple[str, list[dict[str, Any]]]]:
    """What the model was given beside what was asked, kind by kind, as [{name, facts, text}]."""
    kinds = ((_("Passages retrieved"), view.passages), (_("Attachments"), view.attachments))
    return [(words, [_piece(piece) for piece in pieces]) for words, pieces in kinds if pieces]


def _piece(piece: dict[str, Any]) -> dict[str, Any]:
    named = next((field for field in ("name", "document") if field in piece), "")
    facts = {field: value for field, value in piece.items() if field not in (named, "text")}
    return {"name": piece.get(named, ""), "facts": facts, "text": piece.get("text", "")}


@register.filter
def whole(value: int) -> str:
    """A count with its thousands apart."""
    return number_format(value, use_l10n=True, force_grouping=True)


@register.filter
def event(kind: str) -> str:
    return labels.event(kind)


@register.filter
def snippet_field(code: str) -> str:
    return str(labels.SNIPPET_FIELDS.get(code, code))


@register.filter
def marked(text: str, terms: Collection[Word | Prefix | Phrase] | None) -> SafeString | str:
    """A text with what was searched for marked: the `terms` of a query; none mark nothing."""
    if not terms:
        return text
    pieces = (("<mark>{}</mark>" if is_it else "{}", piece) for piece, is_it in snippets.marked(text, terms))
    return SafeString("".join(format_html(form, piece) for form, piece in pieces))


@register.filter
def route_reason(code: str) -> str:
    return labels.route_reason(code)


@register.filter
def role_label(role: str) -> str:
    return labels.role(role)


@register.filter
def cell(row: dict[str, str], column: str) -> str:
    """What a row of somebody's file says in a column that is known only now."""
    return row.get(column) or "–"


@register.simple_tag(takes_context=True)
def sidebar(context: dict[str, Any]) -> navigation.Sidebar:
    """What the signed-in person can go to."""
    return navigation.sidebar(context["request"])


@register.simple_tag(takes_context=True)
def branding(context: dict[str, Any]) -> brand.Branding | None:
    """How the tenant of the page shows itself; None on pages of no tenant."""
    actor = getattr(context.get("request"), "actor", None)
    return brand.branding_of(actor) if actor else None


@register.simple_tag(takes_context=True)
def quota_banner(context: dict[str, Any]) -> quotas.Banner | None:
    """That a limit which binds the signed-in person is nearly or quite used up."""
    return quotas.banner(context["request"].actor)


@register.simple_tag(takes_context=True)
def administration_areas(context: dict[str, Any]) -> list[tabs.Tab]:
    """The tabs of the administration that the signed-in person may open."""
    return tabs.tabs(context["request"], context["request"].actor, ADMINISTRATION)


@register.simple_tag(takes_context=True)
def audit_areas(context: dict[str, Any]) -> list[tabs.Tab]:
    """The tabs of the audit that the signed-in person may open."""
    return tabs.tabs(context["request"], context["request"].actor, AUDIT)


@register.simple_tag
def client_strings(page: str) -> dict[str, str]:
    """The translated words that a page's scripts need."""
    return strings.for_page(page)
