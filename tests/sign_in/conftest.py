"""What the tests of signing in share: fresh counters, English, browsers, and an authenticator app."""

from collections.abc import Callable, Iterator

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import TOTP, format_hotp_value, hotp_value, yield_hotp_counters_from_time
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.core.cache import cache
from django.test import Client
from django.utils import translation

from audit.models import AuditRecord
from console.chat.identity import Visitor, judge
from tenants.models import User
from tenants.scope import tenant_scope
from tests.conftest import PASSWORD, Company, _password_hash
from tests.sign_in import issuer as issuers
from tests.sign_in.issuer import Issuer


@pytest.fixture(scope="session")
def issuer() -> Iterator[Issuer]:
    """A real OpenID provider, in a process of its own."""
    process, running = issuers.start()
    yield running
    process.terminate()
    process.wait(10)


SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


@pytest.fixture(autouse=True)
def unbraked() -> None:
    """Counters live in Valkey, which outlives a test."""
    cache.clear()


@pytest.fixture(autouse=True)
def quick_hashes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The same hashes with fewer rounds: these tests sign in hundreds of times."""
    monkeypatch.setattr(PBKDF2PasswordHasher, "iterations", 10)
    _password_hash.cache_clear()
    yield
    _password_hash.cache_clear()


@pytest.fixture(autouse=True)
def english() -> None:
    translation.activate("en")


@pytest.fixture
def member_browser(acme: Company, client_of: Callable[[User], Client]) -> Client:
    return client_of(acme.member)


def recorded(company: Company) -> list[str]:
    """The kinds of the changes recorded in the company, oldest first; comings and goings are test_trail's."""
    with tenant_scope(company.tenant.pk):
        changes = AuditRecord.objects.exclude(kind__startswith="sign_in.")
        return list(changes.order_by("id").values_list("kind", flat=True))


def sign_in(client: Client, email: str, password: str = PASSWORD, **more: str):  # type: ignore[no-untyped-def]
    return client.post("/signin/", {"email": email, "password": password, **more})


def add_authenticator_app(user: User) -> Authenticator:
    return TOTP.activate(user, SECRET).instance


def code_now(secret: str = SECRET) -> str:
    """What the authenticator app shows now. A code counts once, so each test forgets those used before."""
    counter = list(yield_hotp_counters_from_time())[1]
    return format_hotp_value(hotp_value(secret, counter))


def gone(*visitors: Visitor) -> dict[Visitor, type[Exception]]:
    """Those whose sockets close now, and why."""
    return judge({visitor: frozenset() for visitor in visitors}).gone


def sign_in_with_code(client: Client, user: User) -> None:
    """Sign in by password and then by the code of the authenticator app."""
    assert sign_in(client, user.email).headers["Location"] == "/signin/second-factor/"
    cache.clear()
    answer = client.post("/signin/second-factor/", {"code": code_now()})
    assert answer.status_code == 302, answer.text
