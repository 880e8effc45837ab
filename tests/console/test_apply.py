"""`manage.py apply`: a plan, then just that; nothing the second time; mistakes with their lines."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from audit.models import AuditRecord
from console.apply import document, ensure, state
from tenants.access import actor_for_user
from tenants.actors import system_actor
from tenants.models import CustomRole, Group, GroupMember, Invitation, Membership, ServiceAccount, Tenant
from tenants.people import accept_invitation
from tenants.roles import Role
from tenants.scope import tenant_scope
from tests.conftest import Company, make_user
from tests.support.digest import digest

pytestmark = pytest.mark.django_db

EXAMPLE = Path(__file__).resolve().parents[2] / "deploy" / "tenants.example.yaml"


def _apply(file: Path, *options: str) -> Any:
    """The command's JSON."""
    out = StringIO()
    call_command("apply", str(file), "--json", *options, stdout=out)
    return json.loads(out.getvalue())


def _state(slug: str) -> state.State:
    tenant = Tenant.objects.get(slug=slug)
    with tenant_scope(tenant.pk):
        return state.of(system_actor(tenant, "test", ensure.PERMISSIONS))


def _changes(result: Any, slug: str = "acme-bank") -> list[tuple[str, str, str]]:
    return [(each["action"], each["kind"], each["name"]) for each in result["tenants"][slug]]


@pytest.fixture
def written(tmp_path: Path) -> Any:
    """Writes a file that speaks of Acme Bank."""

    def write(text: str) -> Path:
        file = tmp_path / "tenants.yaml"
        indented = "".join(f"    {line}\n" for line in text.strip("\n").split("\n"))
        file.write_text(f"version: 1\ntenants:\n  acme-bank:\n{indented}")
        return file

    return write


def test_the_example_founds_a_tenant_with_all_it_says(acme: Company) -> None:
    planned = _apply(EXAMPLE)
    assert not planned["applied"]
    assert not Tenant.objects.filter(slug="south-bank").exists()
    applied = _apply(EXAMPLE, "--yes")
    assert applied["tenants"] == planned["tenants"]
    assert {each["email"] for each in applied["invitations"]} == {
        f"{name}@south-bank.example" for name in ("owner", "admin", "anna", "ben")
    }
    found = _state("south-bank")
    assert found["settings", "south-bank"]["retention_days"] == 30
    assert found["group", "Bonds"] == {"description": "", "parent": "Trading"}
    assert found["invitation", "anna@south-bank.example"] == {"role": "trader", "groups": ["Bonds"]}
    assert found["limit", "group Trading: tokens_per_day"] == {"value": 2_000_000}
    assert found["service account", "Nightly reports"]["role"] == "member"


def test_a_second_time_there_is_nothing_to_do(acme: Company) -> None:
    _apply(EXAMPLE, "--yes")
    south = Tenant.objects.get(slug="south-bank")
    before = digest(south)
    again = _apply(EXAMPLE, "--yes", "--prune")
    assert again == {"tenants": {"south-bank": []}, "applied": False, "invitations": []}
    assert digest(south) == before
    out = StringIO()
    call_command("apply", str(EXAMPLE), stdout=out)
    assert out.getvalue() == "Nothing to do.\n"


def test_an_invitation_that_was_accepted_is_the_member_that_the_file_means(acme: Company) -> None:
    [link] = [each for each in _apply(EXAMPLE, "--yes")["invitations"] if each["email"].startswith("anna")]
    token = link["link"].rstrip("/").rpartition("/")[2]
    anna = make_user("anna@south-bank.example")
    accept_invitation(tenant_slug="south-bank", token=token, user=anna, address="10.1.2.3")
    assert actor_for_user(user=anna, tenant_slug="south-bank", address="10.1.2.3").role == "trader"
    assert _apply(EXAMPLE)["tenants"]["south-bank"] == []


def test_a_plan_changes_nothing_at_all(acme: Company, written: Any) -> None:
    before = digest(acme.tenant)
    plan = _apply(
        written(
            "settings: {retention_days: 30}\ngroups: {Desk: }\nmembers: {member@acme-bank.example: {role: curator}}"
        )
    )
    assert _changes(plan) == [
        ("create", "group", "Desk"),
        ("change", "settings", "acme-bank"),
        ("change", "member", "member@acme-bank.example"),
    ]
    assert plan["tenants"]["acme-bank"][1]["fields"] == {"retention_days": {"before": 7, "after": 30}}
    assert digest(acme.tenant) == before


def test_it_is_recorded_as_the_commands(acme: Company, written: Any) -> None:
    _apply(written("settings: {retention_days: 30}"), "--yes")
    with tenant_scope(acme.tenant.pk):
        [record] = AuditRecord.objects.all()
    assert (record.kind, record.user_label) == ("retention.policy_changed", "manage.py apply")


def test_what_is_left_out_stays_until_it_is_pruned(acme: Company, written: Any) -> None:
    _apply(
        written(
            """
groups: {Trading: {groups: {Bonds: {groups: {Short: }}}}, Sales: }
roles: {trader: {name: Trader, permissions: [chat.use]}}
service_accounts: {Reports: }
limits: {tenant: {tokens_per_day: 10}, groups: {Sales: {tokens_per_day: 5}}}
members: {new@acme-bank.example: {role: trader}}
"""
        ),
        "--yes",
    )
    less = written("groups: {Sales: }\nroles: {}\nservice_accounts: {}\nlimits: {tenant: {}}")
    assert _changes(_apply(less)) == []
    message = "trader.*|.*people, programs or invitations"
    with pytest.raises(CommandError, match=message):
        _apply(less, "--prune")
    less = written(
        "groups: {Sales: }\nroles: {}\nservice_accounts: {}\nlimits: {tenant: {}}\n"
        "members: {owner@acme-bank.example: , member@acme-bank.example: }"
    )
    result = _apply(less, "--prune", "--yes")
    gone = {(kind, name) for action, kind, name in _changes(result) if action == "remove"}
    assert gone == {
        *(("group", name) for name in ("Trading", "Bonds", "Short")),
        ("role", "trader"),
        ("limit", "tenant: tokens_per_day"),
        ("limit", "group Sales: tokens_per_day"),
        ("invitation", "new@acme-bank.example"),
        *(("member", f"{role}@acme-bank.example") for role in set(Role) - {Role.OWNER, Role.MEMBER}),
    }
    with tenant_scope(acme.tenant.pk):
        assert ServiceAccount.objects.get().disabled is not None
        assert Group.objects.filter(is_everyone=False).get().name == "Sales"
        assert not CustomRole.objects.exists()
        assert Membership.objects.count() == 2
        assert not Invitation.objects.filter(accepted=None, revoked=None).exists()


def test_a_group_moves_and_a_member_changes_groups(acme: Company, written: Any) -> None:
    _apply(
        written("groups: {A: {groups: {B: }}}\nmembers: {member@acme-bank.example: {groups: [B]}}"), "--yes"
    )
    turned = written("groups: {B: , A: }\nmembers: {member@acme-bank.example: {groups: [A]}}")
    _apply(turned, "--yes")
    found = _state("acme-bank")
    assert found["group", "B"]["parent"] is None
    assert found["member", "member@acme-bank.example"] == {"role": "member", "groups": ["A", "B"]}


def test_one_mistake_and_nothing_of_the_tenant_is_changed(acme: Company, written: Any) -> None:
    before = digest(acme.tenant)
    file = written(
        "settings: {retention_days: 30}\ngroups:\n  Desk:\nroles:\n  both: {name: B, permissions: [audit.read, people.manage]}"
    )
    with pytest.raises(
        CommandError, match=r"tenants\.yaml:8: tenants\.acme-bank\.roles\.both: Administering"
    ):
        _apply(file, "--yes")
    assert digest(acme.tenant) == before


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("colour: red", 4, "not known"),
        ("settings:\n  retention_days: many", 5, "valid integer"),
        ("settings:\n  retention_days: 0", 5, "number of days"),
        ("settings:\n  networks: [10.0.0.0/8, nonsense]", 5, "no network"),
        ("roles:\n  trader:\n    name: Trader", 5, "missing"),
        ("roles:\n  trader:\n    name: Trader\n    permissions: [chat.fly]", 7, "no permission"),
        ("roles:\n  tr\u0430der: {name: T, permissions: [chat.use]}", 5, "look like them"),
        ("groups:\n  Desk:\n  Desk:", 6, "twice"),
        ("groups:\n  no:", 5, "quotation marks"),
        ("groups:\n  Desk: {groups: {Sub: {groups: 5}}}", 5, "valid dictionary"),
        ("members:\n  someone: {}", 5, "whole e-mail address"),
        ("members:\n  x@acme-bank.example:\n    groups: [Nowhere]", 6, "no group"),
        ("members:\n  x@acme-bank.example:\n    role: king", 6, "no role"),
        ("members:\n  owner@acme-bank.example:\n    role: member", 5, "last owner"),
        ("limits:\n  tenant:\n    tokens_per_week: 5", 6, "Input should be"),
        ("limits:\n  tenant:\n    tokens_per_day: -5", 6, "whole number"),
        ("groups: &a {}\nroles: *a", 5, "references"),
        ("groups: " + "{a: " * 40 + "}" * 40, 4, "too deeply"),
        ("groups: [", 5, "expected"),
    ],
)
def test_a_mistake_is_told_with_its_line(
    acme: Company, written: Any, text: str, line: int, message: str
) -> None:
    with pytest.raises(CommandError, match=rf"tenants\.yaml:{line}: .*{message}"):
        _apply(written(text))


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "tenants.yaml"
    file.write_text("version: 2\ntenants: {}")
    with pytest.raises(CommandError, match="version: 1"):
        _apply(file)


def test_a_tenant_that_is_not_active_is_left_alone(acme: Company, written: Any) -> None:
    Tenant.objects.filter(pk=acme.tenant.pk).update(status=Tenant.Status.SUSPENDED)
    with pytest.raises(CommandError, match=r":3: .*Suspended"):
        _apply(written("settings: {retention_days: 30}"))


def test_what_changed_since_the_plan_is_not_applied(
    acme: Company, written: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written("settings: {retention_days: 30}")

    def meanwhile(_question: str) -> str:
        with tenant_scope(acme.tenant.pk):
            GroupMember.objects.all().delete()
            ensure.policies.set_policy(
                actor=system_actor(acme.tenant, "somebody", ensure.PERMISSIONS),
                keeping="audit",
                days=14,
                reason="Meanwhile",
            )
        return "y"

    monkeypatch.setattr("builtins.input", meanwhile)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    with pytest.raises(CommandError, match="changed meanwhile"):
        call_command("apply", str(file), stdout=StringIO())
    assert _state("acme-bank")["settings", "acme-bank"]["retention_days"] == 14


@pytest.mark.parametrize(("answer", "days"), [("y", 30), ("n", 7), ("", 7)])
def test_it_asks(
    acme: Company, written: Any, monkeypatch: pytest.MonkeyPatch, answer: str, days: int
) -> None:
    monkeypatch.setattr("builtins.input", lambda _question: answer)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    out = StringIO()
    call_command("apply", str(written("settings: {retention_days: 30}")), stdout=out)
    assert "  ~ settings acme-bank\n      retention_days: 7 → 30\n" in out.getvalue()
    assert _state("acme-bank")["settings", "acme-bank"]["retention_days"] == days


def test_it_runs_as_the_applications_role(acme: Company) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT rolname, rolbypassrls, rolsuper FROM pg_roles WHERE rolname = current_user")
        assert cursor.fetchone() == ("custos_app", False, False)
    assert document.read(EXAMPLE).tenants
