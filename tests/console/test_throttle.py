import pytest
from django.core.cache import cache

from console import throttle

ME = {"email": "alice@acme-bank.example", "address": "192.0.2.1"}


@pytest.fixture(autouse=True)
def empty_cache() -> None:
    cache.clear()


def test_an_account_is_blocked_after_its_limit_from_whatever_address() -> None:
    for attempt in range(throttle.FAILURES_PER_ACCOUNT):
        assert not throttle.is_blocked(**ME)
        throttle.note_failure(email=ME["email"].upper(), address=f"192.0.2.{attempt}")
    assert throttle.is_blocked(**ME)
    assert not throttle.is_blocked(email="bob@acme-bank.example", address=ME["address"])


def test_an_address_is_blocked_after_its_limit_for_whatever_account() -> None:
    for attempt in range(throttle.FAILURES_PER_ADDRESS):
        throttle.note_failure(email=f"user{attempt}@acme-bank.example", address=ME["address"])
    assert throttle.is_blocked(**ME)


def test_success_clears_the_account_but_not_the_address() -> None:
    for _ in range(throttle.FAILURES_PER_ADDRESS):
        throttle.note_failure(**ME)
    throttle.forget_account(**ME)
    assert throttle.is_blocked(**ME), "the address still is"
    assert not throttle.is_blocked(email=ME["email"], address="192.0.2.9")
