"""Quotas: what a tenant, a group, a member and a key may use, reserved before generation and settled after.

    models.py        limits, usage by day, storage in use
    rules.py         which limits bind an actor, and what each is called
    counters.py      the counters in Valkey: one atomic script a step (scripts/)
    reservations.py  reserve, renew, settle, release: what a generation calls
    estimates.py     the most tokens that a request can need
    usage.py         usage by day in the database, from which counters are seeded
    storage.py       bytes in use, for whoever stores files
    services.py      setting and removing limits
    selectors.py     limits, where they stand, usage for tables and charts
    headers.py       rate-limit headers
    wording.py       limits and refusals in words
    errors.py        what reserving raises
    metrics.py       Prometheus metrics

May import: tenants. Why it is as it is: docs/decisions/0012-quotas.md.
"""
