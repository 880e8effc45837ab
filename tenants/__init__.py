"""Tenants: who may do what, and the walls between companies.

People, memberships, roles, API keys, the tenant scope (scoped managers and PostgreSQL row-level security), object
permissions and envelope encryption. The lowest layer: it imports none of the other Custos packages.
"""
