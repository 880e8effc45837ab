"""The audit record: what was asked and answered, by whom and with which model, written before it is delivered.

    record.py      the write path: begin, append, complete, record_event; fails closed
    output.py      the form of what a model wrote: text, reasoning, tool calls, several answers
    leaf.py        the digest of a closed record, computed over ciphertext and canonical metadata
    partitions.py  one partition a day of every audit table
    turns.py       a recorded conversation as turns to be read
    selectors.py   listing and opening records; every opening is itself a record
    statistics.py  figures from the plain columns
    reaper.py      closes the records of generations whose process died
    tasks.py       what the worker runs, and when
    metrics.py     Prometheus metrics of the write path

Who, when, which model and how many tokens are plain columns; everything a person or a model wrote is ciphertext.
The application's database role may insert and read, never update or delete.

May import: tenants. Never inference or console.
"""
