"""Pictures of people, 256 pixels square."""

from uuid import UUID

from django.core.files.uploadedfile import UploadedFile
from django.db import transaction

from console import pictures
from console.sign_in.changes import record_account_change
from tenants.actors import memberships_of
from tenants.models import Membership, User
from tenants.scope import tenant_scope

PIXELS = 256


def change(*, user: User, upload: UploadedFile) -> None:
    """Take the upload as the person's picture. Raises Refused."""
    _save(user, pictures.redrawn(pictures.read(upload), pixels=PIXELS))


def take_away(*, user: User) -> None:
    _save(user, None)


@transaction.atomic
def _save(user: User, picture: bytes | None) -> None:
    before, user.avatar = {"picture": user.avatar is not None}, picture
    user.save(update_fields=["avatar"])
    record_account_change(
        user, "account.picture_changed", before=before, after={"picture": picture is not None}
    )


def visible_to(viewer: User, user_id: UUID) -> bytes | None:
    """The picture of a person who is the viewer or shares an active tenant with them; None for all others."""
    if viewer.pk != user_id and not _share_tenant(viewer, user_id):
        return None
    picture = User.objects.filter(pk=user_id).values_list("avatar", flat=True).first()
    return bytes(picture) if picture is not None else None


def _share_tenant(viewer: User, user_id: UUID) -> bool:
    for membership in memberships_of(viewer):
        with tenant_scope(membership.tenant_id):
            if Membership.objects.filter(user_id=user_id, disabled=None).exists():
                return True
    return False
