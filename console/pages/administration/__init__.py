"""Administration of a tenant: people, groups, roles, access, keys, quotas, usage, sign-in, settings.

Views translate between HTTP and the services of `tenants` and `console.sign_in`, which check the permission and record
the change. May import what `console.pages` may.
"""
