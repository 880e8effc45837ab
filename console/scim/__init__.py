"""SCIM 2.0 (RFC 7643, RFC 7644): a company's directory provisions people and groups. At /scim/v2, with keys of scope scim.

    resources.py  what a user and a group are here, as schemas
    filters.py    filters as conditions of the database; never text in SQL
    users.py      users: memberships of the key's tenant
    groups.py     groups of the key's tenant, and who is in them
    views.py      the protocol: keys, methods, paging, errors
    discovery.py  what a client can learn about all this
    models.py     what the directory says of a person

A user is a membership, so its id means nothing in another tenant. The address (userName) is the account's: it is chosen
once and cannot be changed here, since the same person may be known to other tenants. What the directory says of a
person (names, externalId) is kept beside the membership and shown to this directory alone; an account that is there
already, with its own name, is neither shown nor changed. An account that is made here starts with the directory's name
for the person, who owns it from then on. Deleting ends the membership; the account stays, since others may rely on it.

May import: tenants. Everything is done by its services, so it is checked and recorded as if a person did it.
"""
