"""E-mail that Custos sends by itself: invitations, in both languages, as text and HTML.

The recipient's language is not known yet, so each mail says everything in the tenant's language first and then in the
other. Sending is `settings.EMAIL_BACKEND`'s; without CUSTOS_EMAIL_URL mails are printed by the process that sends them, and count as not sent.
"""

import logging
from collections.abc import Iterable
from smtplib import SMTPException
from uuid import UUID

from django.conf import settings
from django.core.mail import EmailMultiAlternatives, get_connection
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import translation
from django.utils.translation import gettext as _

from tenants.models import Invitation, TenantSettings

logger = logging.getLogger(__name__)

MAIL_ERRORS = (OSError, SMTPException)


def invitation_link(invitation: Invitation, token: str, *, origin: str) -> str:
    """The link of an invitation. origin: scheme and host under which people reach Custos."""
    return origin + reverse("invitation", args=[invitation.tenant.slug, token])


def is_delivering() -> bool:
    """Whether mails go out at all: without a mail server they are printed, and nobody gets them."""
    return not settings.EMAIL_BACKEND.endswith(".console.EmailBackend")


def send_invitation(invitation: Invitation, token: str, *, origin: str) -> bool:
    """Mail one invitation; whether it was handed over."""
    return bool(send_invitations([(invitation, token)], origin=origin))


def send_invitations(invitations: Iterable[tuple[Invitation, str]], *, origin: str) -> list[UUID]:
    """Mail invitations over one connection; the ids of those that were handed over to a mail server.

    Inside the tenant's scope. One address that the server refuses stops no other.
    """
    languages = _languages()
    sent: list[UUID] = []
    connection = get_connection()
    try:
        connection.open()
        for invitation, token in invitations:
            mail = _invitation_mail(invitation, invitation_link(invitation, token, origin=origin), languages)
            mail.connection = connection
            try:
                mail.send()
            except MAIL_ERRORS as error:
                # Without the address, which is the tenant's.
                logger.warning("an invitation could not be mailed: %s", type(error).__name__)
            else:
                sent.append(invitation.pk)
    except MAIL_ERRORS as error:
        logger.warning("the mail server could not be reached: %s", type(error).__name__)
    finally:
        connection.close()
    return sent if is_delivering() else []


def _languages() -> list[str]:
    """All languages of the product, the tenant's own first."""
    own = TenantSettings.objects.values_list("default_language", flat=True).first()
    return sorted((code for code, _name in settings.LANGUAGES), key=lambda code: code != own)


def _invitation_mail(invitation: Invitation, link: str, languages: list[str]) -> EmailMultiAlternatives:
    context = {"invitation": invitation, "tenant": invitation.tenant, "link": link}
    subjects, texts, parts = [], [], []
    for language in languages:
        with translation.override(language):
            subject = (
                _("Your link to join %(tenant)s")
                if invitation.mailed_only
                else _("Your invitation to %(tenant)s")
            )
            subjects.append(subject % {"tenant": invitation.tenant.name})
            texts.append(render_to_string("mail/invitation.txt", context).strip())
            parts.append(
                {"language": language, "html": render_to_string("mail/invitation_part.html", context)}
            )
    mail = EmailMultiAlternatives(
        subject=" · ".join(dict.fromkeys(subjects)),
        body=f"\n\n{'-' * 60}\n\n".join(texts) + "\n",
        to=[invitation.email],
    )
    mail.attach_alternative(
        render_to_string("mail/invitation.html", {**context, "parts": parts}), "text/html"
    )
    return mail
