"""The web application: settings, pages, chat, the OpenAI-compatible API and the management commands.

The top layer: it may import inference, audit and tenants; nothing imports it.
"""
