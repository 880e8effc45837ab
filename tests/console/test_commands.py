import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from console import demo
from tenants.access import actor_for_key
from tenants.models import Membership, Tenant, User
from tenants.roles import Role
from tenants.scope import tenant_scope
from tests.conftest import Company


def _prepare() -> dict:
    out = StringIO()
    call_command("prepare", stdout=out, verbosity=0)
    return json.loads(out.getvalue().splitlines()[-1])


@pytest.mark.django_db(transaction=True, databases=["default", "owner"])
class TestPrepare:
    def test_a_first_start_makes_two_tenants_with_a_person_for_each_role(self) -> None:
        password = _prepare()["demo_password"]
        for slug in ("acme-bank", "north-fund"):
            tenant = Tenant.objects.get(slug=slug)
            with tenant_scope(tenant.pk):
                roles = {m.role: m.user for m in Membership.objects.select_related("user")}
            assert set(roles) == set(Role)
            assert all(user.check_password(password) for user in roles.values())
        assert User.objects.get(email=demo.PLATFORM_EMAIL).is_platform_administrator

    def test_a_second_start_changes_nothing_and_tells_no_password(self) -> None:
        _prepare()
        before = list(User.objects.order_by("pk").values())
        assert _prepare()["demo_password"] is None
        assert list(User.objects.order_by("pk").values()) == before

    def test_a_person_whom_an_administrator_took_out_stays_out(self) -> None:
        _prepare()
        tenant = Tenant.objects.get(slug="acme-bank")
        with tenant_scope(tenant.pk):
            Membership.objects.filter(role="member").delete()
        _prepare()
        with tenant_scope(tenant.pk):
            assert not Membership.objects.filter(role="member").exists()

    def test_the_password_can_be_given_for_automation(self, monkeypatch: pytest.MonkeyPatch) -> None:
        _prepare()
        monkeypatch.setenv("CUSTOS_DEMO_PASSWORD", "given by the automation")
        assert _prepare()["demo_password"] is None
        assert User.objects.get(email="member@acme-bank.example").check_password("given by the automation")


class TestCreateApiKey:
    def test_prints_the_key_alone(self, acme: Company) -> None:
        out = StringIO()
        call_command("create_api_key", "--tenant", "acme-bank", "--name", "reports", stdout=out)
        actor = actor_for_key(out.getvalue().removesuffix("\n"))
        assert actor is not None
        assert actor.tenant_slug == "acme-bank"

    def test_says_which_tenant_is_missing(self, acme: Company) -> None:
        with pytest.raises(CommandError, match="no-such-bank"):
            call_command("create_api_key", "--tenant", "no-such-bank", "--name", "reports")
