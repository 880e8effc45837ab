from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.cache import cache

from console import throttle

ME = {"email": "alice@acme-bank.example", "address": "192.0.2.1"}


@pytest.fixture(autouse=True)
def empty_cache() -> None:
    cache.clear()


def test_an_account_is_blocked_after_its_limit_from_whatever_address() -> None:
    for attempt in range(throttle.FAILURES_PER_ACCOUNT):
        assert throttle.admits(email=ME["email"].upper(), address=f"192.0.2.{attempt}")
    assert not throttle.admits(**ME)
    assert throttle.admits(email="bob@acme-bank.example", address=ME["address"])


def test_an_address_is_blocked_after_its_limit_for_whatever_account() -> None:
    for attempt in range(throttle.FAILURES_PER_ADDRESS):
        assert throttle.admits(email=f"user{attempt}@acme-bank.example", address=ME["address"])
    assert not throttle.admits(**ME)


def test_attempts_at_once_do_not_pass_together() -> None:
    # None of them has been found wrong yet: checking a password takes long.
    with ThreadPoolExecutor(8) as people:
        admitted = list(people.map(lambda _: throttle.admits(**ME), range(3 * throttle.FAILURES_PER_ACCOUNT)))
    assert sum(admitted) == throttle.FAILURES_PER_ACCOUNT


def test_success_clears_the_account_but_not_the_address() -> None:
    for attempt in range(throttle.FAILURES_PER_ADDRESS - 1):
        throttle.admits(email=f"user{attempt}@acme-bank.example", address=ME["address"])
    assert throttle.admits(**ME)
    throttle.succeeded(**ME)
    assert throttle.admits(**ME), "the success itself was no failure"
    assert not throttle.admits(**ME), "the failures of the address are as many as before"
    assert throttle.admits(email=ME["email"], address="192.0.2.9")


def test_a_password_set_anew_clears_the_account_but_not_the_address() -> None:
    for _ in range(throttle.FAILURES_PER_ACCOUNT):
        throttle.admits(**ME)
    assert not throttle.admits(**ME)
    throttle.forgive(email=ME["email"])
    assert throttle.admits(**ME)
    for attempt in range(throttle.FAILURES_PER_ADDRESS):
        throttle.admits(email=f"user{attempt}@acme-bank.example", address=ME["address"])
    throttle.forgive(email=ME["email"])
    assert not throttle.admits(**ME)
