"""The registry of models, for platform administrators: models, versions and their stages, imports, comparisons.

What a tenant's operators see of it is `console.pages.administration.models`.
"""
