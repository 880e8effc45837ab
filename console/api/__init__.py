"""The OpenAI-compatible API: the same audited generations as the chat, for programs with a key.

    views.py     the operations: completions, models
    answers.py   an answer as JSON or as server-sent events, in OpenAI's shapes
    requests.py  the request side: key, method, body; errors as JSON

May import: inference (protocol, generation, registry), audit, tenants. Never console.chat.
"""
