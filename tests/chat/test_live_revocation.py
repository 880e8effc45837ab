"""Whoever signs out or loses access is gone from the chat within a second, in the middle of an answer too."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

import pytest
import websockets
from asgiref.sync import sync_to_async
from django.contrib.sessions.models import Session

from tenants import clock
from tenants.models import Membership, Tenant, User
from tenants.roles import Role
from tenants.scope import tenant_scope
from tests.chat.browser import Browser
from tests.chat.recorded import Withdrawn, once_closed
from tests.conftest import Company

WITHIN_S = 1.0
LONG = "Write a very long and detailed story about a river, with many chapters."


def sign_out(company: Company, session_key: str) -> None:
    Session.objects.filter(session_key=session_key).delete()


def let_the_session_expire(company: Company, session_key: str) -> None:
    Session.objects.filter(session_key=session_key).update(expire_date=clock.now() - timedelta(seconds=1))


def deactivate(company: Company, session_key: str) -> None:
    User.objects.filter(pk=company.member.pk).update(is_active=False)


def change_the_password(company: Company, session_key: str) -> None:
    user = User.objects.get(pk=company.member.pk)
    user.set_password("another good long password")
    user.save()


def remove_from_the_tenant(company: Company, session_key: str) -> None:
    with tenant_scope(company.tenant.pk):
        Membership.objects.filter(user=company.member).delete()


def make_a_reviewer(company: Company, session_key: str) -> None:
    with tenant_scope(company.tenant.pk):
        Membership.objects.filter(user=company.member).update(role=Role.REVIEWER)


def suspend_the_tenant(company: Company, session_key: str) -> None:
    Tenant.objects.filter(pk=company.tenant.pk).update(status=Tenant.Status.SUSPENDED)


@pytest.mark.parametrize(
    ("withdraw", "code"),
    [
        (sign_out, 4401),
        (let_the_session_expire, 4401),
        (deactivate, 4401),
        (change_the_password, 4401),
        (remove_from_the_tenant, 4404),
        (make_a_reviewer, 4404),
        (suspend_the_tenant, 4404),
    ],
)
async def test_an_idle_socket_is_closed_within_a_second(
    live_acme: Company,
    live_north: Company,
    browser: Browser,
    withdraw: Callable[[Company, str], None],
    code: int,
) -> None:
    tab = await browser.open(live_acme.member, "acme-bank")
    other = await browser.open(live_north.member, "north-fund")
    await sync_to_async(withdraw)(live_acme, tab.session_key)
    withdrawn_at = time.monotonic()
    assert await tab.close_code() == code
    assert time.monotonic() - withdrawn_at < WITHIN_S
    await other.send(type="ping")
    assert (await other.receive())["type"] == "pong"


async def test_signing_out_closes_one_browser_and_not_the_persons_other_one(
    live_acme: Company, browser: Browser
) -> None:
    here = await browser.open(live_acme.member, "acme-bank")
    there = await browser.open(live_acme.member, "acme-bank")
    await sync_to_async(sign_out)(live_acme, here.session_key)
    assert await here.close_code() == 4401
    await there.send(type="ping")
    assert (await there.receive())["type"] == "pong"


async def test_an_answer_is_stopped_when_the_person_loses_access(
    live_acme: Company, browser: Browser
) -> None:
    tab = await browser.open(live_acme.member, "acme-bank")
    accepted = await tab.ask(LONG)
    await tab.until(lambda frame: frame["type"] == "delta" and frame["seq"] >= 3)
    await sync_to_async(remove_from_the_tenant)(live_acme, tab.session_key)
    withdrawn_at = time.monotonic()
    with pytest.raises(websockets.ConnectionClosed):
        while True:
            await tab.receive()
    assert time.monotonic() - withdrawn_at < WITHIN_S
    assert tab.connection.close_code == 4404
    record = await once_closed(live_acme, accepted["generation"], timeout_s=3)
    assert (record.status, record.error_code) == ("stopped", "access_revoked")
    assert record.text.startswith(tab.text_of(accepted["generation"]))


async def test_a_message_after_access_was_lost_is_not_acted_on(live_acme: Company, browser: Browser) -> None:
    tab = await browser.open(live_acme.member, "acme-bank")
    await sync_to_async(remove_from_the_tenant)(live_acme, tab.session_key)
    # At once, before the watcher looks: the message itself is authorised.
    await tab.send(
        type="ask",
        client_id="0198f3a0-0000-7000-8000-000000000000",
        conversation=None,
        text="Still here?",
        route=None,
    )
    with pytest.raises(websockets.ConnectionClosed):
        while True:
            await tab.receive()
    assert tab.connection.close_code == 4404
    assert [frame["type"] for frame in tab.frames] == ["hello"]


async def test_when_nobodys_rights_are_known_the_sockets_are_closed(
    live_acme: Company, browser: Browser
) -> None:
    tab = await browser.open(live_acme.member, "acme-bank")
    with Withdrawn("SELECT", "django_session"):
        started = time.monotonic()
        assert await tab.close_code(timeout_s=10) == 1013
        assert 3 < time.monotonic() - started < 8
    await browser.open(live_acme.member, "acme-bank")
