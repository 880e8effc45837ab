"""Which records a sample picks: a pure function of a seed, the population and the plan's numbers, for anybody to repeat.

Every record gets a rank, HMAC-SHA256(seed, id of the record, 16 bytes); of each stratum the lowest ranks are picked. The
seed of a period is HMAC-SHA256(secret of the plan, beginning of the period), and the secret is made with the plan: who
draws again draws the same, so nobody draws until they like what comes.
"""

import hashlib
import hmac
from collections.abc import Sequence
from decimal import ROUND_CEILING, Decimal
from uuid import UUID

from audit.review.models import Measure


def seed_of(secret: bytes, since: str) -> bytes:
    """since: the beginning of the period, ISO 8601 in UTC."""
    return hmac.digest(secret, since.encode(), hashlib.sha256)


def quota(count: int, measure: str, size: Decimal) -> int:
    """How many of a stratum of `count` records are picked: percent are rounded up, so that no stratum goes unseen."""
    wanted = size * count / 100 if measure == Measure.PERCENT else size
    return min(count, int(wanted.to_integral_value(ROUND_CEILING)))


def draw(
    seed: bytes, population: Sequence[UUID], strata: Sequence[int], measure: str, size: Decimal
) -> list[UUID]:
    """The picked records, ascending. strata: the number of the stratum of each of the population."""
    members: dict[int, list[tuple[bytes, UUID]]] = {}
    for record, stratum in zip(population, strata, strict=True):
        rank = hmac.digest(seed, record.bytes, hashlib.sha256)
        members.setdefault(stratum, []).append((rank, record))
    picked = (
        record
        for ranked in members.values()
        for _rank, record in sorted(ranked)[: quota(len(ranked), measure, size)]
    )
    return sorted(picked)


def pack(records: Sequence[UUID]) -> bytes:
    return b"".join(record.bytes for record in records)


def unpack(packed: bytes) -> list[UUID]:
    return [UUID(bytes=bytes(packed[at : at + 16])) for at in range(0, len(packed), 16)]


def digest(packed: bytes) -> bytes:
    """By which a population is named in the record of its drawing."""
    return hashlib.sha256(packed).digest()
