"""A process that records generations without end and says what was acknowledged; to be killed.

    python -m tests.audit.writer TENANT_ID

Prints a line after each call that returned: `begin ID`, `append ID SEQ`, `complete ID`.
"""

import os
import sys
from uuid import UUID

import django

CHUNKS = 3


def text_of(request_id: object, seq: int) -> str:
    """What chunk `seq` of a request says, so that the reader can tell whether it is the right one."""
    return f"chunk {seq} of {request_id}"


def main(tenant_id: UUID) -> None:
    from audit import record
    from tenants.access import Actor

    actor = Actor(
        tenant_id=tenant_id,
        tenant_slug="acme-bank",
        tenant_name="Acme Bank",
        label="writer",
        role="api key",
        permissions=frozenset(),
    )
    while True:
        handle = record.begin(
            actor=actor,
            channel="api",
            input="write",
            model="m",
            model_version="1",
            route="r",
            route_reason="",
            parameters={},
        )
        say("begin", handle.request_id)
        for seq in range(1, CHUNKS + 1):
            record.append(handle, seq=seq, text=text_of(handle.request_id, seq))
            say("append", handle.request_id, seq)
        record.complete(handle, status="completed")
        say("complete", handle.request_id)


def say(*words: object) -> None:
    """One write a line: a killed process leaves whole lines."""
    os.write(sys.stdout.fileno(), (" ".join(map(str, words)) + "\n").encode())


if __name__ == "__main__":
    django.setup()
    main(UUID(sys.argv[1]))
