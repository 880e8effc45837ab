"""What to search for, and as of when."""

from __future__ import annotations

import calendar
import datetime
import re
from collections.abc import Sequence

from knowledge.retrieval.terms import asked_terms

# A question of fewer terms than this, or one that begins by pointing back, is searched for together with the one before.
_FEW_TERMS = 2
_POINTS_BACK = re.compile(
    r"^\s*(?:(?:and|but|so|also|what about|how about|then|that|this|these|those|it|they|he|she|why)\b|"
    r"那|这|這|它|他|她|还有|還有|另外|为什么|為什麼|如果|其中|上述)",
    re.IGNORECASE,
)
_DAY = r"(?P<year>(?:19|20)\d\d)(?:[-/.年](?P<month>\d{1,2})(?:[-/.月](?P<day>\d{1,2})日?|月)?|年)?"
_AS_OF = re.compile(
    rf"(?:\bas of|\bas at|\bon the law of|\bin force (?:in|on)|截至|截止到?|按照?(?=(?:19|20)\d\d年)|适用于?)\s*{_DAY}|"
    rf"{_DAY.replace('?P<', '?P<b_')}(?:当时|時|时(?:的|，|,|有效)|施行的|有效的)",
    re.IGNORECASE,
)


def to_search(question: str, earlier: Sequence[str]) -> str:
    """The words to search for: the question's, with those of the one before where it would not be understood alone."""
    leans = bool(_POINTS_BACK.match(question)) or len(asked_terms(question)) < _FEW_TERMS
    return f"{earlier[-1]} {question}" if leans and earlier else question


def as_of(question: str) -> datetime.date | None:
    """The day as of which it asks, where it says so ("as of 2019", "截至2019年5月"); a year or month means its last day."""
    match = _AS_OF.search(question)
    if match is None:
        return None
    said = {name.removeprefix("b_"): value for name, value in match.groupdict().items() if value}
    year, month, day = int(said["year"]), int(said.get("month", 12)), int(said.get("day", 0))
    try:
        if day:
            return datetime.date(year, month, day)
        return datetime.date(year, month, calendar.monthrange(year, month)[1])
    except ValueError:
        return None
