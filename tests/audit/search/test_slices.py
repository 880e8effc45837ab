"""A big day is read by slices: in every order what a scan finds, each once, whatever the slices' width."""

import random
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from typing import NamedTuple
from uuid import UUID

import pytest

from audit.search import engine, hashing, index
from audit.search.engine import Search, Sort, find, iterate
from tenants import clock
from tenants.access import Actor
from tenants.ids import time_of
from tests.audit.conftest import Usage, id_at
from tests.audit.search.conftest import say

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(600)]

QUARTER = timedelta(minutes=15)
MILLISECOND = timedelta(milliseconds=1)


class Said(NamedTuple):
    request_id: UUID
    words: list[str]
    tokens: int


def _spread(chance: random.Random) -> list[datetime]:
    """Times of yesterday: its first and last millisecond, both sides of slices' borders, and here and there."""
    midnight = datetime.combine(clock.today() - timedelta(days=1), time(), UTC)
    times = [midnight, midnight + timedelta(days=1) - MILLISECOND]
    for border in (midnight + 41 * QUARTER, midnight + 42 * QUARTER):
        times += [border - MILLISECOND, border]
    return times + [midnight + timedelta(seconds=chance.randrange(86_400)) for _ in range(34)]


def _records(member: Actor) -> list[Said]:
    chance = random.Random(20261201)
    made = []
    for number, at in enumerate([*_spread(chance), None]):
        words = ["money"]
        words += ["gold"] if chance.random() < 0.5 else []
        words += ["rare"] if number % 13 == 2 else []
        # Both sides of a slice of size, equals, none and more than the last slice begins with.
        tokens = chance.choice((0, 1, 7, 8, 8, 9, 500, 511, 512, 2_000_000))
        placed = {"request_id": id_at(at)} if at else {}
        made.append(Said(say(member, " ".join(words), usage=Usage(1, tokens), **placed), words, tokens))
    return made


ASKED: dict[str, Callable[[list[str]], bool]] = {
    "money": lambda words: True,
    "gold": lambda words: "gold" in words,
    "rare": lambda words: "rare" in words,
    "-gold": lambda words: "gold" not in words,
    "money -gold": lambda words: "gold" not in words,
    "-gold -rare": lambda words: "gold" not in words and "rare" not in words,
    "gold OR rare": lambda words: "gold" in words or "rare" in words,
    '"money gold"': lambda words: words[:2] == ["money", "gold"],
    "nowhere": lambda words: False,
}
ORDERS: dict[Sort, Callable[[Said], tuple[int, ...]]] = {
    Sort.NEWEST: lambda said: (-said.request_id.int,),
    Sort.OLDEST: lambda said: (said.request_id.int,),
    Sort.TOKENS: lambda said: (-said.tokens, -said.request_id.int),
}


@pytest.mark.parametrize("stretch", [0, 12, 10**9], ids=["narrow", "wide", "whole days"])
def test_slices_lose_and_repeat_nothing(
    member: Actor, reviewer: Actor, monkeypatch: pytest.MonkeyPatch, stretch: int
) -> None:
    made = _records(member)
    index.index_waiting()
    monkeypatch.setattr(engine, "STRETCH", stretch)
    midnight = datetime.combine(clock.today() - timedelta(days=1), time(), UTC)
    spans: list[dict[str, datetime]] = [
        {},
        # On a border, and within slices.
        {"since": midnight + 41 * QUARTER, "until": midnight + 42 * QUARTER},
        {"since": midnight + 20 * QUARTER + timedelta(minutes=4), "until": midnight + 80.6 * QUARTER},
        {"until": midnight + timedelta(days=1)},
        {"since": midnight + timedelta(days=1)},
    ]
    for text, is_asked in ASKED.items():
        for sort, order in ORDERS.items():
            for span in spans if text in ("money", "-gold") else spans[:1]:
                expected = [
                    said.request_id
                    for said in sorted(made, key=order)
                    if is_asked(said.words)
                    and span.get("since", time_of(said.request_id)) <= time_of(said.request_id)
                    and ("until" not in span or time_of(said.request_id) < span["until"])
                ]
                search = Search(text, sort=sort, **span)  # type: ignore[arg-type]
                assert list(iterate(reviewer, search, batch=7)) == expected, (text, sort, span)


@pytest.mark.parametrize("counted", [5, 20, 10_000], ids=["less than a page", "some", "all"])
def test_pages_over_slices_follow_each_other(
    member: Actor, reviewer: Actor, monkeypatch: pytest.MonkeyPatch, counted: int
) -> None:
    made = _records(member)
    index.index_waiting()
    monkeypatch.setattr(engine, "STRETCH", 0)
    monkeypatch.setattr(engine, "COUNT_MOST", counted)
    for text, is_asked in (("money", ASKED["money"]), ("-gold", ASKED["-gold"])):
        for sort, order in ORDERS.items():
            expected = [said.request_id for said in sorted(made, key=order) if is_asked(said.words)]
            search, seen, cursor = Search(text, sort=sort), [], ""
            while True:
                found = find(reviewer, search, reason="sample", cursor=cursor, limit=9)
                seen += [hit.summary.id for hit in found.hits]
                assert (found.total, found.total_is_exact) == (
                    (len(expected), True) if counted >= len(expected) else (counted, False)
                )
                if not (cursor := found.next_cursor):
                    break
            assert seen == expected, (text, sort)


def test_size_narrows_with_slices(member: Actor, reviewer: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    made = _records(member)
    index.index_waiting()
    monkeypatch.setattr(engine, "STRETCH", 0)
    for least, most in ((8, 511), (None, 7), (512, None), (2_000_001, None), (9, 8)):
        search = Search("money", sort=Sort.TOKENS, least=least, most=most)
        expected = [
            said.request_id
            for said in sorted(made, key=ORDERS[Sort.TOKENS])
            if (least is None or said.tokens >= least) and (most is None or said.tokens <= most)
        ]
        assert list(iterate(reviewer, search, batch=4)) == expected, (least, most)


def test_slices_cover_every_time_and_size() -> None:
    day = datetime(2026, 12, 1, tzinfo=UTC)
    quarters = [hashing.quarter_of(id_at(day + number * QUARTER)) for number in range(96)]
    assert quarters == list(range(96))
    assert hashing.quarter_of(id_at(day - MILLISECOND)) == 95
    sizes = [hashing.size_of(tokens) for tokens in range(100_000)]
    assert sizes == sorted(sizes)
    assert all(hashing.SIZES[size] <= tokens for tokens, size in enumerate(sizes))
    assert hashing.size_of(2**31 - 1) == len(hashing.SIZES) - 1
    tokens = {*map(hashing.quarter_token, range(96)), *map(hashing.size_token, range(len(hashing.SIZES)))}
    assert len(tokens) == 96 + len(hashing.SIZES)
