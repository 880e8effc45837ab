"""Networks are written in one way, and whoever comes from elsewhere stays outside."""

import pytest

from tenants import networks
from tests.tenants.conftest import refused


def test_networks_have_one_writing_and_stand_once() -> None:
    lines = ["10.1.2.3", " 10.0.0.0/8 ", "", "2001:DB8::/32", "10.9.9.9/8"]
    assert networks.parse(lines) == ["10.1.2.3/32", "10.0.0.0/8", "2001:db8::/32"]


@pytest.mark.parametrize(
    "line",
    [
        "acme.example",
        "10.0.0.0/33",
        "10.0.0",
        "300.1.1.1",
        "10.0.0.0/8; 0.0.0.0/0",
        "1" * 100_000,
        "fe80::%eth0/64",
        "::ffff:10.0.0.0/104",
        "10.0.0.1\x00",
        "１０.0.0.1",
    ],
)
def test_what_is_no_network_is_named(line: str) -> None:
    with refused("network_invalid", "networks"):
        networks.parse(["10.0.0.0/8", line])


def test_there_are_not_too_many() -> None:
    with refused("too_many_networks", "networks"):
        networks.parse(["10.0.0.1"] * 101)


@pytest.mark.parametrize(
    ("address", "allowed", "is_in"),
    [
        ("10.1.2.3", ["10.0.0.0/8"], True),
        ("11.1.2.3", ["10.0.0.0/8"], False),
        ("11.1.2.3", ["10.0.0.0/8", "11.0.0.0/8"], True),
        ("::ffff:10.1.2.3", ["10.0.0.0/8"], True),
        ("::ffff:11.1.2.3", ["10.0.0.0/8"], False),
        ("2001:db8::1", ["2001:db8::/32"], True),
        ("2001:db9::1", ["2001:db8::/32"], False),
        ("fe80::1%eth0", ["fe80::/10"], True),
        ("10.1.2.3", ["2001:db8::/32"], False),
        ("", ["0.0.0.0/0"], False),
        ("unix:", ["0.0.0.0/0"], False),
        ("", [], True),
        ("anything", [], True),
    ],
)
def test_who_comes_in(address: str, allowed: list[str], is_in: bool) -> None:
    assert networks.admit(address, allowed) is is_in
