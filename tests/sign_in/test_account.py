"""One's own account: password, e-mail address, sessions, picture; every change recorded in each of one's tenants."""

import io
import re
import subprocess
import sys
from collections.abc import Callable

import pytest
from allauth.usersessions.models import UserSession
from django.contrib.sessions.models import Session
from django.core import mail
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from PIL import Image

from console import pictures
from console.chat.identity import SignedOut, identify
from console.tasks import clear_sessions
from tenants.errors import Refused
from tenants.models import Membership, User
from tenants.scope import tenant_scope
from tests.conftest import PASSWORD, Company
from tests.sign_in.conftest import gone, recorded, sign_in

pytestmark = pytest.mark.django_db

NEW = "another horse, another battery"


def picture(size: tuple[int, int] = (40, 20), form: str = "PNG") -> bytes:
    output = io.BytesIO()
    Image.new("RGB", size, (200, 30, 30)).save(output, form)
    return output.getvalue()


def link_in_mail() -> str:
    found = re.search(r"http://testserver(/\S+)", str(mail.outbox[-1].body))
    assert found is not None, mail.outbox[-1].body
    return found[1]


def without_token(page: str) -> str:
    return re.sub(r'(value|nonce)="[\w+/=]{20,}"', "", page)


class TestPassword:
    def test_a_new_one_ends_all_other_sessions(self, acme: Company, client: Client) -> None:
        other = Client()
        sign_in(other, acme.member.email)
        sign_in(client, acme.member.email)
        form = {"oldpassword": PASSWORD, "password1": NEW, "password2": NEW}
        assert client.post("/account/password/", form).headers["Location"] == "/account/"
        assert client.get("/account/").status_code == 200
        assert other.get("/account/").status_code == 302
        assert sign_in(Client(), acme.member.email, NEW).status_code == 302
        assert recorded(acme) == ["account.password_changed"]

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"oldpassword": "wrong"}, "not your present password"),
            ({"password1": "short", "password2": "short"}, "at least 12 characters"),
            ({"password1": "1q2w3e4r5t6y", "password2": "1q2w3e4r5t6y"}, "too common"),
            ({"password2": "something else"}, "same password"),
        ],
    )
    def test_what_is_refused(
        self, change: dict[str, str], words: str, acme: Company, member_browser: Client
    ) -> None:
        form = {"oldpassword": PASSWORD, "password1": NEW, "password2": NEW, **change}
        assert words in member_browser.post("/account/password/", form).text
        assert recorded(acme) == []

    def test_a_forgotten_one_is_set_anew_by_mail(self, acme: Company, client: Client) -> None:
        client.post("/signin/forgotten/", {"email": "Member@Acme-Bank.example"})
        link = link_in_mail()
        form = client.get(link, follow=True)
        assert "Choose a new password" in form.text
        assert link not in form.request["PATH_INFO"], "the key does not stay in the address"
        place = form.request["PATH_INFO"]
        assert client.post(place, {"password1": NEW, "password2": NEW}).status_code == 302
        assert sign_in(client, acme.member.email, NEW).headers["Location"] == "/"
        assert "used or too old" in Client().get(link, follow=True).text
        assert recorded(acme) == ["account.password_changed"]

    def test_whether_there_is_an_account_is_not_told(self, acme: Company, client: Client) -> None:
        pages = [
            client.post("/signin/forgotten/", {"email": email}, follow=True).text
            for email in (acme.member.email, "nobody@acme-bank.example")
        ]
        assert without_token(pages[0]) == without_token(pages[1])
        assert [message.to for message in mail.outbox] == [[acme.member.email], ["nobody@acme-bank.example"]]


class TestEmail:
    @pytest.fixture
    def browser(self, acme: Company, client: Client) -> Client:
        sign_in(client, acme.member.email)
        return client

    def test_it_changes_once_the_link_in_the_mail_is_followed(self, acme: Company, browser: Client) -> None:
        browser.post("/account/email/", {"email": "New@Acme-Bank.example"})
        assert mail.outbox[-1].to == ["new@acme-bank.example"]
        link = link_in_mail()
        assert User.objects.filter(email=acme.member.email).exists(), "not yet"
        assert "new@acme-bank.example" in browser.get(link).text
        assert User.objects.filter(email=acme.member.email).exists(), "a look changes nothing"
        browser.post(link)
        assert User.objects.get(pk=acme.member.pk).email == "new@acme-bank.example"
        assert mail.outbox[-1].to == [acme.member.email], "the old address is told"
        assert recorded(acme) == ["account.email_changed"]
        assert browser.post(link).status_code == 422, "a link counts once"

    def test_the_link_is_for_whoever_asked(
        self, acme: Company, browser: Client, client_of: Callable[[User], Client]
    ) -> None:
        browser.post("/account/email/", {"email": "new@acme-bank.example"})
        link = link_in_mail()
        other = client_of(acme.administrator)
        assert other.post(link).status_code == 422
        old = acme.member.email
        User.objects.filter(pk=acme.member.pk).update(email="elsewhere@acme-bank.example")
        User.objects.filter(pk=acme.administrator.pk).update(email=old)
        assert other.post(link).status_code == 422, "nor for who has the old address by now"
        assert not User.objects.filter(email="new@acme-bank.example").exists()

    def test_an_address_that_is_taken_looks_the_same_and_is_not_given(
        self, acme: Company, browser: Client
    ) -> None:
        free = browser.post("/account/email/", {"email": "free@acme-bank.example"}).text
        taken = browser.post("/account/email/", {"email": acme.curator.email}).text
        assert without_token(free).replace("free@acme-bank.example", acme.curator.email) == without_token(
            taken
        )
        assert "http" not in str(mail.outbox[-1].body)

    def test_one_that_was_taken_meanwhile_is_not_given(self, acme: Company, browser: Client) -> None:
        browser.post("/account/email/", {"email": "new@acme-bank.example"})
        User.objects.create(email="new@acme-bank.example")
        page = browser.post(link_in_mail())
        assert "Another account has this address" in page.text

    def test_a_session_that_proved_nothing_lately_must_do_so_first(self, member_browser: Client) -> None:
        answer = member_browser.post("/account/email/", {"email": "new@acme-bank.example"})
        assert answer.headers["Location"].startswith("/account/confirm/")
        assert mail.outbox == []


class TestSessions:
    def test_they_are_listed_and_end_one_by_one_or_all(self, acme: Company, client: Client) -> None:
        agents = {
            "Firefox on Windows": "Mozilla/5.0 (Windows NT 10.0; rv:140.0) Gecko/20100101 Firefox/140.0",
            "Chrome on Android": "Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 Chrome/140.0 Safari/537.36",
            "Safari on iPhone": "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18.0 Safari/605.1",
        }
        browsers = [Client(headers={"User-Agent": agent}) for agent in agents.values()]
        for browser in browsers:
            sign_in(browser, acme.member.email)
        page = browsers[0].get("/account/").text
        assert all(device in page for device in agents)
        assert page.count("This one") == 1
        first = re.findall(r"/account/sessions/(\d+)/end\"", page)
        assert len(first) == 2, "one's own session ends by signing out"
        assert browsers[0].post(f"/account/sessions/{first[0]}/end").status_code == 302
        assert sum(browser.get("/account/").status_code == 200 for browser in browsers) == 2
        browsers[0].post("/account/sessions/end-others")
        assert [browser.get("/account/").status_code for browser in browsers] == [200, 302, 302]
        assert recorded(acme) == ["account.sessions_ended", "account.sessions_ended"]

    def test_nobody_ends_somebody_elses(
        self, acme: Company, client: Client, client_of: Callable[[User], Client]
    ) -> None:
        sign_in(client, acme.member.email)
        other = client_of(acme.administrator)
        sign_in(other, acme.administrator.email)
        for number in range(1, 6):
            assert other.post(f"/account/sessions/{number}/end").status_code in (302, 404)
        assert client.get("/account/").status_code == 200

    def test_ending_one_closes_its_sockets(self, acme: Company, client: Client) -> None:
        other = Client()
        for browser in (client, other):
            sign_in(browser, acme.member.email)
        visitor = identify(session_key=other.session.session_key, tenant_slug="acme-bank")
        assert gone(visitor) == {}
        client.post("/account/sessions/end-others")
        assert gone(visitor) == {visitor: SignedOut}

    def test_an_ended_session_does_not_come_back_to_the_list(self, acme: Company, client: Client) -> None:
        sign_in(client, acme.member.email)
        Session.objects.all().delete()
        client.get("/account/")
        sign_in(client, acme.member.email)
        assert client.get("/account/").text.count("This one") == 1
        assert '/end"' not in client.get("/account/").text

    def test_what_is_remembered_of_ended_ones_is_cleared(self, acme: Company, client: Client) -> None:
        sign_in(client, acme.member.email)
        sign_in(Client(), acme.member.email)
        Session.objects.exclude(session_key=client.session.session_key).delete()
        clear_sessions()
        assert UserSession.objects.get().session_key == client.session.session_key


class TestProfile:
    def test_name_and_language_are_kept_and_recorded(self, acme: Company, member_browser: Client) -> None:
        member_browser.post("/account/profile", {"name": "  Ada   L. ", "language": "zh-hans"})
        person = User.objects.get(pk=acme.member.pk)
        assert (person.name, person.language) == ("Ada L.", "zh-hans")
        assert '<html lang="zh-CN"' in member_browser.get("/account/").text
        assert recorded(acme) == ["account.profile_changed"]
        fresh = Client()
        sign_in(fresh, acme.member.email)
        assert '<html lang="zh-CN"' in fresh.get("/account/").text

    def test_it_is_recorded_in_every_tenant(
        self, acme: Company, north: Company, member_browser: Client
    ) -> None:
        with tenant_scope(north.tenant.pk):
            Membership.objects.create(user=acme.member, role="member")
        member_browser.post("/account/profile", {"name": "Ada", "language": ""})
        assert recorded(acme) == recorded(north) == ["account.profile_changed"]

    def test_what_cannot_be_recorded_does_not_happen(
        self, acme: Company, member_browser: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tenants.changes._sink", None)
        with pytest.raises(RuntimeError, match="no audit"):
            member_browser.post("/account/profile", {"name": "Ada", "language": ""})
        assert User.objects.get(pk=acme.member.pk).name == ""

    @pytest.mark.parametrize("name", ["Ad\u0430", "A\u200bda"])
    def test_a_disguised_name_is_refused(self, name: str, acme: Company, member_browser: Client) -> None:
        assert member_browser.post("/account/profile", {"name": name, "language": ""}).status_code == 422


class TestPicture:
    def test_it_is_drawn_anew_and_shown_to_those_who_share_a_tenant(
        self, acme: Company, north: Company, member_browser: Client, client_of: Callable[[User], Client]
    ) -> None:
        upload = SimpleUploadedFile("me.png", picture())
        assert member_browser.post("/account/avatar", {"picture": upload}).status_code == 302
        place = f"/account/avatar/{acme.member.pk}"
        shown = client_of(acme.reviewer).get(place)
        assert shown.headers["Content-Type"] == "image/webp"
        with Image.open(io.BytesIO(shown.content)) as drawn:
            assert (drawn.format, drawn.size) == ("WEBP", (256, 256))
        assert client_of(north.member).get(place).status_code == 404
        assert Client().get(place).status_code == 302
        member_browser.post("/account/avatar", {"remove": "1"})
        assert member_browser.get(place).status_code == 404
        assert recorded(acme) == ["account.picture_changed", "account.picture_changed"]

    @pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
    def test_the_usual_formats_are_read(self, form: str) -> None:
        assert pictures.redrawn(picture(form=form), pixels=256)[:4] == b"RIFF"

    @pytest.mark.parametrize(
        ("upload", "code"),
        [
            (b"x" * (1024 * 1024 + 1), "picture_too_large"),
            (b"no picture", "picture_unreadable"),
            (b"", "picture_unreadable"),
            (
                b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
                "picture_unreadable",
            ),
            (picture(form="GIF"), "picture_unreadable"),
            (picture()[:40], "picture_unreadable"),
            (picture((6000, 6000)), "picture_unreadable"),
        ],
        ids=["large", "text", "nothing", "svg", "gif", "cut", "bomb"],
    )
    def test_what_is_refused(self, upload: bytes, code: str) -> None:
        with pytest.raises(Refused) as refused:
            pictures.redrawn(upload, pixels=256)
        assert refused.value.code == code

    def test_the_drawing_process_cannot_use_more_than_its_limits(self) -> None:
        """The limits themselves: what wants more memory or CPU time ends instead."""
        greedy = "import sys; sys.path.insert(0, '.'); from console import redraw; redraw.limit(); "
        for what in (
            "bytearray(2 << 30)",
            "assert redraw.resource.getrlimit(redraw.resource.RLIMIT_CPU)[1] > 5",
        ):
            command = [sys.executable, "-c", greedy + what]
            assert subprocess.run(command, capture_output=True, timeout=30, check=False).returncode != 0, what

    def test_a_refusal_is_said_on_the_page(self, acme: Company, member_browser: Client) -> None:
        page = member_browser.post("/account/avatar", {"picture": SimpleUploadedFile("x.png", b"no")})
        assert page.status_code == 422
        assert "This picture cannot be read" in page.text
