"""Signing in: passwords, second factors, passkeys, sessions, and each tenant's identity providers.

django-allauth keeps the flows; this package adapts them to tenants, draws their pages and mounts only the addresses that
are used. Accounts come from invitations and identity providers, never from an open form. May import `tenants` and the
rest of `console`.
"""
