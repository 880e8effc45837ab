"""Seeds of second factors under a new master key."""

from typing import Any

from allauth.mfa.models import Authenticator
from cryptography.exceptions import InvalidTag
from django.db import transaction

from console.sign_in import sealing

# What django-allauth seals of an authenticator's data: one text, or a list of them.
_SEALED = ("secret", "seed", "migrated_codes")


def reseal() -> int:
    """Seal anew what is not sealed under the newest master key; how many authenticators that were."""
    ids = Authenticator.objects.exclude(type=Authenticator.Type.WEBAUTHN).values_list("pk", flat=True)
    return sum(_resealed(pk) for pk in list(ids))


@transaction.atomic
def _resealed(pk: int) -> bool:
    # Locked: a code that is used at this moment must stay used.
    row = Authenticator.objects.select_for_update().filter(pk=pk).first()
    if row is None:
        return False
    data = {name: _anew(value) if name in _SEALED else value for name, value in row.data.items()}
    if data == row.data:
        return False
    row.data = data
    row.save(update_fields=["data"])
    return True


def _anew(value: Any) -> Any:
    if isinstance(value, list):
        return [_anew(each) for each in value]
    try:
        return value if sealing.is_current(value) else sealing.seal(sealing.open_sealed(value))
    except InvalidTag:
        return value  # Altered: it opens under no key, this one included.
