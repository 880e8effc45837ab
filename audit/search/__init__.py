"""Searching sealed records by what was said in them, without plaintext at rest.

`audit.search.engine` finds, `query` reads what was typed, `index` writes the index; `asked` and `saved` are what people
keep of it. May import the tree, the selectors and the record.
"""
