"""What people change about their own account: profile, e-mail address; and what they have set up.

The e-mail address changes, or the present one is proven, when a link that was sent there is followed by the person while
signed in. The link names the old address too, so it works once and dies with any other change.
"""

from dataclasses import dataclass, field

from allauth.account.adapter import get_adapter
from allauth.account.internal.flows.reauthentication import raise_if_reauthentication_required
from allauth.core import ratelimit
from allauth.mfa.models import Authenticator
from django.conf import settings
from django.core import signing
from django.db import IntegrityError, transaction
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext as _

from console.sign_in import proof
from console.sign_in.changes import record_account_change
from tenants import clock, words
from tenants.errors import Refused
from tenants.models import User

LINK_VALID_S = 24 * 3600
_SALT = "console.sign_in.new_email"


@dataclass(frozen=True, kw_only=True)
class Factors:
    """What a person has set up beside a password."""

    totp: Authenticator | None = None
    passkeys: list[Authenticator] = field(default_factory=list)
    codes_left: int | None = None  # None: no recovery codes

    @property
    def is_protected(self) -> bool:
        return self.totp is not None or bool(self.passkeys)


def factors(user: User) -> Factors:
    found = list(Authenticator.objects.filter(user=user).order_by("created_at"))
    of_type = {row.type: row for row in found}
    codes = of_type.get(Authenticator.Type.RECOVERY_CODES)
    return Factors(
        totp=of_type.get(Authenticator.Type.TOTP),
        passkeys=[row for row in found if row.type == Authenticator.Type.WEBAUTHN],
        codes_left=len(codes.wrap().get_unused_codes()) if codes else None,
    )


def require_recent_sign_in(request: HttpRequest) -> None:
    """Raises allauth's ReauthenticationRequired, which leads to a page that asks for a password or a second factor."""
    raise_if_reauthentication_required(request, app="allauth.account")


@transaction.atomic
def change_profile(*, user: User, name: str, language: str) -> None:
    """A new name and language. Raises Refused."""
    name = words.clean_name(name) if name.strip() else ""
    if language and language not in dict(settings.LANGUAGES):
        raise Refused("language_unknown", _("Choose one of the languages offered."), "language")
    before = {"name": user.name, "language": user.language}
    user.name, user.language = name, language
    after = {"name": name, "language": language}
    if before != after:
        user.save(update_fields=["name", "language"])
        record_account_change(user, "account.profile_changed", before=before, after=after)


def ask_for_email(request: HttpRequest, *, user: User, email: str) -> None:
    """Send a link to the new address; to one that is taken, a word that it is. What is shown is the same. Raises Refused."""
    email = words.clean_email(email)
    if not ratelimit.consume(request, action="manage_email", user=user):
        raise Refused("too_many", _("Too many attempts. Wait a few minutes, then try again."), "email")
    if User.objects.filter(email=email).exists():
        get_adapter().send_mail("sign_in/mail/email_taken", email, {})
        return
    link = _link(request, user, email)
    get_adapter().send_mail("sign_in/mail/email_confirm", email, {"link": link, "old": user.email})


def ask_for_proof(request: HttpRequest, *, user: User) -> None:
    """Send a link to the account's own address, which proves it when it is followed. Raises Refused."""
    if not ratelimit.consume(request, action="manage_email", user=user):
        raise Refused("too_many", _("Too many attempts. Wait a few minutes, then try again."), "email")
    get_adapter().send_mail(
        "sign_in/mail/email_proof", user.email, {"link": _link(request, user, user.email)}
    )


def _link(request: HttpRequest, user: User, email: str) -> str:
    token = signing.dumps([str(user.pk), user.email, email], salt=_SALT)
    return request.build_absolute_uri(reverse("account_confirm_email", args=[token]))


def email_of_token(*, user: User, token: str) -> str:
    """The address that the link is about. Raises Refused when it is not this person's, used or too old."""
    try:
        person, old, new = signing.loads(token, salt=_SALT, max_age=LINK_VALID_S)
    except signing.BadSignature:
        person, old, new = "", "", ""
    is_used = new == user.email and user.email_verified is not None
    if person != str(user.pk) or old != user.email or is_used:
        message = _(
            "This link is used, too old, or of another account. Sign in as the one that asked for it."
        )
        raise Refused("link_invalid", message)
    return new


def change_email(*, user: User, token: str) -> None:
    """Take the address that the link is about, as proven by it. Raises Refused."""
    try:
        with transaction.atomic():
            locked = User.objects.select_for_update().get(pk=user.pk)
            new = email_of_token(user=locked, token=token)
            if new == locked.email:
                proof.mark(locked)
                return
            old, locked.email, locked.email_verified = locked.email, new, clock.now()
            locked.save(update_fields=["email", "email_verified"])
            record_account_change(
                locked, "account.email_changed", before={"email": old}, after={"email": new}
            )
    except IntegrityError:
        raise Refused("email_taken", _("Another account has this address by now.")) from None
    get_adapter().send_mail("sign_in/mail/email_changed", old, {"new": new})
