"""The chat: conversations, their messages, and the websocket that answers stream over.

    models.py      Conversation and Message; all text is sealed
    access.py      the only way to a conversation or a generation
    identity.py    who is at the other end of a socket, for each message anew
    sealing.py     text in, sealed bytes out, bound to their place
    services.py    writes; each opens the tenant's scope and commits before it returns
    selectors.py   reads
    exchange.py    asking and regenerating, from the socket's side: authorise, record, store, start
    prompt.py      what of a conversation is sent to the model
    limits.py      the chat's bounds
    errors.py      what the chat refuses
    frames.py      the websocket's messages, validated
    hints.py       tells a person's other tabs that there is something newer
    consumer.py    the websocket
    revocation.py  closes sockets whose owner signed out or lost access
    views.py       the page, renaming, deleting

May import: inference (generation, registry), audit, tenants.
"""
