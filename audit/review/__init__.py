"""Review: records are flagged, flags are gathered in items, items wait in queues and are decided by people.

    models.py      flags, items, their history, queues, sampling plans and runs, watches
    flags.py       raise_flag: the one way by which a record comes to be reviewed
    access.py      who sees which items; nobody sees their own
    rules.py       the states of an item and what leads from one to the next, as a table
    work.py        claim, open, comment, decide, take back, reopen
    seconds.py     the second person's signature
    assignment.py  who works on what: by hand, the next one, or in turn
    queues.py      queues and who is in them
    sampling.py    sampling plans: drawn by a seed, so that anybody can draw them again
    watches.py     new hits of a saved search become flags
    statistics.py  figures, and nothing but figures
    items.py       lists and the history of items, for pages
    sealing.py     what people wrote, sealed
    hooks.py       what is called when an item is escalated
    tasks.py       what the worker runs

What happened to an item is insert-only and each deed is an event of the audit as well, confined to the item's room: to
tell that a record is under review is to tip somebody off. What people write is ciphertext.

May import: tenants and the audit below it (retention, readers, search, tree, selectors, record). Never audit.cases.
"""
