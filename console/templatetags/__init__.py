"""Template tags of every page. May import `console.pages` and `tenants`."""
