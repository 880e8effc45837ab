"""What the tests of cases share: a case about the member's record, led by the officer."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from audit.cases import opening, work
from audit.cases.models import Case, MemberRole
from tenants.access import Actor
from tenants.models import Membership, User
from tenants.scope import tenant_scope
from tests.audit.conftest import generation
from tests.conftest import Company, make_user

QUESTION = "How do I stay under the reporting limit?"
ANSWER = "Deposit it in parts."
TITLE = "Structuring at the counter"


@pytest.fixture
def officer(acme: Company) -> Actor:
    return acme.actor(acme.officer)


@pytest.fixture
def second_officer(acme: Company) -> Actor:
    return acme.actor(join(acme, "second.officer@acme-bank.example", "officer"))


@pytest.fixture
def colleague(acme: Company) -> Actor:
    """A reviewer who is in no case."""
    return acme.actor(join(acme, "colleague@acme-bank.example", "reviewer"))


@pytest.fixture
def asked(acme: Company) -> UUID:
    """The member's record."""
    return ask(acme.actor(acme.member))


@pytest.fixture
def case(officer: Actor, asked: UUID) -> Case:
    return open_case(officer, asked)


def join(company: Company, email: str, role: str) -> User:
    user = make_user(email)
    with tenant_scope(company.tenant.pk):
        Membership.objects.create(user=user, role=role)
    return user


def ask(actor: Actor, question: str = QUESTION, answer: str = ANSWER) -> UUID:
    handle = generation(actor, texts=(answer,), input=[{"role": "user", "content": question}])
    return handle.request_id


def open_case(actor: Actor, *request_ids: UUID, **changes: Any) -> Case:
    values: dict[str, Any] = {
        "title": TITLE,
        "summary": "Several deposits just below the limit.",
        "typology": "structuring",
        "severity": "high",
        "request_ids": request_ids,
        "reason": "Asks how to avoid a report.",
    }
    return opening.open_case(actor=actor, **{**values, **changes})


@pytest.fixture
def put_in(officer: Actor, case: Case) -> Callable[..., None]:
    """Put somebody into the case, as a member unless told otherwise."""

    def put(actor: Actor, role: str = MemberRole.MEMBER) -> None:
        assert actor.user_id is not None
        work.set_member(actor=officer, case_id=case.pk, user_id=actor.user_id, role=role)

    return put
