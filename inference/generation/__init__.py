"""One audited generation, the same for the chat and for the API.

Nothing reaches a reader before it is in the audit record: `begin` reserves the quota and writes the intent (or raises,
and nothing is asked of the model), every batch of text is committed before it is handed to the sink, and the
record is closed whatever happens. A generation runs as its own asyncio task, apart from any socket.

    run.py        the generation itself: begin, receive, record, deliver, close
    running.py    all generations of this process: stop requests, heartbeats, revocation, orderly shutdown
    quota.py      what it may use at most, reserved before it begins and settled when it ends
    lifespan.py   ties that shutdown to the server's
    revocation.py whether people and keys still have their access
    stream.py     the bounded Valkey stream that sockets read from; it holds sealed bytes only
    errors.py     what can go wrong, in words for the person who asked
    metrics.py    Prometheus metrics, safe with several processes

May import: audit, tenants, inference.client, inference.registry. Never console.
"""
