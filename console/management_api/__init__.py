"""The management API: what the administration's pages do, for programs with a key. At /api/v1, documented at /api/docs.

    api.py        the API itself: its parts, how a key becomes an actor, the document
    problems.py   every error as RFC 9457 problem details
    schemas.py    the words that bodies are made of: bounded texts, pages
    reference.py  the page that shows the document
    the others    one area each: the operations and the shapes of what they take and give

Operations translate between JSON and the services of `tenants` and `console.sign_in`, in which all rules live.
May import: audit (its error), tenants, console.sign_in. An operation runs as the key's actor in the scope of the key's tenant, so no
address names a tenant.
"""
