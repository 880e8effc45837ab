"""The inference service: OpenAI-shaped HTTP around one engine. `python -m inference.server --help`.

`service` loads the model (with `hosting`) and holds the engine, `app` maps URLs. A request for text
goes through `requests` to the engine; its streams come back through `choices` (with `reasoning` and
`tool_calls`, which read the text) and `shapes` (with `logprobs`, OpenAI's JSON) to `answers`, which
sends them. `embeddings` and `tokens` serve the other URLs, `metrics` counts. Listens at once and
loads torch in the background. Imports starlette, uvicorn, prometheus-client and this package's
siblings; no Django.
"""
