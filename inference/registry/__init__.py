"""Which model answers a request: model versions, where they are served, and the names people use.

ModelVersion and Deployment belong to the platform and hold no content; Route belongs to a tenant.
`selectors.resolve` turns a route's name into everything a generation needs.

May import: tenants, inference.client, inference.models. Never audit or console.
"""
