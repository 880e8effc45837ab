"""Running language models: the engine, its HTTP service, and the client the console uses.

`inference.protocol`, `inference.client`, `inference.models`, `inference.engine` and
`inference.server` import no Django: the service is its own process, and the console reaches it
over HTTP through `inference.client` alone. `inference.registry` and `inference.generation` are
the console's side of that seam and may import Django, `audit` and `tenants`.
"""
