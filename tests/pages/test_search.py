"""What people type into the search fields of lists, whatever it is, finds something or nothing."""

from collections.abc import Callable
from urllib.parse import urlencode

import pytest
from django.test import Client

from tenants.models import User
from tests.conftest import Company

pytestmark = pytest.mark.django_db

ODD = {"nul": "\x00", "thousands of words": "a " * 3000}
LISTS = ("people", "invitations", "groups", "access", "keys", "keys/accounts")


@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
def test_nothing_that_is_searched_for_breaks_a_list(
    text: str,
    acme: Company,
    platform_administrator: User,
    client_of: Callable[[User], Client],
    django_assert_max_num_queries: Callable[..., object],
) -> None:
    asked = urlencode({"q": text})
    browser = client_of(acme.owner)
    for name in LISTS:
        with django_assert_max_num_queries(60) as queries:  # type: ignore[attr-defined]
            assert browser.get(f"/t/acme-bank/administration/{name}/?{asked}").status_code == 200, name
        longest = max(len(each["sql"]) for each in queries)
        assert longest < 20_000, f"{name}: one condition a word, without end"
    assert client_of(platform_administrator).get(f"/platform/tenants/?{asked}").status_code == 200
