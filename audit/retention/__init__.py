"""How long records are kept, how they go, and what holds them.

    policies.py     for how many days each kind of record is kept, and who changed that
    schedule.py     which day goes when; what is announced, due and ready
    destruction.py  a day goes: tombstone, keys, rows, partitions; each step mended by the next run
    holds.py        records that a case needs, copied under the case's key so that they outlive their day
    deeds.py        what two people decide and a day later is done
    erasure.py      a person's content is erased on request
    departed.py     what became of records that are not in their day any more
    tasks.py        what the worker runs

What may be destroyed is decided in the database, by functions that check it themselves (migration 0002). Times are the
database's; without agreement with this machine's clock nothing goes.

May import: audit.tree, audit.search, audit.readers and what is below, tenants. Never audit.review or audit.cases.
"""
