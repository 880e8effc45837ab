"""What is found: words, filters, order and pages, in the index and before it."""

from collections.abc import Callable

import pytest

from tenants.access import Actor
from tests.audit.search.conftest import ids, look, say

pytestmark = pytest.mark.django_db(transaction=True)


def test_words_are_found_in_what_was_asked_and_answered(
    member: Actor, reviewer: Actor, settle: Callable[[], object]
) -> None:
    asked = say(member, "Who launders money?", "Nobody that I know of.")
    other = say(member, "资金来源不明的客户", "需要尽职调查。")
    settle()
    assert ids(reviewer, "launders") == [asked]
    assert ids(reviewer, "nobody MONEY") == [asked]
    assert ids(reviewer, "尽职调查") == [other]
    assert ids(reviewer, "钱") == []
    assert ids(reviewer, "金") == [other]
    assert ids(reviewer, "laund*") == [asked]
    assert ids(reviewer, '"launders money"') == [asked]
    assert ids(reviewer, '"money launders"') == []
    assert ids(reviewer, "money OR 客户") == [other, asked]
    assert ids(reviewer, "-money") == [other]
    assert look(reviewer, "money").facets["user"][0].count == 1
