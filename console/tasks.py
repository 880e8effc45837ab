"""Background work of the console itself.

Tasks belong to the application by name: a shared task would be sent by whatever application its process has loaded,
which in the web server is none, and so to no broker of ours.
"""

import time
from contextlib import suppress
from uuid import UUID

from celery import Task
from django.core.cache import cache
from django.core.management import call_command

from audit.cases import reminders
from audit.record import AuditUnavailable
from audit.tree import checks
from console import awaiting_mail, key_rotation, mail
from console.celery import app
from console.sign_in import sessions, trail
from inference.registry import imports
from tenants import people
from tenants.actors import NotVisible
from tenants.errors import Refused
from tenants.scope import tenant_scope

HEARTBEAT_KEY = "worker:heartbeat"


@app.task
def heartbeat() -> None:
    """Sent by beat, run by a worker: that it was run lately shows that both are alive."""
    cache.set(HEARTBEAT_KEY, time.time(), timeout=3600)


@app.task
def clear_sessions() -> None:
    call_command("clearsessions")
    sessions.forget_ended()


@app.task(bind=True, max_retries=5, expires=3600)
def record_failed_sign_in(self: Task, user_id: str, by: str, why: str, address: str, count: int) -> None:
    """Somebody failed to sign in. `user_id`: as whom; "" for nobody that there is, of which nothing is recorded."""
    if not user_id:
        return
    try:
        trail.record_attempt(user_id=UUID(user_id), by=by, why=why, address=address, count=count)
    except AuditUnavailable as error:
        raise self.retry(exc=error, countdown=2**self.request.retries) from error


@app.task
def tend_keys() -> None:
    """Go on with rotations of keys, and remove shards that a crash left beside destroyed ones."""
    key_rotation.tend()


@app.task(expires=3600)
def rotate_keys(user_id: str) -> None:
    """A platform administrator began a rotation: wrap anew what is left to wrap, in their name."""
    for _progress in key_rotation.go_on(key_rotation.by_administrator(UUID(user_id))):
        pass


@app.task(expires=600)
def check_log(tenant_id: str, check_id: str) -> None:
    """Verify a tenant's whole audit log, as somebody asked."""
    checks.run(UUID(tenant_id), UUID(check_id))


@app.task(expires=600)
def import_models() -> None:
    """Carry out the imports of models that wait, and those whose worker died."""
    imports.run_waiting()


@app.task
def remind_of_deadlines() -> None:
    """Remind whoever leads a case of what is due: on its page, and by a mail that says nothing of it."""
    awaiting_mail.send(reminders.remind())


@app.task(expires=3600)
def answer_request(tenant_slug: str, email: str, address: str, origin: str) -> None:
    """Somebody asked to join by the domain of an address: mail a link there, if it belongs."""
    with suppress(NotVisible, Refused):
        request = people.ask_to_join(tenant_slug=tenant_slug, email=email, address=address)
        if request is not None:
            send_invitations.delay(str(request.tenant_id), [str(request.pk)], origin)


@app.task(bind=True, max_retries=5, expires=24 * 3600)
def send_invitations(self: Task, tenant_id: str, invitation_ids: list[str], origin: str) -> None:
    """Mail those of these invitations that have not gone out yet; the rest again later, when the server was away."""
    with tenant_scope(UUID(tenant_id)):
        waiting = people.links_to_send(invitation_ids=[UUID(each) for each in invitation_ids])
    # The tokens count before anybody can follow a link.
    with tenant_scope(UUID(tenant_id)):
        sent = mail.send_invitations(waiting, origin=origin)
        people.mark_sent(invitation_ids=sent)
    if mail.is_delivering() and len(sent) < len(waiting):
        raise self.retry(countdown=60 * 2**self.request.retries)
