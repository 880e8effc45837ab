"""A brake on guessing passwords: per account and per address, in Valkey, so that all web processes share it."""

from hashlib import sha256

from django.core.cache import cache

WINDOW_S = 15 * 60
FAILURES_PER_ACCOUNT = 10
FAILURES_PER_ADDRESS = 50


def is_blocked(*, email: str, address: str) -> bool:
    """Whether sign-in must wait: too many failures of this account or from this address in the last window."""
    counts = cache.get_many(list(_limits(email, address)))
    return any(counts.get(key, 0) >= limit for key, limit in _limits(email, address).items())


def note_failure(*, email: str, address: str) -> None:
    """Count a failed attempt."""
    for key in _limits(email, address):
        cache.add(key, 0, timeout=WINDOW_S)
        cache.incr(key)


def forget_account(*, email: str, address: str) -> None:
    """A success clears the account's failures; those of the address stay, or one's own account would reset them."""
    cache.delete(next(iter(_limits(email, address))))


def _limits(email: str, address: str) -> dict[str, int]:
    """The counters of the account and of the address with their limits. Hashed: keys are no place for addresses."""
    return {
        f"signin:account:{_digest(email.strip().lower())}": FAILURES_PER_ACCOUNT,
        f"signin:address:{_digest(address)}": FAILURES_PER_ADDRESS,
    }


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:32]
