"""A report for people, as PDF in the active language.

The typeface is part of the file, so that Chinese shows wherever it is read. What it has no shape for, and what shows
nothing, is written as its code point, [U+1F600]; the lines for programs hold the text as it is.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from io import BytesIO
from typing import Any
from xml.sax.saxutils import escape

from django.utils.translation import gettext as _
from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, HRFlowable, Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

from audit.cases.models import Deed, Outcome, Severity, Status, Typology
from audit.cases.report import texts
from audit.cases.report.facts import Facts, Reported
from audit.cases.selectors import Event

_FONT = "CustosReport"
_INK, _QUIET, _LINE = HexColor("#1c2330"), HexColor("#5b6472"), HexColor("#c9ced6")
_MARGIN = 20 * mm
_SPACES = " \u00a0"


def render(facts: Facts) -> bytes:
    _load_font()
    out = BytesIO()
    title = _("Case report %(number)s") % {"number": facts.case.number}
    document = SimpleDocTemplate(
        out,
        pagesize=A4,
        leftMargin=_MARGIN,
        rightMargin=_MARGIN,
        topMargin=_MARGIN,
        bottomMargin=_MARGIN,
        invariant=1,  # The same case makes the same bytes: no time of making, no random id.
        title=title,
        author="Custos",
    )
    footer = _("Confidential: telling those concerned is an offence.")
    document.build(
        list(_story(facts, title)),
        canvasmaker=lambda *args, **kwargs: _Numbered(*args, footer=f"{title} · {footer}", **kwargs),
    )
    return out.getvalue()


def printable(text: str) -> str:
    """The text as the typeface can show it; what it cannot is written as [U+…]."""
    _load_font()
    glyphs = pdfmetrics.getFont(_FONT).face.charToGlyph
    return "".join(
        each
        if each in "\n\t" or (ord(each) in glyphs and (each.isprintable() or each in _SPACES))
        else f"[U+{ord(each):04X}]"
        for each in text.replace("\r\n", "\n")
    )


class _Numbered(Canvas):
    """Writes the foot of each page when it is known how many there are."""

    def __init__(self, *args: Any, footer: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._footer = footer
        self._pages: list[dict[str, Any]] = []

    def showPage(self) -> None:
        self._pages.append(dict(self.__dict__))
        self._startPage()

    def save(self) -> None:
        for page in self._pages:
            self.__dict__.update(page)
            self.setFont(_FONT, 7.5)
            self.setFillColor(_QUIET)
            self.drawString(_MARGIN, 10 * mm, self._footer)
            number = _("Page %(number)d of %(count)d") % {
                "number": self._pageNumber,
                "count": len(self._pages),
            }
            self.drawRightString(A4[0] - _MARGIN, 10 * mm, number)
            super().showPage()
        super().save()


def _story(facts: Facts, title: str) -> Iterator[Flowable]:
    view = facts.view
    yield _heading(title, size=18)
    yield _paragraph(view.title, size=13)
    yield from _pairs(
        [
            (_("Workspace"), facts.tenant),
            (_("Status"), _label(Status, view.version.status)),
            (_("Severity"), _label(Severity, view.version.severity)),
            (_("Kind"), _label(Typology, view.typology)),
            (_("Opened"), f"{_time(facts.case.created)} · {view.opened_by}"),
            (_("Owner"), view.owner),
            (_("As of"), _("deed %(seq)d, %(time)s") % {"seq": facts.seq, "time": _time(facts.as_of)}),
        ]
    )
    yield from _narrative(facts)
    yield from _decisions(facts)
    yield from _records(facts)
    yield from _files(facts)
    yield from _timeline(view.timeline)
    yield from _proof(facts)


def _narrative(facts: Facts) -> Iterator[Flowable]:
    """The six questions of a report of suspicious activity."""
    view, times = facts.view, facts.times
    known = [each.summary for each in facts.records if each.summary]
    places = sorted(
        {" · ".join(filter(None, (texts.channel(each.channel), each.client_address))) for each in known}
    )
    models = sorted({f"{each.model} ({each.model_version})" for each in known})
    taken = view.decisions[-1] if view.decisions else None
    yield _heading(_("Who"))
    yield from _lines(facts.subjects or [_("Nobody whose record could be read.")])
    yield _heading(_("What"))
    yield from _lines([texts.lost(view.lost) or view.summary or _("No summary was written.")])
    yield _heading(_("When"))
    yield from _lines([f"{_time(times[0])} – {_time(times[1])}" if times else "–"])
    yield _heading(_("Where"))
    yield from _lines([*places, *models] or ["–"])
    yield _heading(_("Why"))
    yield from _lines(
        [texts.lost(taken.lost) or taken.reason if taken else _("No decision has been taken yet.")]
    )
    yield _heading(_("How"))
    yield from _lines(dict.fromkeys(each.told_reason for each in facts.records))


def _decisions(facts: Facts) -> Iterator[Flowable]:
    yield _heading(_("Decision and signatures"))
    if not facts.view.decisions:
        yield _paragraph(_("No decision has been taken yet."))
    for each in facts.view.decisions:
        pairs = [
            (_("Decision"), _label(Outcome, each.outcome)),
            (_("Decided by"), f"{each.by} · {_time(each.created)}"),
            (_("Reason"), texts.lost(each.lost) or each.reason),
        ]
        if signed := each.signature:
            by = _("Signed by") if signed.is_approved else _("Sent back by")
            reason = texts.lost(signed.lost) or signed.reason
            pairs += [(by, f"{signed.by} · {_time(signed.created)}"), (_("Reason"), reason)]
        else:
            pairs.append((_("Signed by"), _("not signed")))
        yield from _pairs(pairs)


def _records(facts: Facts) -> Iterator[Flowable]:
    yield _heading(_("Records, with their exact text"))
    for number, each in enumerate(facts.records, start=1):
        yield _heading(f"{number}. {each.request_id}", size=10.5)
        if each.summary:
            yield from _pairs(
                [
                    (_("User"), each.summary.user_label),
                    (_("Time"), _time(each.summary.created)),
                    (_("Model"), f"{each.summary.model} ({each.summary.model_version})"),
                    (_("Why in this case"), each.told_reason),
                ]
            )
        if each.view is None or not each.is_readable:
            yield _paragraph(_gone(each))
            continue
        for turn in texts.turns(each.view):
            yield _paragraph(turn.role, size=8, color=_QUIET)
            yield from _lines([turn.text])


def _files(facts: Facts) -> Iterator[Flowable]:
    if facts.view.files:
        yield _heading(_("Files"))
        yield from _pairs(
            [
                (each.name or "–", texts.lost(each.lost) or f"{each.size} B · SHA-256 {each.sha256}")
                for each in facts.view.files
            ]
        )


def _timeline(timeline: Sequence[Event]) -> Iterator[Flowable]:
    yield _heading(_("Timeline"))
    for event in timeline:
        yield _paragraph(
            f"{event.seq}. {_label(Deed, event.kind)} · {event.by} · {_time(event.created)}", size=8.5
        )
        lost = texts.lost(event.detail.get("lost", ""))
        if words := lost or event.detail.get("text") or event.detail.get("reason"):
            yield from _lines([words])


def _proof(facts: Facts) -> Iterator[Flowable]:
    yield _heading(_("Proof"))
    explained = _(
        "Each record has a place in a log that only grows. Its leaf is a digest over what is stored; a checkpoint signs "
        "all leaves up to it, and a witness outside of the database keeps the checkpoints. To verify: export this case "
        "with proof, and run custos_verify.py with the public keys that you were given."
    )
    yield _paragraph(explained)
    for number, each in enumerate(facts.records, start=1):
        place = each.place
        if place is None:
            yield from _pairs([(f"{number}.", _("has no place in the log yet"))])
            continue
        sequence = _("Sequence")
        pairs = [(f"{number}. {sequence}", str(place.sequence)), (_("Leaf"), place.leaf.hex())]
        if head := place.checkpoint:
            pairs.append((_("Checkpoint"), f"{head.size} · {head.root.hex()} · {_time(head.created)}"))
        yield from _pairs(pairs)


def _gone(each: Reported) -> str:
    if each.view is not None and each.view.state == "altered":
        return _("What is stored is not what was recorded: this record was altered.")
    return _("The content is gone under retention.")


def _heading(text: str, size: float = 12) -> Flowable:
    style = ParagraphStyle(
        "heading",
        fontName=_FONT,
        fontSize=size,
        leading=size * 1.35,
        textColor=_INK,
        spaceBefore=size * 0.8,
        spaceAfter=3,
        keepWithNext=1,
        wordWrap="CJK",
    )
    return Paragraph(escape(printable(text)), style)


def _paragraph(text: str, size: float = 9.5, color: Any = _INK) -> Flowable:
    style = ParagraphStyle(
        "body",
        fontName=_FONT,
        fontSize=size,
        leading=size * 1.45,
        textColor=color,
        spaceAfter=2,
        wordWrap="CJK",
    )
    return Paragraph(escape(printable(text)) or "\u00a0", style)


def _lines(found: Iterable[str]) -> Iterator[Flowable]:
    """Texts as they are, line by line; leading spaces stay."""
    for text in found:
        for line in printable(text).split("\n"):
            kept = line.replace("\t", "    ")
            indent = len(kept) - len(kept.lstrip(" "))
            yield _paragraph("\u00a0" * indent + kept[indent:])
        yield Spacer(1, 2)


def _pairs(pairs: Sequence[tuple[str, str]]) -> Iterator[Flowable]:
    """Names beside values. Values longer than a page stand below each other instead of in a table."""
    width = A4[0] - 2 * _MARGIN
    for name, value in pairs:
        if len(value) > 1500 or "\n" in value:
            yield _paragraph(name, size=8, color=_QUIET)
            yield from _lines([value])
            continue
        row = Table(
            [[_paragraph(name, size=8.5, color=_QUIET), _paragraph(value)]],
            colWidths=[width * 0.24, width * 0.76],
        )
        row.setStyle(
            TableStyle(
                [
                    ("VALIGN", (0, 0), (-1, -1), "TOP"),
                    ("LEFTPADDING", (0, 0), (-1, -1), 0),
                    ("TOPPADDING", (0, 0), (-1, -1), 1),
                    ("BOTTOMPADDING", (0, 0), (-1, -1), 1),
                ]
            )
        )
        yield row
    yield HRFlowable(width="100%", thickness=0.4, color=_LINE, spaceBefore=3, spaceAfter=3)


def _label(choices: Any, code: str) -> str:
    return str(dict(choices.choices).get(code, code))


def _time(when: datetime) -> str:
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _load_font() -> None:
    if _FONT not in pdfmetrics.getRegisteredFontNames():
        path = files("paperang_p2_fonts_cjk") / "fonts" / "wqy-microhei.ttc"
        pdfmetrics.registerFont(TTFont(_FONT, str(path), subfontIndex=0))
