"""Coming in by an invitation whose address has no account yet.

Whoever invites sees the link, so having it proves nothing about the address: an account that exists is never touched,
and a new one stays unproven until its address is confirmed (console.sign_in.proof). A link that was only mailed proves it.
"""

from django.contrib.auth import password_validation
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from tenants import words
from tenants.errors import Refused
from tenants.models import Invitation, User
from tenants.people import accept_invitation


def account_of(invitation: Invitation) -> User | None:
    return User.objects.filter(email=invitation.email).first()


@transaction.atomic
def join_with_new_password(
    *, invitation: Invitation, token: str, name: str, password: str, address: str
) -> User:
    """A new account with a password that is chosen now, for an address that has none. Raises Refused."""
    user = User(email=invitation.email, name=words.clean_name(name))
    try:
        password_validation.validate_password(password, user)
    except ValidationError as error:
        raise Refused("password_weak", " ".join(error.messages), "password") from error
    user.set_password(password)
    try:
        with transaction.atomic():
            user.save(force_insert=True)
    except IntegrityError:
        raise Refused(
            "account_exists", _("There is an account for this address. Sign in to accept.")
        ) from None
    accept_invitation(tenant_slug=invitation.tenant.slug, token=token, user=user, address=address)
    return user
