"""Filters and paging: RFC 7644, section 3.4.2; and what is no filter at all."""

import pytest

from tenants.roles import Role
from tests.conftest import Company
from tests.scim.conftest import BARBARA, GROUP, USER
from tests.support.keys import Caller

pytestmark = pytest.mark.django_db

PEOPLE = len(Role)  # The company has one of each.


@pytest.fixture
def directory(scim: Caller) -> Caller:
    """Barbara, an employee and tour guide; John, a contractor; and the tenant's other people, whom it did not make."""
    barbara = scim("post", "/Users", BARBARA | {"title": "Guide", "userType": "Employee"}).json()
    john = {
        "schemas": [USER],
        "userName": "john@example.org",
        "name": {"familyName": "O'Malley"},
        "displayName": 'John "Jo" O\'Malley',
        "userType": "Contractor",
        "active": False,
    }
    assert scim("post", "/Users", john).status_code == 201
    members = [{"value": barbara["id"]}]
    scim("post", "/Groups", {"schemas": [GROUP], "displayName": "Guides", "members": members})
    return scim


BOTH = {"bjensen@example.com", "john@example.org"}
BARBARA_ALONE = {"bjensen@example.com"}
JOHN_ALONE = {"john@example.org"}


FILTERS = [
    # The examples of section 3.4.2.2, with our two.
    ('userName eq "bjensen@example.com"', BARBARA_ALONE),
    ('userName Eq "BJensen@Example.com"', BARBARA_ALONE),
    ('name.familyName co "O\'Malley"', JOHN_ALONE),
    ('userName sw "J"', JOHN_ALONE),
    ('urn:ietf:params:scim:schemas:core:2.0:User:userName sw "J"', JOHN_ALONE),
    ("title pr", BARBARA_ALONE),
    ('title pr and userType eq "Employee"', BARBARA_ALONE),
    ('title pr or userType eq "Contractor"', BOTH),
    ('meta.lastModified gt "2011-05-13T04:42:34Z" and title pr', BARBARA_ALONE),
    ('meta.lastModified lt "2011-05-13T04:42:34Z"', set()),
    (
        'userType eq "Employee" and (emails co "example.com" or emails.value co "example.org")',
        BARBARA_ALONE,
    ),
    (
        'userType ne "Employee" and not (emails co "acme-bank" or emails.value co "example.com")',
        JOHN_ALONE,
    ),
    ('userType eq "Employee" and (emails.type eq "work")', BARBARA_ALONE),
    ('userType eq "Employee" and emails[type eq "work" and value co "@example.com"]', BARBARA_ALONE),
    ('emails[type eq "home"]', set()),
    # Further ones.
    ('externalId eq "bjensen"', BARBARA_ALONE),
    ('externalId eq "BJENSEN"', set()),
    ("externalId eq null and userType pr", JOHN_ALONE),
    ("active eq false", JOHN_ALONE),
    ("name pr and active eq true", BARBARA_ALONE),
    ('displayName eq "John \\"Jo\\" O\'Malley"', JOHN_ALONE),
    ('groups.display eq "guides"', BARBARA_ALONE),
    ('groups[display eq "Guides" and value eq "x"]', set()),
    ("groups pr", BARBARA_ALONE),
    ('not (userName ew "acme-bank.example") and not (groups pr)', JOHN_ALONE),
    ('id eq "x"', set()),
    ('userName ew "example.com" and userName co "%"', set()),
    ('userName co "_"', set()),
]


def test_a_filter_finds_those_it_means(directory: Caller, subtests: pytest.Subtests) -> None:
    for text, expected in FILTERS:
        with subtests.test(text):
            answer = directory.get("/Users", filter=text)
            assert answer.status_code == 200, answer.content
            assert {each["userName"] for each in answer.json().get("Resources", [])} == expected


def test_groups_are_found_by_name_and_member(directory: Caller) -> None:
    barbara = directory.get("/Users", filter='userName sw "bj"').json()["Resources"][0]["id"]
    for text in (
        'displayName eq "GUIDES"',
        f'members.value eq "{barbara}"',
        f'members[value eq "{barbara}"]',
    ):
        assert directory.get("/Groups", filter=text).json()["totalResults"] == 1, text
    assert directory.get("/Groups", filter='members eq "x"').json()["totalResults"] == 0


NO_FILTERS = [
    "userName",
    'userName eq "a" or 1=1',
    "userName eq 'a'; DROP TABLE tenants_user; --",
    'userName eq "a" UNION SELECT password FROM tenants_user',
    "userName eq a",
    'userName xx "a"',
    'password eq "secret"',
    'user__password sw "pbkdf2"',
    'tenant eq "north-fund"',
    "userName.password pr",
    "urn:ietf:params:scim:schemas:core:2.0:Group:displayName pr",
    'ims[type eq "xmpp" and value co "@foo.com"]',
    "active gt true",
    "active eq 5",
    "userName eq 5",
    'userName eq "a\\u0000b"',
    'userName eq "\\ud800"',
    'meta.created co "2011"',
    'meta.created gt "yesterday"',
    'id sw "0"',
    "not (" * 100 + "userName pr" + ")" * 100,
    " or ".join(['userName eq "a"'] * 200),
]


def test_what_is_no_filter_is_refused(scim: Caller, subtests: pytest.Subtests) -> None:
    for text in NO_FILTERS:
        with subtests.test(text[:80]):
            answer = scim.get("/Users", filter=text)
            assert (answer.status_code, answer.json().get("scimType")) == (400, "invalidFilter"), (
                answer.content
            )


def test_a_filter_stays_within_the_tenant(scim: Caller, acme: Company, north: Company) -> None:
    answer = scim.get("/Users", filter='userName co "north-fund" or not (userName pr) or active eq false')
    assert answer.json()["totalResults"] == 0


def test_pages_begin_at_one_and_say_the_total(scim: Caller) -> None:
    first = scim.get("/Users", startIndex=1, count=3).json()
    assert (first["totalResults"], first["startIndex"], first["itemsPerPage"]) == (PEOPLE, 1, 3)
    last = scim.get("/Users", startIndex=PEOPLE, count=3).json()
    assert (last["startIndex"], last["itemsPerPage"]) == (PEOPLE, 1)
    everybody = [each["id"] for each in scim.get("/Users").json()["Resources"]]
    assert [each["id"] for each in first["Resources"] + last["Resources"]] == everybody[:3] + everybody[-1:]


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ({"count": "0"}, 0),
        ({"count": "-1"}, 0),
        ({"startIndex": "-5", "count": "2"}, 2),
        ({"startIndex": "99999999999999999999999"}, 0),
        ({"count": "99999999999999999999999"}, PEOPLE),
    ],
)
def test_a_page_of_any_size_is_answered(scim: Caller, query: dict[str, str], count: int) -> None:
    answer = scim.get("/Users", **query)
    assert answer.status_code == 200
    assert (answer.json()["totalResults"], len(answer.json()["Resources"])) == (PEOPLE, count)


def test_a_search_by_post_finds_the_same(directory: Caller) -> None:
    body = {
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:SearchRequest"],
        "attributes": ["displayName", "userName"],
        "filter": 'displayName sw "john"',
        "startIndex": 1,
        "count": 10,
    }
    found = directory("post", "/Users/.search", body).json()
    assert found["schemas"] == ["urn:ietf:params:scim:api:messages:2.0:ListResponse"]
    assert [set(each) for each in found["Resources"]] == [{"schemas", "id", "displayName", "userName"}]
