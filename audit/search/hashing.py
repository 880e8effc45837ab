"""Tokens as keyed hashes: what the index holds, and what a query asks it for.

A token is HMAC-SHA-256 under the index key of its tenant, day and keeping, cut to 64 bits, so that equal words of two
days or tenants have nothing in common, and without the key none can be told.
"""

import hashlib
import hmac
from datetime import date
from uuid import UUID

from audit.record import Keeping
from audit.search import tokens
from audit.search.query import Columns
from tenants import envelope


class Hasher:
    """Hashes tokens of one tenant, day and keeping; remembers them. Raises envelope.KeyDestroyed when made too late."""

    def __init__(self, tenant_id: UUID, keeping: Keeping, day: date) -> None:
        key = envelope.index_key(tenant_id, keeping, day)
        # The two padded blocks of HMAC are the same for every token.
        self._keyed = hmac.new(key, digestmod=hashlib.sha256)
        self._known: dict[str, int] = {}

    def __call__(self, token: str) -> int:
        """A signed 64-bit number."""
        found = self._known.get(token)
        if found is None:
            mac = self._keyed.copy()
            mac.update(token.encode(errors="surrogatepass"))
            found = self._known[token] = int.from_bytes(mac.digest()[:8], "big", signed=True)
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
    for name, text in (("user", columns.user_label), ("model", columns.model)):
        found |= {name_token(name, token) for token in tokens.tokens(tokens.normalise(text))}
    return found
