"""The report of a case: who, what, when, where, why and how, with the whole text of its records, who decided and signed,
and where each record stands in the log.

    facts.py   all that a report says, gathered once; every record that it opens is recorded first
    texts.py   what was asked and answered, turn by turn
    pdf.py     for people, in a language
    lines.py   for programs: JSON, a thing a line
    making.py  makes one, and records its digest inside the case

The same case makes the same bytes: a report says as of which deed it is, and nothing of when or by whom it was made.
"""
