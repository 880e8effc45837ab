"""A process serves only what is walled off and what its keys open."""

from pathlib import Path
from typing import Any

import pytest

from console.startup import UnsafeStart, refuse_unsafe_start
from tenants import clock, envelope
from tenants.scope import tenant_scope
from tests.conftest import Company

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_sound_installation_starts(acme: Company) -> None:
    _seal(acme)
    refuse_unsafe_start()


def test_another_master_key_is_refused(north: Company, acme: Company, settings: Any, tmp_path: Path) -> None:
    from console.environment import master_key

    _seal(acme)
    settings.MASTER_KEY_FILE = tmp_path / "master.key"
    settings.MASTER_KEY_FILE.write_text(master_key())
    with pytest.raises(UnsafeStart, match=r"master\.key does not open the key of acme-bank"):
        refuse_unsafe_start()


def _seal(company: Company) -> None:
    with tenant_scope(company.tenant.pk):
        envelope.seal(
            tenant_id=company.tenant.pk, purpose="audit", day=clock.today(), plaintext=b"a secret", aad={}
        )
