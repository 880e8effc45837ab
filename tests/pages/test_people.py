"""People and invitations as administrators see and change them."""

import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from django.conf import settings
from django.core import mail
from django.test import Client

from console.celery import broker_url
from tenants.models import ApiKey, CustomRole, Group, GroupMember, Invitation, Membership, User
from tenants.scope import tenant_scope
from tests.conftest import Company, make_user
from tests.support.services import REPOSITORY

pytestmark = pytest.mark.django_db(transaction=True)

PEOPLE = "/t/acme-bank/administration/people/"
INVITATIONS = "/t/acme-bank/administration/invitations/"


@pytest.fixture
def browser(acme: Company, client_of: Callable[[User], Client]) -> Client:
    """The administrator's."""
    return client_of(acme.administrator)


@pytest.fixture
def owner_browser(acme: Company, client_of: Callable[[User], Client]) -> Client:
    return client_of(acme.owner)


@pytest.fixture
def group(acme: Company) -> Group:
    with tenant_scope(acme.tenant.pk):
        return Group.objects.create(name="Treasury")


def membership(company: Company, user: User) -> Membership:
    with tenant_scope(company.tenant.pk):
        return Membership.objects.get(user=user)


def act(browser: Client, action: str, *members: Membership, **data: str) -> Any:
    return browser.post(
        f"{PEOPLE}act", {"action": action, "selected": [str(each.pk) for each in members], **data}
    )


def listed(page: Any) -> list[str]:
    """The addresses in the table, in its order."""
    return re.findall(r"([a-z]+)@acme-bank\.example</a>", page.text)


class TestTheList:
    def test_filter_search_and_sort(self, browser: Client, acme: Company) -> None:
        assert len(listed(browser.get(PEOPLE))) == len(acme.people)
        assert listed(browser.get(PEOPLE, {"q": "REVIEW"})) == ["reviewer"]
        assert listed(browser.get(PEOPLE, {"role": "auditor"})) == ["auditor"]
        assert listed(browser.get(PEOPLE, {"sort": "-name"})) == sorted(
            listed(browser.get(PEOPLE)), reverse=True
        )
        assert "Nobody matches" in browser.get(PEOPLE, {"q": "nobody at all"}).text
        act(browser, "disable", membership(acme, acme.member), confirmed="yes")
        assert listed(browser.get(PEOPLE, {"state": "disabled"})) == ["member"]
        assert "member" not in listed(browser.get(PEOPLE, {"state": "active"}))

    def test_pages_keep_the_filter_and_count_queries_once(
        self, browser: Client, acme: Company, django_assert_max_num_queries: Any
    ) -> None:
        people = [make_user(f"clerk{number}@acme-bank.example") for number in range(55)]
        with tenant_scope(acme.tenant.pk):
            Membership.objects.bulk_create(Membership(user=each, role="member") for each in people)
        browser.get(PEOPLE)
        with django_assert_max_num_queries(30):
            first = browser.get(PEOPLE, {"q": "clerk"})
        assert 'href="?q=clerk&amp;page=2"' in first.text
        assert first.text.count('name="selected"') == 50
        assert browser.get(PEOPLE, {"q": "clerk", "page": "2"}).text.count('name="selected"') == 5

    def test_csv_has_every_row_and_no_formula(self, browser: Client, acme: Company) -> None:
        User.objects.filter(pk=acme.member.pk).update(name="=HYPERLINK(1)")
        answer = browser.get(PEOPLE, {"format": "csv", "role": "member"})
        text = answer.content.decode("utf-8-sig")
        assert answer.headers["Content-Type"].startswith("text/csv")
        assert text.splitlines()[1].startswith("'=HYPERLINK(1),member@acme-bank.example,Member")
        assert len(text.splitlines()) == 2

    def test_names_are_shown_as_text(self, browser: Client, acme: Company) -> None:
        User.objects.filter(pk=acme.member.pk).update(name="<script>alert(1)</script>")
        page = browser.get(PEOPLE).text
        assert "<script>alert(1)" not in page
        assert "&lt;script&gt;alert(1)" in page

    def test_auditors_read_and_change_nothing(
        self, acme: Company, client_of: Callable[[User], Client]
    ) -> None:
        auditor, target = client_of(acme.auditor), membership(acme, acme.member)
        for path in (PEOPLE, f"{PEOPLE}{target.pk}/", INVITATIONS):
            page = auditor.get(path)
            assert page.status_code == 200
            assert 'method="post"' not in page.text.partition("<main")[2].partition("</main>")[0], path
        assert act(auditor, "remove", target, confirmed="yes").status_code == 404
        assert auditor.post(f"{PEOPLE}{target.pk}/", {"role": "curator"}).status_code == 404
        assert auditor.post(f"{PEOPLE}{target.pk}/groups", {}).status_code == 404
        assert auditor.get(f"{INVITATIONS}new/").status_code == 404
        assert auditor.get(f"{PEOPLE}import/").status_code == 404
        assert membership(acme, acme.member).role == "member"

    def test_a_role_of_ones_own_that_manages_people_alone_can(
        self, acme: Company, client_of: Callable[[User], Client]
    ) -> None:
        with tenant_scope(acme.tenant.pk):
            CustomRole.objects.create(slug="hr", name="HR", permissions=["people.manage"])
            Membership.objects.filter(user=acme.curator).update(role="hr")
        browser, target = client_of(acme.curator), membership(acme, acme.member)
        page = browser.get(PEOPLE)
        assert page.status_code == 200 and "Administration" in page.text and "Roles</a>" not in page.text
        assert "Personal API keys" not in browser.get(f"{PEOPLE}{target.pk}/").text
        act(browser, "disable", target, confirmed="yes")
        assert membership(acme, acme.member).disabled


class TestActions:
    def test_nothing_happens_before_it_is_confirmed(self, browser: Client, acme: Company) -> None:
        target, other = membership(acme, acme.member), membership(acme, acme.curator)
        page = act(browser, "remove", target, other)
        assert page.status_code == 200
        assert "Remove 2 people from this workspace?" in page.text
        assert "member@acme-bank.example" in page.text and "curator@acme-bank.example" in page.text
        assert membership(acme, acme.member)

    def test_each_action(self, browser: Client, acme: Company, group: Group) -> None:
        target = membership(acme, acme.member)
        act(browser, "role", target, role="curator", confirmed="yes")
        assert membership(acme, acme.member).role == "curator"
        act(browser, "group", target, group=str(group.pk), confirmed="yes")
        with tenant_scope(acme.tenant.pk):
            assert GroupMember.objects.filter(group=group, membership=target).exists()
        act(browser, "disable", target, confirmed="yes")
        assert membership(acme, acme.member).disabled
        act(browser, "enable", target, confirmed="yes")
        assert membership(acme, acme.member).disabled is None
        page = browser.post(
            f"{PEOPLE}act",
            {"action": "remove", "selected": str(target.pk), "confirmed": "yes", "origin": "?role=curator"},
            follow=True,
        )
        assert page.redirect_chain == [(f"{PEOPLE}?role=curator", 302)]
        assert "1 person was removed." in page.text
        with tenant_scope(acme.tenant.pk):
            assert not Membership.objects.filter(user=acme.member).exists()

    def test_a_refusal_is_told_for_each_and_stops_no_other(self, browser: Client, acme: Company) -> None:
        page = act(
            browser,
            "remove",
            membership(acme, acme.owner),
            membership(acme, acme.member),
            membership(acme, acme.administrator),
            confirmed="yes",
        )
        assert page.status_code == 422
        assert "It was refused for 2 people." in page.text and "It was done for 1 other." in page.text
        assert "Only an owner gives or takes the role “owner”." in page.text
        assert "Nobody changes their own rights." in page.text
        assert membership(acme, acme.owner)

    def test_the_last_owner_stays(self, owner_browser: Client, acme: Company) -> None:
        second = membership(acme, acme.administrator)
        act(owner_browser, "role", second, role="owner", confirmed="yes")
        page = act(owner_browser, "remove", membership(acme, acme.owner), second, confirmed="yes")
        assert "Nobody changes their own rights." in page.text
        with tenant_scope(acme.tenant.pk):
            assert list(Membership.objects.filter(role="owner").values_list("user_id", flat=True)) == [
                acme.owner.pk
            ]

    def test_a_role_must_be_chosen(self, browser: Client, acme: Company) -> None:
        page = act(browser, "role", membership(acme, acme.member), role="", confirmed="yes")
        assert page.status_code == 422
        assert "Choose a role." in page.text and 'aria-invalid="true"' in page.text

    def test_an_administrator_is_offered_no_role_with_a_duty(
        self, browser: Client, owner_browser: Client, acme: Company
    ) -> None:
        target = membership(acme, acme.member)
        assert 'value="reviewer"' not in act(browser, "role", target).text
        assert 'value="reviewer"' in act(owner_browser, "role", target).text
        assert act(browser, "role", target, role="reviewer", confirmed="yes").status_code == 422

    def test_strangers_ids_and_nobody_selected(self, browser: Client, acme: Company, north: Company) -> None:
        foreign = membership(north, north.member)
        page = browser.post(
            f"{PEOPLE}act", {"action": "remove", "selected": [str(foreign.pk), "x"]}, follow=True
        )
        assert "Select at least one person first." in page.text
        assert act(browser, "explode", foreign).status_code == 404
        assert browser.get(f"{PEOPLE}{foreign.pk}/").status_code == 404


class TestOnePerson:
    def test_role_and_groups_are_changed_and_rights_shown(
        self, browser: Client, acme: Company, group: Group
    ) -> None:
        path = f"{PEOPLE}{membership(acme, acme.member).pk}/"
        with tenant_scope(acme.tenant.pk):
            ApiKey.objects.create(
                name="laptop", user=acme.member, prefix="p", secret_hash=b"h", scopes=["inference"]
            )
        page = browser.get(path).text
        assert "laptop" in page and "Use the chat" in page and "Operate models" not in page
        assert browser.post(path, {"role": "curator"}, follow=True).redirect_chain == [(path, 302)]
        browser.post(f"{path}groups", {"groups": [str(group.pk)]})
        assert re.search(rf'value="{group.pk}"[^>]*checked', browser.get(path).text)
        browser.post(f"{path}groups", {})
        assert not re.search(rf'value="{group.pk}"[^>]*checked', browser.get(path).text)
        assert membership(acme, acme.member).role == "curator"

    def test_what_is_not_ones_to_change_is_not_offered(self, browser: Client, acme: Company) -> None:
        own = browser.get(f"{PEOPLE}{membership(acme, acme.administrator).pk}/").text
        assert "nobody changes their own rights" in own and "Save role" not in own and "Remove…" not in own
        owners = browser.get(f"{PEOPLE}{membership(acme, acme.owner).pk}/").text
        assert "only an owner gives or takes it" in owners and "Save role" not in owners

    def test_a_refused_role_is_told_at_the_field(self, browser: Client, acme: Company) -> None:
        page = browser.post(f"{PEOPLE}{membership(acme, acme.member).pk}/", {"role": "owner"})
        assert page.status_code == 422
        assert "Choose one of the roles offered." in page.text


def invite(browser: Client, emails: str, role: str = "member", **data: Any) -> Any:
    return browser.post(f"{INVITATIONS}new/", {"emails": emails, "role": role, **data})


def open_invitations(company: Company) -> dict[str, Invitation]:
    with tenant_scope(company.tenant.pk):
        return {each.email: each for each in Invitation.objects.filter(accepted=None, revoked=None)}


class TestInvitations:
    def test_several_at_once_each_with_a_link_and_a_mail(
        self, browser: Client, acme: Company, group: Group
    ) -> None:
        page = invite(
            browser, "Ann@x.example, ben@x.example\nann@x.example", mail="on", groups=[str(group.pk)]
        )
        assert page.status_code == 200 and page.headers["Cache-Control"] == "no-store"
        links = re.findall(r"http://testserver(/invitation/acme-bank/[^\"]+)", page.text)
        assert len(links) == 2
        found = open_invitations(acme)
        assert set(found) == {"ann@x.example", "ben@x.example"}
        assert found["ann@x.example"].groups == [group.pk] and found["ann@x.example"].sent
        assert [each.to for each in mail.outbox] == [["ann@x.example"], ["ben@x.example"]]
        assert links[0] in mail.outbox[0].body and links[1] not in mail.outbox[0].body
        html = mail.outbox[0].alternatives[0].content  # type: ignore[attr-defined]
        assert 'lang="en"' in html and 'lang="zh-hans"' in html and links[0] in html
        assert "/invitation/" not in browser.get(INVITATIONS).text, "shown once"

    def test_groups_are_asked_for_where_there_are_any(self, browser: Client, acme: Company) -> None:
        assert "Groups</legend>" not in browser.get(f"{INVITATIONS}new/").text
        with tenant_scope(acme.tenant.pk):
            Group.objects.create(name="Treasury")
        assert "Groups</legend>" in browser.get(f"{INVITATIONS}new/").text

    def test_one_bad_address_and_nobody_is_invited(self, browser: Client, acme: Company) -> None:
        page = invite(browser, "good@x.example member@acme-bank.example not-an-address", mail="on")
        assert page.status_code == 422
        assert "member@acme-bank.example is a member already." in page.text
        assert "not-an-address: Enter a whole e-mail address" in page.text
        assert "good@x.example member@acme-bank.example not-an-address</textarea>" in page.text, "kept"
        assert open_invitations(acme) == {} and mail.outbox == []

    def test_a_mail_server_that_is_away_is_told_and_the_link_stands(
        self, browser: Client, acme: Company, settings: Any
    ) -> None:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
        page = invite(browser, "ann@x.example", mail="on")
        assert "1 e-mail could not be sent." in page.text and "/invitation/acme-bank/" in page.text
        assert open_invitations(acme)["ann@x.example"].sent is None
        assert "Waiting, not mailed" in browser.get(INVITATIONS).text

    def test_without_a_mail_server_nothing_counts_as_sent(
        self, browser: Client, acme: Company, settings: Any
    ) -> None:
        settings.EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"
        page = invite(browser, "ann@x.example", mail="on")
        assert "No mail server is set up" in page.text and "sent by e-mail" not in page.text
        assert open_invitations(acme)["ann@x.example"].sent is None

    def test_again_and_back(self, browser: Client, acme: Company) -> None:
        old = re.search(r"/invitation/acme-bank/[^\"]+", invite(browser, "ann@x.example").text)
        selected = {"selected": str(open_invitations(acme)["ann@x.example"].pk)}
        question = browser.post(f"{INVITATIONS}act", {"action": "resend", **selected})
        assert "Send 1 invitation again?" in question.text and mail.outbox == []
        page = browser.post(f"{INVITATIONS}act", {"action": "resend", "confirmed": "yes", **selected})
        new = re.search(r"/invitation/acme-bank/[^\"]+", page.text)
        assert old and new and old[0] != new[0] and new[0] in mail.outbox[0].body
        page = browser.post(
            f"{INVITATIONS}act", {"action": "revoke", "confirmed": "yes", **selected}, follow=True
        )
        assert "1 invitation was taken back." in page.text and "Nobody is waiting" in page.text
        assert open_invitations(acme) == {}


class TestImport:
    def post(self, browser: Client, **data: Any) -> Any:
        return browser.post(f"{PEOPLE}import/", data)

    def test_a_look_first_then_all_of_them_and_mails_with_tokens_of_their_own(
        self, browser: Client, acme: Company, group: Group, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from console import tasks

        queued: list[tuple[Any, ...]] = []
        monkeypatch.setattr(tasks.send_invitations, "delay", lambda *arguments: queued.append(arguments))
        text = "email,role,groups\nann@x.example,curator,Treasury\nben@x.example,,\n"
        page = self.post(browser, text=text)
        assert page.status_code == 200 and "2 rows are right" in page.text and open_invitations(acme) == {}
        page = browser.post(f"{PEOPLE}import/", {"text": text, "confirmed": "yes"}, follow=True)
        assert "2 people are invited." in page.text
        found = open_invitations(acme)
        assert found["ann@x.example"].role == "curator" and found["ann@x.example"].groups == [group.pk]
        ((tenant_id, ids, origin),) = queued
        assert UUID(tenant_id) == acme.tenant.pk and len(ids) == 2
        tasks.send_invitations.apply(args=(tenant_id, ids, origin)).get()
        tasks.send_invitations.apply(args=(tenant_id, ids, origin)).get()
        assert len(mail.outbox) == 2, "each once"
        link = re.search(r"http://testserver/invitation/acme-bank/([^/]+)/", mail.outbox[0].body)
        assert link is not None
        sent = open_invitations(acme)[mail.outbox[0].to[0]]
        assert bytes(sent.token_hash) == Invitation.hash_of(link[1]) and sent.sent

    def test_the_mails_reach_the_worker_from_a_process_that_serves_pages(self) -> None:
        served = (
            "import django; django.setup(); from django.urls import resolve; resolve('/'); "
            "from console.tasks import send_invitations; print(send_invitations.app.conf.broker_url)"
        )
        done = subprocess.run(
            [sys.executable, "-c", served],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert done.stdout.split() == [broker_url(settings.REDIS_URL)]

    def test_bad_rows_are_told_one_by_one_and_nobody_is_invited(self, browser: Client, acme: Company) -> None:
        rows = [
            "email\trole\tgroups",
            "good@x.example\t\t",
            "no-address\t\t",
            "member@acme-bank.example\t\t",
            "a@x.example\temperor\t",
            "b@x.example\t\tNo such group",
            "GOOD@x.example\t\t",
            "c@x.example\towner\t",
        ]
        text = "\n".join(rows)
        page = self.post(browser, text=text, confirmed="yes")
        assert page.status_code == 422
        assert "6 rows are wrong, so nobody was invited." in page.text
        for said in ("a whole e-mail address", "is a member already", "no role “emperor”", "No such group"):
            assert said in page.text
        assert "stands in row 1 already" in page.text and "Only an owner" in page.text
        assert open_invitations(acme) == {}

    @pytest.mark.parametrize(
        ("data", "said"),
        [
            ({}, "Choose a file or paste its text."),
            ({"text": "name,role\nann,member"}, "among them “email”"),
            ({"text": "email\n"}, "a heading and no row"),
            ({"text": 'email,role\n"ann@x.example,member'}, "opened and not closed"),
            ({"file": b"\x00\x01PNG"}, "This is not text."),
            ({"file": b"x" * 1_500_001}, "larger than 1.5 MB"),
            ({"text": "email\n" + "a@x.example\n" * 10_001}, "at most 10000 people"),
        ],
    )
    def test_what_cannot_be_read_is_told_at_the_field(
        self, browser: Client, data: dict[str, Any], said: str
    ) -> None:
        from django.core.files.uploadedfile import SimpleUploadedFile

        if "file" in data:
            data = {"file": SimpleUploadedFile("people.csv", data["file"])}
        page = self.post(browser, **data)
        assert page.status_code == 422 and said in page.text

    def test_a_chinese_spreadsheets_file_and_a_bare_list(self, browser: Client, acme: Company) -> None:
        from django.core.files.uploadedfile import SimpleUploadedFile

        with tenant_scope(acme.tenant.pk):
            Group.objects.create(name="资金部")
        content = "email;role;groups\r\nann@x.example;;资金部\r\n".encode("gb18030")
        page = self.post(browser, file=SimpleUploadedFile("people.csv", content))
        assert page.status_code == 200 and "资金部" in page.text
        assert "2 rows are right" in self.post(browser, text="ann@x.example\nben@x.example").text
