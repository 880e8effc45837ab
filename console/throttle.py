"""Brakes on guessing passwords and on asking for mail: per account and per address, in Valkey, for all web processes."""

from contextlib import suppress
from hashlib import sha256

from django.core.cache import cache

WINDOW_S = 15 * 60
FAILURES_PER_ACCOUNT = 10
FAILURES_PER_ADDRESS = 50
REQUESTS_PER_MAILBOX = 3
REQUESTS_PER_ADDRESS = 20


def admits(*, email: str, address: str) -> bool:
    """Whether this attempt may be made; False after too many failures of the account or from the address.

    It counts as a failure from now on, or many attempts at once would all pass before the first has failed;
    `succeeded` takes that back.
    """
    return all(_count(key) <= limit for key, limit in _limits(email, address).items())


def succeeded(*, email: str, address: str) -> None:
    """Clear the account's failures; those of the address stay, or one's own account would reset them."""
    of_account, of_address = _limits(email, address)
    cache.delete(of_account)
    with suppress(ValueError):  # the window has just ended
        cache.decr(of_address)


def admits_request(*, email: str, address: str) -> bool:
    """Whether a link to join may be asked for, for this mailbox and from this address; it counts in either case."""
    counted = [
        _count(f"join:address:{_digest(address)}") <= REQUESTS_PER_ADDRESS,
        _count(f"join:mailbox:{_digest(email.strip().lower())}") <= REQUESTS_PER_MAILBOX,
    ]
    return all(counted)


def forgive(*, email: str) -> None:
    """Clear the account's failures, as after its password was set anew by mail."""
    of_account, _of_address = _limits(email, "")
    cache.delete(of_account)


def _count(key: str) -> int:
    cache.add(key, 0, timeout=WINDOW_S)
    try:
        return cache.incr(key)
    except ValueError:  # the window ended between the two
        cache.add(key, 0, timeout=WINDOW_S)
        return cache.incr(key)


def _limits(email: str, address: str) -> dict[str, int]:
    """The counters of the account and of the address with their limits. Hashed: keys are no place for addresses."""
    return {
        f"signin:account:{_digest(email.strip().lower())}": FAILURES_PER_ACCOUNT,
        f"signin:address:{_digest(address)}": FAILURES_PER_ADDRESS,
    }


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:32]
