"""Pictures of people: any upload is decoded and drawn anew, 256 pixels square, by a process with tight limits.

Image decoders are where crafted files strike. The decoding process has no more than seconds of CPU, a bounded memory,
no files to write and nothing to read but the upload; what it returns is WebP of our own making.
"""

import subprocess
import sys
from uuid import UUID

from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.utils.translation import gettext as _

from console.environment import BASE_DIR
from console.sign_in.changes import record_account_change
from tenants.actors import memberships_of
from tenants.errors import Refused
from tenants.models import Membership, User
from tenants.scope import tenant_scope

MOST_BYTES = 1024 * 1024
MOST_SECONDS = 10.0


def redrawn(upload: bytes, *, pixels: int = 256) -> bytes:
    """WebP of `pixels` square, the middle of the picture. Raises Refused for what is none, or too much of one."""
    if len(upload) > MOST_BYTES:
        raise Refused(
            "picture_too_large", _("The picture is larger than 1 MB. Choose a smaller one."), "picture"
        )
    command = [sys.executable, "-I", str(BASE_DIR / "console/sign_in/redraw.py"), str(pixels)]
    try:
        done = subprocess.run(
            command, input=upload, capture_output=True, timeout=MOST_SECONDS, check=False, env={}, cwd="/"
        )
    except subprocess.TimeoutExpired:
        raise _unreadable() from None
    if done.returncode != 0 or not done.stdout.startswith(b"RIFF"):
        raise _unreadable()
    return done.stdout


def _unreadable() -> Refused:
    message = _("This is no picture that can be read. Choose a PNG, JPEG or WebP of at most 25 megapixels.")
    return Refused("picture_unreadable", message, "picture")


def change(*, user: User, upload: UploadedFile) -> None:
    """Take the upload as the person's picture. Raises Refused."""
    if (upload.size or 0) > MOST_BYTES:
        raise Refused(
            "picture_too_large", _("The picture is larger than 1 MB. Choose a smaller one."), "picture"
        )
    _save(user, redrawn(upload.read()))


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
