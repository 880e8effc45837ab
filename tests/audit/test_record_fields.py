"""Every field of a record is filled by a request, is on the record's page, and cannot be changed unnoticed.

The fields are taken from the write path and from the tables, so that one added later is tested as well.
"""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import Any
from unittest.mock import patch
from uuid import uuid4

import psycopg
import pytest
from asgiref.sync import async_to_sync
from django.db import models
from django.test import Client
from django.utils import translation
from django.utils.html import escape

from audit import record
from audit.models import AuditChunk, AuditCompletion, AuditRecord
from audit.record import Timings
from audit.selectors import State, Summary, open_record
from inference.client import InferenceClient
from inference.generation import run
from inference.generation.run import Order
from inference.registry.selectors import Resolved
from tenants.access import NotVisible
from tenants.models import User
from tenants.roles import CHAT_USE
from tests.audit.conftest import Usage, generation
from tests.conftest import Company

pytestmark = pytest.mark.django_db(transaction=True)

MODELS = (AuditRecord, AuditChunk, AuditCompletion)
# Names a row; a row that has another is another row.
NAMES = {"day", "id", "request_id", "seq"}
# With another one the record is nobody's here.
HIDING = {"tenant_id", "confined_to"}
# A completion that is gone leaves a running record, which the tree has among the closed ones; a chunk's place in time is
# between its neighbours, whose order is bound.
ELSEWHERE = {("audit_completion", "tenant_id"), ("audit_chunk", "created")}

PASSAGE = {"document": "Handbook §4", "text": "An account holder is a person.", "score": 0.25}
ATTACHMENT = {
    "name": "contract.pdf",
    "media_type": "application/pdf",
    "text": "Article 1: 利益所有者",
    "pages": 3,
}


@pytest.fixture
def order(acme: Company) -> Order:
    """A request of which nothing is left at its default."""
    actor = acme.actor(acme.member)
    resolved = Resolved(
        route="house-model",
        route_id=uuid4(),
        reason="named",
        model="qwen",
        version="hub/qwen@12 bf16 sha256:77aa",
        deployment="basement",
        served_id="served",
        context_tokens=4096,
        adapter="tone-of-the-house@3",
        client=InferenceClient("http://127.0.0.1:9"),
    )
    tools = [{"type": "function", "function": {"name": "weather_of_places"}}]
    messages = [{"role": "user", "content": "Who owns the harbour?"}]
    return Order(
        actor=actor,
        channel="chat",
        permission=CHAT_USE,
        kind="chat",
        request={"messages": messages, "temperature": 0.375, "top_p": 0.8125, "seed": 77123, "tools": tools},
        resolved=resolved,
        conversation_id=uuid4(),
        client_address="192.0.2.77",
        needs=frozenset(),
        passages=(PASSAGE,),
        attachments=(ATTACHMENT,),
    )


@pytest.fixture
def given(order: Order) -> Iterator[dict[str, Any]]:
    """What the write path is called with for this request; recorded as in the product."""
    found: dict[str, Any] = {}
    begin = record.begin

    def watched(**values: Any) -> record.Handle:
        found.update(values)
        return begin(**values)

    async def recorded() -> None:
        await run.intent(order)

    with patch("audit.record.begin", watched):
        async_to_sync(recorded)()
    yield found


def test_a_request_fills_every_field_of_the_write_path(given: dict[str, Any]) -> None:
    parameters = inspect.signature(record.begin).parameters
    assert set(given) == set(parameters)
    for name, parameter in parameters.items():
        if name != "kind":  # A generation, as most are.
            assert given[name] not in (parameter.default, "", None, [], {}), name


def test_every_field_of_a_request_is_on_the_page_of_its_record(
    given: dict[str, Any], order: Order, acme: Company, client_of: Callable[[User], Client]
) -> None:
    usage, timings = Usage(40_301, 40_302, 40_303), Timings(531, 632, 833, 34.5)
    handle = record.Handle(acme.tenant.pk, order.request_id)
    record.append(handle, seq=1, text="The answer.")
    record.complete(
        handle,
        status="failed",
        finish_reason="tool_calls",
        usage=usage,
        timings=timings,
        error_code="broken_x",
    )
    translation.activate("en")
    page = (
        client_of(acme.reviewer)
        .post(f"/t/acme-bank/audit/{order.request_id}/", {"reason": "Routine sample"})
        .text
    )
    told = {
        name: value
        for name, value in given.items()
        if name not in ("actor", "kind", "channel", "route_reason")
    }
    for value in [*_leaves(told), *given["parameters"]]:
        assert escape(value).lower() in page.lower(), value
    for wanted in (
        order.actor.label,
        str(order.actor.user_id),
        "Chat",
        "asked for by name",
        "tool_calls",
        "broken_x",
    ):
        assert wanted in page, wanted
    shown = [f">{count}<" for count in vars(usage).values()]
    shown += [f">{getattr(timings, each.name):g} ms<" for each in fields(timings)]
    for figure in shown:
        assert figure in page.replace(",", ""), figure


def test_a_summary_has_every_plain_column() -> None:
    sealed = {
        each.attname for each in AuditRecord._meta.concrete_fields if isinstance(each, models.BinaryField)
    }
    columns = {each.attname for each in AuditRecord._meta.concrete_fields} - sealed
    # The day is in the id, the tenant around it all; who is in the case sees its events, and nobody else.
    shown = columns - {"day", "tenant_id", "pk", "schema", "confined_to"}
    assert shown <= {each.name for each in fields(Summary)}


def _leaves(value: Any) -> Iterator[str]:
    """The words and numbers in it, as a page shows them."""
    match value:
        case dict():
            for each in value.values():
                yield from _leaves(each)
        case list() | tuple():
            for each in value:
                yield from _leaves(each)
        case _:
            yield str(value)


COLUMNS = [
    (model._meta.db_table, field.column)
    for model in MODELS
    for field in model._meta.concrete_fields
    if field.column and field.column not in NAMES
]


@pytest.mark.parametrize(("table", "column"), COLUMNS, ids=[".".join(each) for each in COLUMNS])
def test_no_column_of_a_closed_record_changes_unnoticed(
    acme: Company, owner: psycopg.Connection, table: str, column: str
) -> None:
    reviewer, member = acme.actor(acme.reviewer), replace(acme.actor(acme.member), api_key_id=uuid4())
    conversation = uuid4()
    handle = generation(
        member,
        conversation_id=conversation,
        passages=[PASSAGE],
        attachments=[ATTACHMENT],
        usage=Usage(1, 2, 3),
    )
    assert open_record(reviewer, handle.request_id, reason="before").state == State.INTACT
    _change(owner, handle, table, column)
    if column in HIDING and table == "audit_record":
        with pytest.raises(NotVisible):
            open_record(reviewer, handle.request_id, reason="after")
    else:
        state = open_record(reviewer, handle.request_id, reason="after").state
        assert state == (State.INTACT if (table, column) in ELSEWHERE else State.ALTERED)


def _change(owner: psycopg.Connection, handle: record.Handle, table: str, column: str) -> None:
    kind = owner.execute(
        "SELECT data_type FROM information_schema.columns WHERE table_name = %s AND column_name = %s",
        [table, column],
    ).fetchone()
    assert kind is not None
    value = "'failed'" if column == "status" else _OTHER[kind[0]].format(column)
    key = "id" if table == "audit_record" else "request_id"
    owner.execute(f"UPDATE {table} SET {column} = {value} WHERE {key} = %s", [handle.request_id])


_OTHER = {
    "text": "{0} || 'x'",
    "uuid": "gen_random_uuid()",
    "integer": "coalesce({0}, 0) + 1",
    "bigint": "{0} + 1",
    "smallint": "1",
    "double precision": "coalesce({0}, 0) + 1",
    "timestamp with time zone": "{0} + interval '1 second'",
    "bytea": "set_bit({0}, 200, 1 - get_bit({0}, 200))",
}
