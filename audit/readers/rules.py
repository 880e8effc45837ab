"""What is unusual in a person's reading: each rule looks at their last day of reading and at what they usually do.

Rules that name whose records were read leave out what was opened inside a review or case: whoever is looked into there
must not learn it from an alert. Those that only count take everything, or reading inside a case would go unseen.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from audit.readers.models import Rule

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
# Of reasons that say something, the same one may well stand for many records, as the number of a case.
SHORT = 20


@dataclass(frozen=True, slots=True)
class Opened:
    """One opening, search or export. `about`: whose record it was. `asked`: whether that is a request of somebody's."""

    id: UUID
    time: datetime
    record: UUID | None = None
    about: UUID | None = None
    reason: str = ""
    is_opening: bool = True
    exported: int = 0
    asked: bool = False


@dataclass(frozen=True, slots=True)
class Usual:
    """What a reader does otherwise. per_day: openings on a median day of reading; None: too few days to tell.

    hours: those of the day, in UTC, in which they read; empty: too little to tell. own: the person themselves and whoever
    is in a group with them.
    """

    per_day: float | None = None
    hours: frozenset[int] = frozenset()
    own: frozenset[UUID] = frozenset()


@dataclass(frozen=True, slots=True)
class Finding:
    """More than the threshold: which readings, in which hour or day."""

    span: str
    readings: tuple[Opened, ...]
    found: int


def many(read: Sequence[Opened], usual: Usual, threshold: int) -> list[Finding]:
    """Within any sixty minutes, told once for each hour of the clock."""
    return _windows(_openings(read), HOUR, threshold, _hour)


def more_than_usual(read: Sequence[Opened], usual: Usual, threshold: int) -> list[Finding]:
    """On one UTC day `threshold` times as many as on a median day, and at least twenty."""
    if usual.per_day is None:
        return []
    enough = max(usual.per_day * threshold, 20)
    return [
        Finding(day, tuple(found), len(found))
        for day, found in _by_day(_openings(read)).items()
        if len(found) >= enough
    ]


def odd_hours(read: Sequence[Opened], usual: Usual, threshold: int) -> list[Finding]:
    """More than `threshold` hours from any hour in which they usually read."""
    if not usual.hours:
        return []
    odd = [each for each in read if min(_apart(each.time.hour, hour) for hour in usual.hours) > threshold]
    return [Finding(day, tuple(found), len(found)) for day, found in _by_day(odd).items()]


def one_person(read: Sequence[Opened], usual: Usual, threshold: int) -> list[Finding]:
    """So many different times, within a day, records of the same person."""
    named = [each for each in _openings(read) if each.about is not None]
    people = {each.about for each in named if each.about}
    found = []
    for person in people:
        theirs = [each for each in named if each.about == person]
        # Of each person there may be an alert on one day.
        windows = _windows(theirs, DAY, threshold, _day)
        found += [replace(each, span=f"{each.span} {person.hex[-8:]}") for each in windows]
    return found


def own_department(read: Sequence[Opened], usual: Usual, threshold: int) -> list[Finding]:
    near = [each for each in _openings(read) if each.about in usual.own]
    return _windows(near, DAY, threshold, _day)


def no_ground(read: Sequence[Opened], usual: Usual, threshold: int) -> list[Finding]:
    """So many requests opened by themselves: what a review or case gives a ground for is opened there."""
    return _windows([each for each in _openings(read) if each.asked], DAY, threshold, _day)


def same_reason(read: Sequence[Opened], usual: Usual, threshold: int) -> list[Finding]:
    words = {each.id: " ".join(each.reason.lower().split()) for each in read}
    counted = Counter(reason for reason in words.values() if reason and len(reason) <= SHORT)
    found = []
    for reason, count in counted.items():
        if count >= threshold:
            found += _windows([each for each in read if words[each.id] == reason], DAY, threshold, _day)
    return found


def mass_export(read: Sequence[Opened], usual: Usual, threshold: int) -> list[Finding]:
    found = []
    for day, exports in _by_day([each for each in read if each.exported]).items():
        total = sum(each.exported for each in exports)
        if total >= threshold:
            found.append(Finding(day, tuple(exports), total))
    return found


@dataclass(frozen=True, slots=True)
class Check:
    """A rule with its default threshold and the most that it may be set to."""

    find: Callable[[Sequence[Opened], Usual, int], list[Finding]]
    threshold: int
    most: int = 100_000


CHECKS: dict[str, Check] = {
    Rule.MANY: Check(many, 60),
    Rule.MORE_THAN_USUAL: Check(more_than_usual, 3, most=100),
    Rule.ODD_HOURS: Check(odd_hours, 2, most=11),
    Rule.ONE_PERSON: Check(one_person, 15),
    Rule.OWN_DEPARTMENT: Check(own_department, 3),
    Rule.NO_GROUND: Check(no_ground, 40),
    Rule.SAME_REASON: Check(same_reason, 20),
    Rule.MASS_EXPORT: Check(mass_export, 1000, most=10_000_000),
}


def _openings(read: Iterable[Opened]) -> list[Opened]:
    return [each for each in read if each.is_opening]


def _windows(
    read: Sequence[Opened], length: timedelta, threshold: int, span: Callable[[datetime], str]
) -> list[Finding]:
    """The fullest windows with `threshold` readings or more, one for each span that such a window ends in."""
    best: dict[str, Finding] = {}
    first = 0
    for last, each in enumerate(read):
        while read[first].time <= each.time - length:
            first += 1
        count = last - first + 1
        name = span(each.time)
        if count >= threshold and (name not in best or count > best[name].found):
            best[name] = Finding(name, tuple(read[first : last + 1]), count)
    return list(best.values())


def _by_day(read: Iterable[Opened]) -> dict[str, list[Opened]]:
    found: dict[str, list[Opened]] = {}
    for each in read:
        found.setdefault(_day(each.time), []).append(each)
    return found


def _apart(one: int, other: int) -> int:
    """Hours between two hours of the clock."""
    return min((one - other) % 24, (other - one) % 24)


def _hour(time: datetime) -> str:
    return time.strftime("%Y-%m-%d %H")


def _day(time: datetime) -> str:
    return time.strftime("%Y-%m-%d")
