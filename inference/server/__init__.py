"""The inference service: OpenAI-shaped HTTP around one engine. `python -m inference.server --help`.

`service` loads the model and holds the engine, `app` maps URLs, `answers` turns an engine stream
into an HTTP answer, `metrics` counts. Listens at once and loads torch in the background. Imports
starlette, uvicorn, prometheus-client and this package's siblings; no Django.
"""
