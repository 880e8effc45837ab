"""Coming in by an invitation: a new account for an address that has none, or its own password for one that has none."""

from allauth.mfa.models import Authenticator
from django.contrib.auth import password_validation
from django.core.exceptions import ValidationError
from django.db import transaction
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
    """Accept with a password that is chosen now. The link came by mail, so whoever has it owns the address.

    For an address without an account, or one whose account only an identity provider vouched for until now: factors
    that were set up under the provider's word alone are not the owner's, and go. Raises Refused.
    """
    user = User.objects.select_for_update().filter(email=invitation.email).first()
    if user is not None and (user.has_usable_password() or not user.is_active):
        raise Refused("account_exists", _("There is an account for this address. Sign in to accept."))
    if user is None:
        user = User(email=invitation.email)
    user.name = words.clean_name(name)
    try:
        password_validation.validate_password(password, user)
    except ValidationError as error:
        raise Refused("password_weak", " ".join(error.messages), "password") from error
    user.set_password(password)
    user.save()
    Authenticator.objects.filter(user=user).delete()
    accept_invitation(tenant_slug=invitation.tenant.slug, token=token, user=user, address=address)
    return user
