"""The pages people read: sign-in, overview, audit review, platform health, errors.

Views translate between HTTP and the selectors of `audit` and `tenants`; they decide nothing. May import everything
below `console`, and `console.health`, `console.tenancy`, `console.chat.selectors`; never `console.api`.
"""
