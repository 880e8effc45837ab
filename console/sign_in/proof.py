"""What proves that an account's address is read by its person, and what follows from it.

An address is proven by following a link that went to its mailbox and that nobody else is shown: of a forgotten password,
of a change of address, of a confirmation, of a request to join (tenants.people). Until then an account may be held by
somebody who got to the address first.
"""

from allauth.mfa.models import Authenticator
from django.contrib.auth import logout
from django.db import transaction
from django.http import HttpRequest

from console.sign_in import sessions
from console.sign_in.changes import record_account_change
from tenants import clock
from tenants.models import User


@transaction.atomic
def proven_by_new_password(request: HttpRequest, user: User) -> None:
    """The password was just set by a mailed link. Nothing that an unproven account was entered with opens it any more."""
    if not mark(user):
        return
    if request.user.pk == user.pk:
        logout(request)
    sessions.end_others(user, current_key=None)
    Authenticator.objects.filter(user=user).delete()


@transaction.atomic
def mark(user: User) -> bool:
    """Note the proof; whether the address was unproven until now."""
    locked = User.objects.select_for_update().get(pk=user.pk)
    if locked.email_verified is not None or locked.email != user.email:
        return False
    user.email_verified = locked.email_verified = clock.now()
    locked.save(update_fields=["email_verified"])
    record_account_change(locked, "account.email_confirmed", after={"email": locked.email})
    return True
