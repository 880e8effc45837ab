"""The mail that says that a matter awaits somebody, and nothing else: mail is read over shoulders and kept for ever.

It names neither case nor record, nor that there are such; its link leads to the start of the workspace.
"""

import logging
from collections.abc import Iterable

from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.urls import reverse
from django.utils import translation
from django.utils.translation import gettext as _

from audit.cases.reminders import Reminder
from console.mail import MAIL_ERRORS, is_delivering

logger = logging.getLogger(__name__)


def send(reminders: Iterable[Reminder]) -> int:
    """One mail to each person; how many were handed over to a mail server. Without one, none is made."""
    if not is_delivering():
        return 0
    sent = 0
    connection = get_connection()
    try:
        connection.open()
        for reminder in reminders:
            for address in reminder.addresses:
                mail = _mail(reminder, address)
                mail.connection = connection
                try:
                    sent += mail.send()
                except MAIL_ERRORS as error:
                    # Without the address, which is the tenant's.
                    logger.warning("a reminder could not be mailed: %s", type(error).__name__)
    except MAIL_ERRORS as error:
        logger.warning("the mail server could not be reached: %s", type(error).__name__)
    finally:
        connection.close()
    return sent


def _mail(reminder: Reminder, address: str) -> EmailMessage:
    """In the tenant's language first, then in the others. To one person: who else is reminded is nobody's business."""
    languages = sorted(
        (code for code, _name in settings.LANGUAGES), key=lambda code: code != reminder.language
    )
    link = _origin() + reverse("tenant", args=[reminder.tenant.slug])
    subjects, texts = [], []
    for language in languages:
        with translation.override(language):
            subjects.append(_("A matter awaits you"))
            texts.append(_("A matter awaits you in Custos."))
    return EmailMessage(
        subject=" · ".join(dict.fromkeys(subjects)), body="\n\n".join([*texts, link]) + "\n", to=[address]
    )


def _origin() -> str:
    """Scheme and host under which people reach Custos: the first trusted origin, else this machine."""
    trusted = settings.CSRF_TRUSTED_ORIGINS
    return trusted[0].rstrip("/") if trusted else f"http://localhost:{settings.ENVIRONMENT.port}"
