"""Webhooks: signed, tried again, and never to an address that nobody opened."""

import json
import socket
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from console.monitoring import notices, rules, webhooks
from console.monitoring.models import Channel, Notice
from console.monitoring.rules import By
from tenants.errors import Refused
from tests.monitoring.conftest import Clock

pytestmark = pytest.mark.django_db(transaction=True)


class Receiver:
    """A program that takes webhooks on this machine and answers as it is told."""

    def __init__(self) -> None:
        self.status, self.got = 200, list[tuple[dict[str, str], bytes]]()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append((dict(self.headers), body))
                self.send_response(receiver.status)
                self.send_header("Location", "http://169.254.169.254/")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://localhost:{self.server.server_port}/hook?to=x"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def receiver(settings: Any) -> Iterator[Receiver]:
    settings.WEBHOOK_NETWORKS = ("127.0.0.0/8", "::1/128")
    running = Receiver()
    yield running
    running.server.shutdown()
    running.server.server_close()


@pytest.fixture
def channel(by: By, receiver: Receiver) -> Channel:
    return rules.create_channel(by=by, kind="webhook", name="Pager", target=receiver.url, least="warning")


def test_a_notice_is_signed_so_that_the_receiver_can_check_it(
    by: By, channel: Channel, receiver: Receiver
) -> None:
    notice = rules.try_channel(by=by, channel_id=channel.pk)
    assert notices.deliver() == 1
    ((headers, body),) = receiver.got
    secret = webhooks.secret_of(channel.pk)
    assert headers["Custos-Signature"] == webhooks.signature(secret, headers["Custos-Timestamp"], body)
    assert headers["Custos-Signature"] != webhooks.signature(secret, headers["Custos-Timestamp"], body + b" ")
    assert headers["Custos-Notice"] == str(notice.pk)
    assert json.loads(body)["event"] == "test"
    notice.refresh_from_db()
    assert notice.delivered
    assert notice.next_attempt is None
    assert webhooks.secret_of(notice.pk) != secret, "each channel has a secret of its own"


def test_what_is_not_taken_is_tried_again_ever_later_and_given_up_at_last(
    by: By, channel: Channel, receiver: Receiver, moved: Clock
) -> None:
    receiver.status = 500
    notice = rules.try_channel(by=by, channel_id=channel.pk)
    attempts = len(notices.BACK_OFF) + 1
    for number in range(attempts):
        assert notices.deliver() == 0
        assert notices.deliver() == 0, "not before its time"
        assert len(receiver.got) == number + 1
        moved.move(seconds=notices.BACK_OFF[min(number, len(notices.BACK_OFF) - 1)].total_seconds())
    notice.refresh_from_db()
    assert (notice.attempts, notice.next_attempt, notice.error) == (attempts, None, "answered 500")
    moved.move(days=30)
    notices.deliver()
    assert len(receiver.got) == attempts


def test_after_a_failure_it_arrives_when_the_receiver_is_back(
    by: By, channel: Channel, receiver: Receiver, moved: Clock
) -> None:
    receiver.status = 503
    rules.try_channel(by=by, channel_id=channel.pk)
    notices.deliver()
    receiver.status = 204
    moved.move(seconds=10)
    assert notices.deliver() == 1
    assert len(receiver.got) == 2


def test_a_wait_from_a_clock_that_was_ahead_is_not_kept(
    by: By, channel: Channel, receiver: Receiver, moved: Clock
) -> None:
    rules.try_channel(by=by, channel_id=channel.pk)
    Notice.objects.update(next_attempt=moved.now + timedelta(days=400))
    assert notices.deliver() == 1


def test_redirects_are_not_followed(by: By, channel: Channel, receiver: Receiver) -> None:
    receiver.status = 307
    rules.try_channel(by=by, channel_id=channel.pk)
    assert notices.deliver() == 0
    assert len(receiver.got) == 1
    assert Notice.objects.get().error == "answered 307"


def test_a_channel_that_is_off_gets_nothing(by: By, channel: Channel, receiver: Receiver) -> None:
    rules.try_channel(by=by, channel_id=channel.pk)
    rules.remove_channel(by=by, channel_id=channel.pk)
    assert notices.deliver() == 0
    assert receiver.got == []


REFUSED = [
    "http://hooks.example/x",
    "ftp://hooks.example/x",
    "https://user:word@hooks.example/",
    "https://",
    "https://hooks.example/a b",
    "https://hooks.example:99999/",
    "https://127.0.0.1/",
    "https://10.0.0.1/",
    "https://192.168.1.1/",
    "https://100.64.0.1/",
    "https://169.254.169.254/latest/meta-data/",
    "https://0.0.0.0/",
    "https://224.0.0.1/",
    "https://[::1]/",
    "https://[fe80::1]/",
    "https://[fd00::1]/",
    "https://[::ffff:10.0.0.1]/",
    "https://[64:ff9b::a00:1]/",
    "https://[2002:a00:1::]/",
    "https://hooks.example/\r\nHost: x",
]


@pytest.mark.parametrize("url", REFUSED)
def test_an_address_that_may_not_be_asked_is_refused_in_the_form(url: str, by: By) -> None:
    with pytest.raises(Refused) as refused:
        rules.create_channel(by=by, kind="webhook", name="x", target=url, least="warning")
    assert refused.value.field == "target"


@pytest.mark.parametrize("address", ["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "fe80::1%eth0"])
def test_a_name_that_leads_inside_is_refused_when_it_is_asked(
    address: str, by: By, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when only one of its addresses does."""
    channel = rules.create_channel(
        by=by, kind="webhook", name="x", target="https://hooks.example/", least="warning"
    )

    def lookup(*_: Any, **__: Any) -> list[Any]:
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, 443)) for each in ("93.184.216.34", address)
        ]

    def connect(*_: Any, **__: Any) -> None:
        raise AssertionError("nothing is connected to")

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(webhooks.Unsafe):
        webhooks.post(channel.target, secret="s", notice_id=channel.pk, body={})


def test_plain_http_goes_only_to_networks_that_were_opened(by: By, settings: Any, receiver: Receiver) -> None:
    channel = rules.create_channel(by=by, kind="webhook", name="x", target=receiver.url, least="warning")
    settings.WEBHOOK_NETWORKS = ("10.0.0.0/8",)
    with pytest.raises(webhooks.Unsafe):
        webhooks.post(channel.target, secret="s", notice_id=channel.pk, body={})
    assert receiver.got == []
