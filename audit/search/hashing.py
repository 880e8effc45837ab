"""Tokens as keyed hashes: what the index holds, and what a query asks it for.

A token is HMAC-SHA-256 under the index key of its tenant, day and keeping, cut to 64 bits, so that equal words of two
days or tenants have nothing in common, and without the key none can be told.
"""

import hashlib
import hmac
from bisect import bisect_right
from collections.abc import Iterable
from datetime import date
from functools import lru_cache
from uuid import UUID

from audit.record import Keeping
from audit.search import tokens
from audit.search.query import Columns
from tenants import envelope


class KeyedHasher:
    """Hashes tokens under a key; remembers them."""

    def __init__(self, key: bytes) -> None:
        # The two padded blocks of HMAC are the same for every token.
        self._keyed = hmac.new(key, digestmod=hashlib.sha256)
        self._known: dict[str, int] = {}

    def __call__(self, token: str) -> int:
        """A signed 64-bit number."""
        found = self._known.get(token)
        if found is None:
            found = self._known[token] = self.once(token)
        return found

    def once(self, token: str) -> int:
        """The same for a token that will hardly come again, as neighbours: it is not remembered."""
        mac = self._keyed.copy()
        mac.update(token.encode(errors="surrogatepass"))
        return int.from_bytes(mac.digest()[:8], "big", signed=True)


class Hasher(KeyedHasher):
    """Hashes tokens of one tenant, day and keeping. Raises envelope.KeyDestroyed when made too late."""

    def __init__(self, tenant_id: UUID, keeping: Keeping, day: date) -> None:
        super().__init__(envelope.index_key(tenant_id, keeping, day))
        self._of_words: dict[str, tuple[int, ...]] = {}

    def of_words(self, words: Iterable[str]) -> set[int]:
        """The hashes of words and of how they begin."""
        found: set[int] = set()
        known = self._of_words
        for word in words:
            of = known.get(word)
            if of is None:
                of = known[word] = (self(word), *map(self, tokens.beginnings(word)))
            found.update(of)
        return found


def name_token(column: str, token: str) -> str:
    """The token of a word in a column of names, which no word of content can equal."""
    return f"\x02{column}\x02{token}"


def value_token(column: str, value: str) -> str:
    """The token of a column's whole value."""
    return f"\x03{column}\x03{value}"


def column_tokens(columns: Columns) -> set[str]:
    """Tokens of the plain columns: to narrow by them in one step with words."""
    found = {
        value_token(name, value)
        for name, value in (
            ("user", columns.user_label),
            ("model", columns.model),
            ("version", columns.model_version),
            ("channel", columns.channel),
            ("kind", columns.kind),
            ("status", columns.status),
        )
        if value
    }
    found |= {value_token("group", group_id) for group_id in columns.group_ids}
    return found | _names("user", columns.user_label) | _names("model", columns.model)


@lru_cache(1000)
def _names(column: str, text: str) -> frozenset[str]:
    return frozenset(name_token(column, token) for token in tokens.tokens(tokens.normalise(text)))


# Slices of a day: with these tokens, GIN itself tells the entries of a slice, so that a day is read in order without
# reading all of it. Slices of time are of a quarter of an hour; of size, an eighth of an octave of tokens or less.
QUARTERS = 96
SIZES = sorted(
    {0, *(int(2 ** (step / 8)) for step in range(8 * 20 + 1))}
)  # The least number of tokens of each.
_QUARTER, _SIZE = "\x04quarter\x04", "\x04size\x04"


def quarter_of(request_id: UUID) -> int:
    """The slice of its day in which a record was begun."""
    return (request_id.int >> 80) % 86_400_000 * QUARTERS // 86_400_000


def size_of(written: int) -> int:
    """The slice of a record of so many tokens."""
    return bisect_right(SIZES, max(written, 0)) - 1


def quarter_token(quarter: int) -> str:
    """The token of a slice of time, which no word and no value can equal."""
    return f"{_QUARTER}{quarter}"


def size_token(size: int) -> str:
    """The token of a slice of size."""
    return f"{_SIZE}{size}"
