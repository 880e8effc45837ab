"""What a first start has to be asked about."""

import pytest

from console import demo
from knowledge import access, bases, selectors
from knowledge.ingestion import tasks
from knowledge.models import Version
from knowledge.retrieval.search import Asked, search
from tenants.actors import actor_for_user
from tenants.models import Tenant, User
from tenants.scope import tenant_scope

pytestmark = pytest.mark.django_db


def test_there_is_a_base_in_each_language_once_and_everyone_may_ask_it() -> None:
    for _start in range(2):
        demo.seed()
    tasks.read_documents()
    tenant = Tenant.objects.get(slug="acme-bank")
    with tenant_scope(tenant.pk):
        member = actor_for_user(
            user=User.objects.get(email="member@acme-bank.example"), tenant_slug="acme-bank"
        )
        listed = selectors.bases_of(member)
        assert sorted(each.name for each in listed) == ["AML guidance", "反洗钱法规"]
        states = dict(Version.objects.values_list("sealed_file_name", "state"))
        assert len(states) == 3 and "failed" not in states.values()
        everything = list(access.visible_bases(member))
        (passage, *_more) = search(member, everything, Asked("客户身份资料保存期限"))
        assert passage.document == "中华人民共和国反洗钱法" and passage.version == 2
        (passage, *_more) = search(member, everything, Asked("pig butchering red flags"))
        assert "FinCEN" in passage.document
        curator = actor_for_user(
            user=User.objects.get(email="curator@acme-bank.example"), tenant_slug="acme-bank"
        )
        for each in everything:
            bases.delete_base(actor=curator, base_id=each.pk)
    demo.seed()
    with tenant_scope(tenant.pk):
        assert not access.visible_bases(member).exists()
