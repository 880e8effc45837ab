"""Cases: what belongs together, who works on it, and the report at the end. Invisible to everybody else.

    models.py      the tables: insert-only, what people wrote is ciphertext under the case's own key
    access.py      for whom a case exists: its members and officers, and never whoever it is about
    sealing.py     the case's key: what is sealed under it, and what a ciphertext is bound to
    deeds.py       how each deed is written: into the timeline and, confined to the case, into the audit
    opening.py     a case is opened, from records or an escalated flag; records join and leave it
    work.py        details, members, notes, deadlines
    attachments.py files: sniffed, sealed, never parsed
    decisions.py   review, decision, the second person's signature, reopening
    selectors.py   lists, and one case with all of it
    readings.py    who looked at a case and what was taken from it
    reminders.py   what is due, and whom to remind once
    report/        the report as PDF and JSONL, and the export with proof

To tell somebody that they are looked into is an offence. So whoever is outside of a case finds nothing of it: no page,
no count, no number left out of a sequence, no refusal that speaks of it, no event, no hold.

A case goes open → under review → waiting for the second signature → closed, and may be reopened. While a decision waits
for its signature nothing but that moves: what is signed is what was decided on.

May import: tenants and the audit below it (review, retention, readers, search, tree, selectors, record).
"""
