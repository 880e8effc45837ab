"""The OpenAI-compatible API: the same audited generations as the chat, for programs with a key.

    views.py        the operations: completions, embeddings, models, tokens
    generations.py  one audited generation, from the validated body to the response
    answers.py      an answer as JSON or as server-sent events, in OpenAI's shapes
    requests.py     the request side: key, method, body; errors as JSON
    body_limit.py   ends a request whose body is too large while it arrives

May import: inference (protocol, generation, registry), audit, tenants. Never console.chat.
"""
