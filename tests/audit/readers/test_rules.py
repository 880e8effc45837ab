"""What each rule finds in a day of reading, at its threshold and just below."""

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import uuid4

import pytest

from audit.readers import rules
from audit.readers.models import Rule
from audit.readers.rules import CHECKS, Finding, Opened, Usual

MORNING = datetime(2026, 11, 28, 9, 0, tzinfo=UTC)
PERSON, OTHER = uuid4(), uuid4()
NOTHING_USUAL = Usual()


def reading(minutes: float = 0, **fields: Any) -> Opened:
    return Opened(id=uuid4(), time=MORNING + timedelta(minutes=minutes), **fields)


def found(rule: str, read: list[Opened], threshold: int, usual: Usual = NOTHING_USUAL) -> list[Finding]:
    return CHECKS[rule].find(read, usual, threshold)


def test_every_rule_is_checked_and_its_own_threshold_can_be_set() -> None:
    assert set(CHECKS) == set(Rule.values)
    assert all(1 <= check.threshold <= check.most for check in CHECKS.values())


# rule: (how many readings are one too few, the readings of the n-th kind, what is usual)
MANY_TIMES: dict[str, dict[str, Any]] = {
    Rule.MANY: {},
    Rule.ONE_PERSON: {"about": PERSON},
    Rule.OWN_DEPARTMENT: {"about": PERSON},
    Rule.NO_GROUND: {"asked": True},
    Rule.SAME_REASON: {"reason": "check"},
}


@pytest.mark.parametrize("rule", MANY_TIMES)
def test_at_the_threshold_there_is_one_alert_and_below_it_none(rule: str) -> None:
    usual = Usual(own=frozenset({PERSON}))
    read = [reading(number * 5, **MANY_TIMES[rule]) for number in range(4)]
    assert found(rule, read[:3], 4, usual) == []
    (one,) = found(rule, read, 4, usual)
    assert (one.found, [each.id for each in one.readings]) == (4, [each.id for each in read])


@pytest.mark.parametrize(
    ("rule", "fields"),
    [
        (Rule.MANY, {"is_opening": False}),
        (Rule.OWN_DEPARTMENT, {"about": OTHER}),
        (Rule.NO_GROUND, {"asked": False}),
        (Rule.SAME_REASON, {"reason": "Case 2026-17, second sample"}),
        (Rule.SAME_REASON, {"reason": ""}),
    ],
)
def test_what_a_rule_does_not_speak_of(rule: str, fields: dict[str, Any]) -> None:
    read = [reading(number, **fields) for number in range(50)]
    assert found(rule, read, 4, Usual(own=frozenset({PERSON}))) == []


def test_an_hour_moves_on_and_is_told_once() -> None:
    spread = [reading(number * 20) for number in range(12)]  # Never more than three in sixty minutes.
    assert found(Rule.MANY, spread, 4) == []
    across = [reading(50 + number) for number in range(20)]  # From 9:50 to 10:09.
    assert [(each.span, each.found) for each in found(Rule.MANY, across, 4)] == [
        ("2026-11-28 09", 10),
        ("2026-11-28 10", 20),
    ]


def test_each_person_has_an_alert_of_their_own() -> None:
    read = [reading(n, about=about) for n, about in enumerate([PERSON, OTHER] * 4)]
    spans = {each.span for each in found(Rule.ONE_PERSON, read, 4)}
    assert len(spans) == 2 and all(len(span) <= 20 for span in spans)


def test_same_reasons_are_alike_however_they_are_typed() -> None:
    read = [reading(n, reason=text) for n, text in enumerate(["check", " Check", "CHECK ", "check"])]
    assert len(found(Rule.SAME_REASON, read, 4)) == 1
    assert found(Rule.SAME_REASON, [*read[:3], reading(9, reason="checked")], 4) == []


@pytest.mark.parametrize(
    ("usual", "count", "expected"),
    [(None, 500, 0), (10.0, 29, 0), (10.0, 30, 1), (1.0, 19, 0), (1.0, 20, 1)],
)
def test_more_than_usual_needs_a_usual(usual: float | None, count: int, expected: int) -> None:
    read = [reading(n / 10) for n in range(count)]
    assert len(found(Rule.MORE_THAN_USUAL, read, 3, Usual(per_day=usual))) == expected


@pytest.mark.parametrize(
    ("hours", "threshold", "expected"),
    [({9}, 2, 0), ({7}, 2, 0), ({6}, 2, 1), ({23}, 2, 1), (set(), 1, 0), ({12, 20}, 2, 1), ({11, 20}, 2, 0)],
)
def test_odd_hours_go_round_the_clock(hours: set[int], threshold: int, expected: int) -> None:
    assert len(found(Rule.ODD_HOURS, [reading()], threshold, Usual(hours=frozenset(hours)))) == expected
    night = Opened(id=uuid4(), time=datetime(2026, 11, 28, 0, 30, tzinfo=UTC))
    assert found(Rule.ODD_HOURS, [night], 2, Usual(hours=frozenset({23}))) == []


def test_exports_are_added_up_by_day() -> None:
    read = [reading(n, is_opening=False, exported=400) for n in range(3)]
    (one,) = found(Rule.MASS_EXPORT, read, 1200)
    assert one.found == 1200
    assert found(Rule.MASS_EXPORT, read, 1201) == []


def test_windows_never_miss_what_counting_one_by_one_finds() -> None:
    """Against the plain definition, on spacings that are made up from a seed."""
    random = Random(7)
    for _ in range(200):
        minutes = sorted(random.uniform(0, 240) for _ in range(random.randint(0, 40)))
        read = [reading(each) for each in minutes]
        plain = any(sum(at - 60 < other <= at for other in minutes) >= 6 for at in minutes)
        assert bool(rules.many(read, Usual(), 6)) == plain, minutes


def test_a_span_names_nobody() -> None:
    """A span names the hour or day, and of a person no more than the end of an id."""
    spans = [each.span for each in found(Rule.ONE_PERSON, [reading(n, about=PERSON) for n in range(4)], 4)]
    assert spans == [f"2026-11-28 {PERSON.hex[-8:]}"]
