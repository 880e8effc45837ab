"""What a page of the audit keeps between two requests, sealed: the reason once stated, and what was searched for.

Sessions lie in the database, and addresses in logs of servers and proxies, in the browser's history and in the titles of
its windows. A reason may name a person, and so may a search. So the reason is ciphertext in the session, and a search
is ciphertext in the address (`?s=…`), which nobody but the person who searched can use, signed in, and which opens no
more once the keys of that day's readings are destroyed. Forms that hold words are sent by POST, whose body no log holds;
the answer leads to the address with the ciphertext, so that reload, "back", links and several windows work as anywhere.
"""

import json
import time
from base64 import b64decode, b64encode, urlsafe_b64decode, urlsafe_b64encode
from datetime import date
from typing import Any

from django.utils.crypto import salted_hmac

from audit.record import Keeping
from audit.search.asked import Asked
from console.tenancy import TenantRequest
from tenants import clock, envelope

REASON_KEY = "audit_reason"  # In the session: a reviewer rarely opens just one record for a reason.
LONGEST_REASON = 300
_SEARCH = "audit_search"
_SEARCHED = "audit_searched"  # In the session: what was searched for of late, as numbers that tell nobody what it was.
_SEARCHED_MOST = 20
_SEARCHED_AGE = 24 * 3600
_UNREADABLE = (KeyError, ValueError, TypeError, envelope.Tampered, envelope.KeyDestroyed)


def keep_reason(request: TenantRequest, reason: str) -> None:
    """For the next record, search or export of this session and tenant."""
    day = clock.today()
    sealed = envelope.seal(day=day, plaintext=reason.encode(), **_place(request, REASON_KEY))
    request.session[REASON_KEY] = [day.isoformat(), b64encode(sealed).decode()]


def kept_reason(request: TenantRequest) -> str:
    """The last reason stated in this session and tenant; "" when there is none."""
    try:
        day, sealed = request.session[REASON_KEY]
        where = _place(request, REASON_KEY)
        return envelope.open_sealed(day=date.fromisoformat(day), sealed=b64decode(sealed), **where).decode()
    except _UNREADABLE:
        return ""


def seal_search(request: TenantRequest, asked: Asked) -> str:
    """For an address: the day and the ciphertext of what is asked; "" when nothing is."""
    if not (told := asked.told()):
        return ""
    day = clock.today()
    plaintext = json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode(errors="surrogatepass")
    sealed = envelope.seal(day=day, plaintext=plaintext, **_place(request, _SEARCH))
    return f"{day:%Y%m%d}{urlsafe_b64encode(sealed).decode().rstrip('=')}"


def open_search(request: TenantRequest, reference: str) -> Asked | None:
    """What `seal_search` sealed for this person; None for what nobody or somebody else sealed."""
    try:
        day, sealed = (
            date.fromisoformat(reference[:8]),
            urlsafe_b64decode(reference[8:] + "=" * (-len(reference) % 4)),
        )
        plaintext = envelope.open_sealed(day=day, sealed=sealed, **_place(request, _SEARCH))
        return Asked.of(json.loads(plaintext.decode(errors="surrogatepass")))
    except _UNREADABLE:
        return None


def note_searched(request: TenantRequest, asked: Asked) -> None:
    """That this search was run in this session, and so is recorded."""
    noted = {**_searched(request), _number(request, asked): int(time.time())}
    request.session[_SEARCHED] = dict(sorted(noted.items(), key=lambda each: each[1])[-_SEARCHED_MOST:])


def was_searched(request: TenantRequest, asked: Asked) -> bool:
    """Whether this search was run in this session within a day."""
    return time.time() - _searched(request).get(_number(request, asked), 0) < _SEARCHED_AGE


def _searched(request: TenantRequest) -> dict[str, int]:
    return dict(request.session.get(_SEARCHED, {}))


def _number(request: TenantRequest, asked: Asked) -> str:
    of = json.dumps([str(request.actor.tenant_id), asked.told()], sort_keys=True)
    return salted_hmac(_SEARCHED, of).hexdigest()[:32]


def _place(request: TenantRequest, field: str) -> dict[str, Any]:
    aad = {"field": field, "user": request.actor.user_id}
    return {"tenant_id": request.actor.tenant_id, "purpose": Keeping.READINGS, "aad": aad}
