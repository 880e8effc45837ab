from typing import Any

import pytest

from tenants.roles import Scope
from tests.conftest import Company
from tests.support.keys import Caller, make_key

USER = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"


def scim_of(company: Company) -> Caller:
    key = make_key(company, [Scope.SCIM], role="administrator")
    return Caller(key, base="/scim/v2", media_type="application/scim+json")


@pytest.fixture
def scim(acme: Company) -> Caller:
    """Acme Bank's directory."""
    return scim_of(acme)


# RFC 7644, section 3.3, with the userName of RFC 7643, section 8.1: here it is an address.
BARBARA: dict[str, Any] = {
    "schemas": [USER],
    "userName": "bjensen@example.com",
    "externalId": "bjensen",
    "name": {"formatted": "Ms. Barbara J Jensen III", "familyName": "Jensen", "givenName": "Barbara"},
}


def operations(*each: dict[str, Any]) -> dict[str, Any]:
    return {"schemas": [PATCH], "Operations": list(each)}
