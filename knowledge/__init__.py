"""Knowledge bases: documents, what is found in them, and what an answer may rest on.

    models.py      bases, folders, documents, their versions, pieces of files, chunks, postings and vectors
    access.py      who may reach which base and which document; missing and forbidden look the same
    sealing.py     everything that people wrote is sealed under the base's own key
    parsing/       files to text, in a limited process; knows no Django
    ingestion/     parse, cut, index, embed: in the worker, with progress, cancel and retry
    retrieval/     from a question to passages: words and vectors, fused, only of what the asker may read
    answers/       from passages to a prompt, and from an answer to citations and what supports them
    services.py    what changes bases and documents; one transaction and one audit record each
    selectors.py   what is read of them

May import: inference, audit, tenants. Never console.
"""
