"""Identity providers and the second factor, as a tenant's administrators manage them."""

import contextlib
import http.server
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.test import Client

from audit.models import AuditRecord
from console.sign_in import outgoing, services
from console.sign_in.models import IdentityProvider
from console.sign_in.openid import DiscoveryFailed, discover
from console.sign_in.single_sign_on import open_secret
from tenants import changes as recording
from tenants.actors import NotVisible
from tenants.envelope import Tampered
from tenants.errors import Refused
from tenants.models import CustomRole, User
from tenants.scope import tenant_scope
from tests.conftest import Company

pytestmark = pytest.mark.django_db

PLACE = "/t/acme-bank/administration/sign-in/"
SECRET = "a secret of the client"
GOOD: dict[str, Any] = {
    "slug": "login",
    "name": "Company login",
    "issuer": "https://login.acme-bank.example",
    "client_id": "custos",
    "client_secret": SECRET,
    "domains": ["acme-bank.example"],
}


def create(company: Company, **changes: Any) -> IdentityProvider:
    with tenant_scope(company.tenant.pk):
        return services.create_provider(actor=company.actor(company.administrator), **{**GOOD, **changes})


def records(company: Company) -> list[str]:
    with tenant_scope(company.tenant.pk):
        return list(AuditRecord.objects.order_by("id").values_list("kind", flat=True))


def test_one_is_added_changed_and_removed_through_the_pages(
    acme: Company, client_of: Callable[[User], Client]
) -> None:
    browser = client_of(acme.administrator)
    form = {**GOOD, "domains": "acme-bank.example, Other.example", "default_role": "member", "enabled": "on"}
    assert browser.post(f"{PLACE}add/", form).headers["Location"] == PLACE
    page = browser.get(PLACE).text
    assert "Company login" in page and "acme-bank.example, other.example" in page
    with tenant_scope(acme.tenant.pk):
        row = IdentityProvider.objects.get()
        assert open_secret(row) == SECRET
    edit = f"{PLACE}{row.pk}/"
    assert SECRET not in browser.get(edit).text
    assert browser.post(edit, {**form, "client_secret": "", "name": "Other name"}).status_code == 302
    with tenant_scope(acme.tenant.pk):
        row = IdentityProvider.objects.get()
        assert (row.name, open_secret(row)) == ("Other name", SECRET), "an empty secret is left as it was"
    assert "Other name" in browser.get(f"{edit}delete/").text
    browser.post(f"{edit}delete/")
    assert "No identity provider" in browser.get(PLACE).text
    assert records(acme) == [
        "identity_provider.created",
        "identity_provider.changed",
        "identity_provider.deleted",
    ]


def test_its_secret_is_sealed_and_stays_where_it_belongs(acme: Company) -> None:
    row, other = create(acme), create(acme, slug="other")
    assert SECRET.encode() not in bytes(row.sealed_secret or b"")
    other.sealed_secret = row.sealed_secret
    with tenant_scope(acme.tenant.pk):
        assert open_secret(row) == SECRET
        with pytest.raises(Tampered):
            open_secret(other)


def test_only_who_appoints_people_trusts_a_provider_with_administrators_and_reviewers(
    acme: Company, client_of: Callable[[User], Client]
) -> None:
    with pytest.raises(Refused) as refused:
        create(acme, vouches_for_duties=True)
    assert refused.value.code == "provider_not_yours"
    row = create(acme)
    with tenant_scope(acme.tenant.pk):
        owner, administrator = acme.actor(acme.owner), acme.actor(acme.administrator)
        with pytest.raises(Refused):
            services.update_provider(actor=administrator, provider_id=row.pk, vouches_for_duties=True)
        services.update_provider(actor=owner, provider_id=row.pk, vouches_for_duties=True)
        with pytest.raises(Refused):
            services.update_provider(actor=administrator, provider_id=row.pk, issuer="https://evil.example")
    edit = f"{PLACE}{row.pk}/"
    assert "vouches_for_duties" not in client_of(acme.administrator).get(edit).text
    form = {**GOOD, "domains": "acme-bank.example", "default_role": "member", "enabled": "on"}
    assert client_of(acme.administrator).post(edit, form).status_code == 422
    assert client_of(acme.owner).post(edit, form).status_code == 302
    with tenant_scope(acme.tenant.pk):
        assert not IdentityProvider.objects.get().vouches_for_duties


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"issuer": "http://login.acme-bank.example"}, "issuer_invalid"),
        ({"issuer": "ftp://login.acme-bank.example"}, "issuer_invalid"),
        ({"issuer": "https://user:pass@login.acme-bank.example"}, "issuer_invalid"),
        ({"issuer": "https://login.acme-bank.example?x=1"}, "issuer_invalid"),
        ({"issuer": "https://"}, "issuer_invalid"),
        ({"domains": []}, "domains_missing"),
        ({"domains": ["not a domain"]}, "email_invalid"),
        ({"domains": ["\u0430cme-bank.example"]}, "email_look_alike"),
        ({"slug": "L\u043egin"}, "slug_look_alike"),
        ({"slug": "taken"}, "slug_taken"),
        ({"client_id": " "}, "client_id_missing"),
        ({"default_role": "administrator"}, "role_has_duties"),
        ({"default_role": "reviewer"}, "role_has_duties"),
        ({"default_role": "keyholder"}, "role_has_duties"),
        ({"default_role": "nothing"}, "role_has_duties"),
        ({"client_secret": "x" * 1001}, "secret_too_long"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], code: str, acme: Company) -> None:
    create(acme, slug="taken")
    with tenant_scope(acme.tenant.pk):
        CustomRole.objects.create(slug="keyholder", name="Keyholder", permissions=["keys.manage"])
    with pytest.raises(Refused) as refused:
        create(acme, **changes)
    assert refused.value.code == code
    assert records(acme) == ["identity_provider.created"]


def test_a_refusal_is_shown_at_its_field(acme: Company, client_of: Callable[[User], Client]) -> None:
    form = {**GOOD, "domains": "acme-bank.example", "default_role": "member", "issuer": "http://elsewhere"}
    page = client_of(acme.administrator).post(f"{PLACE}add/", form)
    assert page.status_code == 422
    assert "begins with https://" in page.text
    assert page.text.count('aria-invalid="true"') == 1
    assert SECRET not in page.text


def test_those_who_may_look_may_not_change(acme: Company, north: Company) -> None:
    row = create(acme)
    calls: list[Callable[[Any], Any]] = [
        lambda actor: services.create_provider(actor=actor, **{**GOOD, "slug": "more"}),
        lambda actor: services.update_provider(actor=actor, provider_id=row.pk, name="x"),
        lambda actor: services.delete_provider(actor=actor, provider_id=row.pk),
        lambda actor: services.test_connection(actor=actor, provider_id=row.pk),
        lambda actor: services.require_second_factor(actor=actor, required=True),
    ]
    with tenant_scope(acme.tenant.pk):
        assert services.providers(acme.actor(acme.auditor)) == [row]
        for person in (acme.auditor, acme.member, acme.reviewer):
            for call in calls:
                with pytest.raises(NotVisible):
                    call(acme.actor(person))
    with tenant_scope(north.tenant.pk), pytest.raises(NotVisible):
        services.update_provider(actor=north.actor(north.owner), provider_id=row.pk, name="x")


def test_the_second_factor_is_switched_on_record(acme: Company, client_of: Callable[[User], Client]) -> None:
    browser = client_of(acme.administrator)
    browser.post(f"{PLACE}second-factor", {"required": "yes"})
    led = browser.get(PLACE)
    assert led.headers["Location"].startswith("/account/second-factor/"), "for administrators too"
    assert records(acme) == ["tenant.settings_changed"]


# --- The issuer answers ----------------------------------------------------------------------


class _Odd(http.server.BaseHTTPRequestHandler):
    """An issuer with faults: the first part of the address says which."""

    def do_GET(self) -> None:
        here = f"http://127.0.0.1:{self.server.server_port}"  # type: ignore[attr-defined]
        fault = self.path.split("/")[1]
        body = {
            "other": '{"issuer": "https://other.example"}',
            "text": "hello",
            "list": "[]",
            "plain": f'{{"issuer": "{here}/plain", "authorization_endpoint": "http://elsewhere.example/a"}}',
            "huge": "x" * (outgoing.MOST_BYTES + 1),
        }.get(fault, "{}")
        if fault == "endless-head":
            self.wfile.write(b"HTTP/1.0 200 OK\r\nX-Slow: ")
            self._trickle()
            return
        self.send_response({"missing": 404, "redirect": 302}.get(fault, 200))
        if fault == "redirect":
            self.send_header("Location", f"{here}/text")
        self.end_headers()
        if fault == "slow":
            time.sleep(outgoing.READ_S + 0.5)
        self.wfile.write(body.encode())
        if fault == "endless":
            self._trickle()

    def _trickle(self) -> None:
        """A byte now and then, so that no single wait is too long."""
        with contextlib.suppress(OSError):
            for _each in range(100):
                self.wfile.write(b" ")
                time.sleep(0.1)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def odd() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Odd)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("other", "names another issuer: https://other.example"),
        ("text", "answers with no JSON"),
        ("list", "no OpenID Connect configuration"),
        ("missing", "status 404"),
        ("redirect", "the issuer redirects"),
        ("plain", "authorization_endpoint cannot be used: the address must begin with https://"),
        ("huge", "the answer is too large"),
        ("slow", "the answer does not come to its end"),
    ],
)
def test_an_issuer_with_a_fault_is_told_so(
    fault: str, words: str, odd: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outgoing, "READ_S", 1.0)
    with pytest.raises(DiscoveryFailed, match=words):
        discover(f"{odd}/{fault}")


@pytest.mark.parametrize("fault", ["endless", "endless-head"])
def test_an_issuer_does_not_hold_us(fault: str, odd: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "TOTAL_S", 1.0)
    began = time.monotonic()
    with pytest.raises(DiscoveryFailed):
        discover(f"{odd}/{fault}")
    assert time.monotonic() - began < 3


def test_the_page_says_what_is_wrong_with_the_connection(
    acme: Company, odd: str, client_of: Callable[[User], Client]
) -> None:
    row = create(acme, issuer=f"{odd}/missing")
    browser = client_of(acme.administrator)
    browser.post(f"{PLACE}{row.pk}/test")
    assert "status 404" in browser.get(PLACE).text


@pytest.mark.parametrize(
    "address",
    ["http://10.0.0.1/", "http://login.example/", "file:///etc/passwd", "https://a:b@c.example/", "//x"],
)
def test_addresses_that_are_never_asked(address: str) -> None:
    with pytest.raises(outgoing.Unsafe), outgoing.IssuerSession() as session:
        session.get(address)


@pytest.mark.parametrize("address", ["http://127.0.0.1:6379/", "http://localhost/", "http://[::1]/"])
def test_where_people_come_from_elsewhere_this_machine_is_not_asked(address: str, settings: Any) -> None:
    """A tenant's administrator need not be one of the machine, whose other services listen there."""
    outgoing.check_address(address)
    settings.BEHIND_TLS = True
    with pytest.raises(outgoing.Unsafe):
        outgoing.check_address(address)


def test_what_cannot_be_recorded_is_not_changed_even_if_somebody_goes_on(
    acme: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a page does that catches the error and commits."""
    kept = create(acme)
    actor = acme.actor(acme.administrator)
    deeds: list[Callable[[], object]] = [
        lambda: services.create_provider(actor=actor, **{**GOOD, "slug": "other"}),
        lambda: services.update_provider(actor=actor, provider_id=kept.pk, name="Another"),
        lambda: services.delete_provider(actor=actor, provider_id=kept.pk),
        lambda: services.require_second_factor(actor=actor, required=True),
    ]

    def fail(*_anything: object, **_more: object) -> None:
        raise RuntimeError("no record")

    monkeypatch.setattr(recording, "_sink", fail)
    for deed in deeds:
        with tenant_scope(acme.tenant.pk):
            with pytest.raises(RuntimeError, match="no record"):
                deed()
            assert list(IdentityProvider.objects.values_list("slug", "name")) == [("login", "Company login")]
            assert not services.is_second_factor_required(actor)
