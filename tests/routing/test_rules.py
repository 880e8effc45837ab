"""Which deployment answers: by conditions, position and weight, by what is cached where, by health; and why."""

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from inference.deployments.selectors import Endpoint
from inference.registry.models import Deployment, Route
from inference.registry.selectors import Resolved, RouteNotFound
from inference.routing import circuits, conditions, rules
from inference.routing.ask import Ask, ask_of
from inference.routing.choice import resolve
from inference.routing.models import Target
from tenants import valkey
from tenants.errors import Refused
from tenants.models import Group
from tenants.scope import tenant_scope
from tests.conftest import Company
from tests.routing.conftest import Deployed

pytestmark = pytest.mark.django_db


def rule(company: Company, route: Route, deployment: Deployment, position: int = 1, **about: Any) -> Target:
    with tenant_scope(company.tenant.pk):
        return Target.objects.create(route=route, deployment=deployment, position=position, **about)


def asked(company: Company, ask: Ask | None = None, name: str | None = None) -> Resolved:
    with tenant_scope(company.tenant.pk):
        return resolve(company.actor(company.member), name, ask=ask or Ask("chat", head="a"))


def names(resolved: Resolved) -> list[str]:
    return [each.deployment for each in (resolved, *resolved.others)]


def fail(deployment: Deployment, times: int = circuits.FAILURES) -> None:
    async def several() -> None:
        for _ in range(times):
            await circuits.note(deployment.pk, failed=True)
        await valkey.close_client()

    async_to_sync(several)()


def test_a_route_without_rules_is_answered_by_its_deployment(acme: Company, route: Route) -> None:
    resolved = asked(acme)
    assert (resolved.deployment, resolved.reason, resolved.others) == ("embedded", "default", ())


def test_the_first_rule_that_holds_decides_and_the_rest_follow(
    acme: Company, route: Route, deployed: Deployed
) -> None:
    rule(acme, route, deployed("chinese"), 1, conditions={"languages": ["zh"]})
    rule(acme, route, deployed("programs"), 2, conditions={"channels": ["api"]})
    rule(acme, route, deployed("off"), 3, enabled=False)
    rule(acme, route, deployed("all"), 4)
    chinese = asked(acme, ask_of("chat", {"messages": [{"content": "请翻译这句话"}]}), route.name)
    assert names(chinese) == ["chinese", "all", "embedded"]
    assert chinese.reason == "named rule:1"
    assert asked(acme, Ask("api")).reason == "default rule:2"
    assert names(asked(acme)) == ["all", "embedded"]


def test_what_no_rule_is_for_stays_with_the_route(acme: Company, route: Route, deployed: Deployed) -> None:
    rule(acme, route, deployed("long"), conditions={"least_tokens": 1000})
    assert names(asked(acme, Ask("chat", tokens=999))) == ["embedded"]
    assert asked(acme, Ask("chat", tokens=999)).reason == "default no_rule"
    assert asked(acme, Ask("chat", tokens=1000)).deployment == "long"


def test_a_rule_may_be_for_a_group(acme: Company, route: Route, deployed: Deployed) -> None:
    with tenant_scope(acme.tenant.pk):
        everyone, others = Group.objects.get(is_everyone=True), Group.objects.create(name="Traders")
    rule(acme, route, deployed("traders"), 1, conditions={"groups": [str(others.pk)]})
    assert asked(acme).deployment == "embedded"
    rule(acme, route, deployed("everyone"), 2, conditions={"groups": [str(everyone.pk)]})
    assert asked(acme).deployment == "everyone"


def test_hours_may_go_over_midnight() -> None:
    def holds(hour: int, weekday: int = 0) -> bool:
        ask = Ask("chat", at=datetime(2026, 11, 30 + 0, hour, tzinfo=UTC))
        return conditions.hold({"from_hour": 22, "to_hour": 6, "weekdays": [weekday]}, ask, frozenset)

    assert [hour for hour in range(24) if holds(hour)] == [*range(6), 22, 23]
    assert not holds(23, weekday=1)


def test_weights_are_shares_and_a_prompt_keeps_to_its_deployment(
    acme: Company, route: Route, deployed: Deployed
) -> None:
    rule(acme, route, deployed("big"), weight=300)
    rule(acme, route, deployed("small"), weight=100)
    first = [asked(acme, Ask("chat", head=str(number))).deployment for number in range(300)]
    assert 180 < Counter(first)["big"] < 270
    assert first == [asked(acme, Ask("chat", head=str(number))).deployment for number in range(300)]


def test_a_prompt_leaves_its_deployment_when_that_is_much_busier(
    acme: Company, route: Route, deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = {"one": 0.0, "two": 0.0, "embedded": 0.0}
    for name in ("one", "two"):
        rule(acme, route, deployed(name))

    def endpoints(deployment: Deployment) -> list[Endpoint]:
        return [Endpoint(1, None, True, loads[deployment.name])]  # type: ignore[arg-type]

    monkeypatch.setattr(rules, "endpoints_of", endpoints)
    own = asked(acme).deployment
    other = {"one": "two", "two": "one"}[own]
    loads[own] = 0.4
    assert asked(acme).deployment == own
    loads[own] = 0.9
    assert asked(acme).deployment == other


def test_a_deployment_that_keeps_failing_is_left_alone_and_tried_again(
    acme: Company, route: Route, deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = deployed("bad")
    rule(acme, route, bad)
    fail(bad, circuits.FAILURES - 1)
    assert names(asked(acme)) == ["bad", "embedded"]
    monkeypatch.setattr(circuits, "PAUSE_S", 1)
    fail(bad, 1)
    assert names(asked(acme)) == ["embedded"]
    assert asked(acme).reason == "default instead_of:bad"
    valkey.sync_client().delete(f"custos:circuit:{bad.pk}:open")  # Its time is over.
    assert asked(acme).deployment == "bad"
    assert asked(acme).deployment == "embedded", "one request at a time tries it"
    fail(bad, 1)
    assert circuits.states_of([bad.pk]) == {bad.pk: circuits.State.OPEN}, "one failure is enough now"
    valkey.sync_client().delete(f"custos:circuit:{bad.pk}:open")

    async def answer() -> None:
        await circuits.note(bad.pk, failed=False)
        await valkey.close_client()

    async_to_sync(answer)()
    assert circuits.states_of([bad.pk]) == {bad.pk: circuits.State.CLOSED}


def test_without_valkey_all_circuits_are_closed(
    acme: Company, route: Route, deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = deployed("bad")
    rule(acme, route, bad)
    fail(bad)

    def gone() -> None:
        raise OSError

    monkeypatch.setattr(valkey, "sync_client", gone)
    assert asked(acme).deployment == "bad"


def test_a_class_is_chosen_by_difficulty_or_by_whoever_asks(
    acme: Company, route: Route, deployed: Deployed
) -> None:
    rule(acme, route, deployed("quick"), 1, route_class="fast", conditions={"difficulty_below": 0.4})
    rule(acme, route, deployed("good"), 2, route_class="precise")
    easy, hard = Ask("chat", difficulty=0.18), Ask("chat", difficulty=0.6)
    assert asked(acme, easy).reason == "default rule:1 fast difficulty:0.18<0.4"
    assert asked(acme, hard).reason == "default rule:2 precise difficulty:0.6"
    wanted = asked(acme, Ask("chat", difficulty=0.6, wanted="fast"))
    assert (wanted.reason, names(wanted)) == ("default rule:1 fast:asked", ["quick"])


def test_a_class_that_no_rule_offers_is_not_there(acme: Company, route: Route, deployed: Deployed) -> None:
    rule(acme, route, deployed("quick"), route_class="fast")
    with pytest.raises(RouteNotFound):
        asked(acme, Ask("chat", wanted="precise"))


@pytest.mark.parametrize(
    "value",
    [
        {"unknown": 1},
        {"channels": ["mail"]},
        {"channels": "chat"},
        {"weekdays": [7]},
        {"weekdays": [True]},
        {"groups": ["x"]},
        {"least_tokens": -1},
        {"least_tokens": 5, "most_tokens": 4},
        {"from_hour": 3},
        {"difficulty_below": 1.1},
        {"difficulty_below": True},
    ],
)
def test_conditions_that_cannot_be_understood_are_refused(value: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        conditions.cleaned(value)


def test_conditions_are_kept_without_what_says_nothing() -> None:
    said = {"channels": ["chat", "chat"], "tasks": [], "least_tokens": None, "from_hour": 0, "to_hour": 24}
    assert conditions.cleaned(said) == {"channels": ["chat"], "from_hour": 0, "to_hour": 24}


def test_what_is_read_from_a_request() -> None:
    chinese = ask_of("api", {"messages": [{"role": "user", "content": "写一个 Python 函数,计算平均值"}]})
    assert (chinese.language, chinese.tasks >= {"code", "maths"}) == ("zh", True)
    parts = {"messages": [{"content": [{"type": "text", "text": "Summarise this."}]}], "tools": [{}]}
    assert ask_of("api", parts).tasks == {"summary", "tools"}
    assert (
        ask_of("api", {"prompt": "Здравствуй, мир"}).language,
        ask_of("api", {"prompt": "Hello"}).language,
    ) == (
        "other",
        "en",
    )
    hard = "Prove step by step why 3 + 4 = 7, and explain exactly how each part must follow."
    assert ask_of("chat", {"prompt": "Hi"}).difficulty < 0.2
    assert ask_of("chat", {"prompt": hard}).difficulty > 0.6
    grown = [ask_of("chat", {"prompt": text}, conversation="c").head for text in ("a", "a b")]
    assert grown[0] == grown[1]
